"""Residual networks for images: ResNet, ResNet-D and selective kernels.

ResNet: He et al. 2015, https://arxiv.org/abs/1512.03385, with the stride on the 3x3 convolution as torchvision has it.
ResNet-D: He et al. 2018, https://arxiv.org/abs/1812.01187. Selective kernels: Li et al. 2019,
https://arxiv.org/abs/1903.06586, in the form of SimCLRv2, Chen et al. 2020, https://arxiv.org/abs/2006.10029.
"""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from jaxssl.models import _checks
from jaxssl.models.norm import batch_norm

Layer = Callable[..., nn.Module]

STEMS = ('imagenet', 'small', 'strided', 'd')
POOLS = ('mean', 'flatten', 'grid')
BLOCKS = ('basic', 'bottleneck')
NORMS = ('batch', 'layer', None)


def pooled(grid: jax.Array, pool: str) -> jax.Array:
  """Returns a grid of features [b, h, w, d] as it is, flattened to [b, h w d], or averaged to [b, d]; float32."""
  _checks.choice('pool', pool, POOLS)
  if pool == 'mean':
    return grid.mean(axis=(1, 2), dtype=jnp.float32)
  grid = grid.astype(jnp.float32)
  return grid.reshape(grid.shape[0], -1) if pool == 'flatten' else grid


def _conv(features: int, size: int, stride: int = 1, *, dtype: Any, name: str) -> nn.Module:
  """A convolution without bias, padded alike on all sides as in torchvision."""
  # Truncated normal of variance 1 / fan-in (Flax's default), as in google-research/simclr.
  return nn.Conv(features, (size, size), stride, padding=size // 2, use_bias=False, dtype=dtype, name=name)


def _shortcut(x: jax.Array, features: int, stride: int, average_pool: bool, conv: Layer, norm: Layer) -> jax.Array:
  """Gives `x` the shape of a block's output: itself where it fits, else a 1x1 convolution with batch norm."""
  if stride == 1 and x.shape[-1] == features:
    return x
  if average_pool and stride > 1:
    x = nn.avg_pool(x, (stride, stride), (stride, stride), 'SAME', count_include_pad=False)
    stride = 1
  x = conv(features, 1, stride, name='downsample_conv')(x)
  return norm(name='downsample_bn')(x)


def _mix_kernels(x: jax.Array, ratio: float, conv: Layer, norm: Layer) -> jax.Array:
  """Selective kernels: mixes the two halves of the channels, [b, h, w, 2c] -> [b, h, w, c], by learned attention."""
  branches = x.reshape(*x.shape[:-1], 2, x.shape[-1] // 2)
  width = branches.shape[-1]
  pooled = branches.sum(axis=-2).mean(axis=(1, 2), keepdims=True)
  # At least 32 squeezed channels: `min_dim` in google-research/simclr, resnet.py.
  squeezed = conv(max(int(width * ratio), 32), 1, name='sk_squeeze')(pooled)
  squeezed = nn.relu(norm(name='sk_bn')(squeezed))
  weights = conv(2 * width, 1, name='sk_expand')(squeezed)
  weights = nn.softmax(weights.reshape(-1, 1, 1, 2, width), axis=-2)
  return (branches * weights).sum(axis=-2)


class Affine(nn.Module):
  """A scale and a bias for each channel, where batch norm would be."""

  dtype: Any
  scale_init: Callable = nn.initializers.ones

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    scale = self.param('scale', self.scale_init, x.shape[-1:])
    bias = self.param('bias', nn.initializers.zeros, x.shape[-1:])
    shape = (1,) * (x.ndim - 1) + (-1,)
    return x * scale.reshape(shape).astype(self.dtype) + bias.reshape(shape).astype(self.dtype)


class BasicBlock(nn.Module):
  """Two 3x3 convolutions around a shortcut, [b, h, w, c] -> [b, h / stride, w / stride, width]."""

  width: int
  stride: int
  average_pool_shortcut: bool
  last_scale_init: Callable
  conv: Layer
  norm: Layer

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    shortcut = _shortcut(x, self.width, self.stride, self.average_pool_shortcut, self.conv, self.norm)
    x = self.conv(self.width, 3, self.stride, name='conv1')(x)
    x = nn.relu(self.norm(name='bn1')(x))
    x = self.conv(self.width, 3, name='conv2')(x)
    x = self.norm(scale_init=self.last_scale_init, name='bn2')(x)
    return nn.relu(x + shortcut)


class Bottleneck(nn.Module):
  """1x1, 3x3 and 1x1 convolutions around a shortcut, [b, h, w, c] -> [b, h / stride, w / stride, 4 width]."""

  width: int
  stride: int
  average_pool_shortcut: bool
  sk_ratio: float
  last_scale_init: Callable
  conv: Layer
  norm: Layer

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    shortcut = _shortcut(x, 4 * self.width, self.stride, self.average_pool_shortcut, self.conv, self.norm)
    x = self.conv(self.width, 1, name='conv1')(x)
    x = nn.relu(self.norm(name='bn1')(x))
    x = self.conv(self.width * (2 if self.sk_ratio else 1), 3, self.stride, name='conv2')(x)
    x = nn.relu(self.norm(name='bn2')(x))
    if self.sk_ratio:
      x = _mix_kernels(x, self.sk_ratio, self.conv, self.norm)
    x = self.conv(4 * self.width, 1, name='conv3')(x)
    x = self.norm(scale_init=self.last_scale_init, name='bn3')(x)
    return nn.relu(x + shortcut)


class ResNet(nn.Module):
  """A residual network without its classifier: images [b, h, w, c] -> features [b, d], float32.

  `d` is the last width times `width_multiplier`, times 4 for bottleneck blocks. Parameters and batch-norm averages are
  float32. Batch norm spans the whole batch, also where jit has it sharded over devices.

  Attributes:
    stage_sizes: blocks in each stage; all but the first stage halve the resolution.
    block: 'basic' (two 3x3 convolutions) or 'bottleneck' (1x1, 3x3, 1x1).
    widths: channels of each stage, as many as `stage_sizes`.
    width_multiplier: multiplies all widths, the stem's included.
    stem: 'imagenet' (7x7, stride 2, max-pool), 'small' (3x3, stride 1, for images of about 32 pixels; SimCLR's for
      CIFAR-10), 'strided' (3x3, stride 2: on a CPU a fifth of the cost of 'small') or 'd' (ResNet-D: three 3x3 of
      which the first has stride 2, max-pool).
    average_pool_shortcut: ResNet-D's shortcut, a 2x2 average pool before a 1x1 convolution without stride.
    sk_ratio: squeeze ratio of selective kernels, for bottleneck blocks; 0: none. SimCLRv2 takes 0.0625, with stem 'd'
      and `average_pool_shortcut` (its code also averages 2x2 at the first stage's stride of 1; ResNet-D and we do not).
    pool: of the last stage's output: 'mean', averaged over all positions; 'flatten', [b, h w d], which keeps where
      things are, for autoencoders; or 'grid', [b, h, w, d], for VQ-VAE.
    norm: 'batch'; 'layer', over the channels of each position, so that images do not mix, for patches of one image (as
      CPC v2 has it, https://arxiv.org/abs/1905.09272); or None, a scale and a bias alone. The names of their
      parameters are those of batch norm.
    zero_init_residual: start each block as its shortcut, by a zero scale in its last norm.
    bn_groups: parts of the batch that batch norm normalises by themselves; 1: the whole batch. See `GroupedBatchNorm`.
    axis_name: the mapped axis to take batch-norm statistics over, inside pmap, vmap or shard_map; None under jit.
    dtype: of the computation, jnp.float32 or jnp.bfloat16.
  """

  stage_sizes: tuple[int, ...]
  block: str = 'bottleneck'
  widths: tuple[int, ...] = (64, 128, 256, 512)
  width_multiplier: int = 1
  stem: str = 'imagenet'
  average_pool_shortcut: bool = False
  sk_ratio: float = 0.0
  pool: str = 'mean'
  norm: str | None = 'batch'
  zero_init_residual: bool = True
  bn_groups: int = 1
  axis_name: str | None = None
  dtype: Any = jnp.float32

  def __call__(self, x: jax.Array, train: bool = False) -> jax.Array:
    return pooled(self.grids(x, train)[-1], self.pool)

  def stages(self, x: jax.Array, train: bool = False) -> tuple[jax.Array, ...]:
    """Returns the output of every stage, globally averaged: a tuple of [b, width]."""
    return tuple(pooled(grid, 'mean') for grid in self.grids(x, train))

  @property
  def num_stages(self) -> int:
    return len(self.stage_sizes)

  @nn.compact
  def grids(self, x: jax.Array, train: bool = False) -> tuple[jax.Array, ...]:
    """Returns the output of every stage: a tuple of [b, h, w, width]."""
    self._check(x)
    norm = self._norm(train)
    conv = functools.partial(_conv, dtype=self.dtype)
    x = self._apply_stem(x, conv, norm)
    block = BasicBlock if self.block == 'basic' else functools.partial(Bottleneck, sk_ratio=self.sk_ratio)
    last_scale_init = nn.initializers.zeros if self.zero_init_residual else nn.initializers.ones
    outputs = []
    for stage, (size, width) in enumerate(zip(self.stage_sizes, self.widths, strict=True)):
      for i in range(size):
        stride = 2 if stage > 0 and i == 0 else 1
        x = block(
            width=width * self.width_multiplier, stride=stride, average_pool_shortcut=self.average_pool_shortcut,
            last_scale_init=last_scale_init, conv=conv, norm=norm, name=f'layer{stage + 1}_{i}')(x)
      outputs.append(x)
    return tuple(outputs)

  def _norm(self, train: bool) -> Layer:
    if self.norm == 'batch':
      return functools.partial(
          batch_norm, self.bn_groups, use_running_average=not train, momentum=0.9, epsilon=1e-5, dtype=self.dtype,
          axis_name=self.axis_name)
    if self.norm == 'layer':
      return functools.partial(nn.LayerNorm, epsilon=1e-5, dtype=self.dtype)
    return functools.partial(Affine, dtype=self.dtype)

  def _apply_stem(self, x: jax.Array, conv: Layer, norm: Layer) -> jax.Array:
    width = self.widths[0] * self.width_multiplier
    if self.stem == 'd':
      x = nn.relu(norm(name='bn1')(conv(width // 2, 3, 2, name='conv1')(x)))
      x = nn.relu(norm(name='bn2')(conv(width // 2, 3, name='conv2')(x)))
      x = nn.relu(norm(name='bn3')(conv(width, 3, name='conv3')(x)))
    else:
      size, stride = {'imagenet': (7, 2), 'small': (3, 1), 'strided': (3, 2)}[self.stem]
      x = nn.relu(norm(name='bn1')(conv(width, size, stride, name='conv1')(x)))
    return nn.max_pool(x, (3, 3), (2, 2), ((1, 1), (1, 1))) if self.stem in ('imagenet', 'd') else x

  def _check(self, x: jax.Array) -> None:
    for name, choices in (('stem', STEMS), ('block', BLOCKS), ('norm', NORMS)):
      _checks.choice(name, getattr(self, name), choices)
    if min(*self.stage_sizes, *self.widths, self.width_multiplier) < 1:
      raise ValueError(
          f'stage_sizes, widths and width_multiplier must be positive, got {self.stage_sizes}, {self.widths} and '
          f'{self.width_multiplier}')
    if len(self.stage_sizes) != len(self.widths):
      raise ValueError(f'stage_sizes and widths must have one entry a stage, got {self.stage_sizes} and {self.widths}')
    if self.sk_ratio and self.block == 'basic':
      raise ValueError(f"sk_ratio needs block='bottleneck', got sk_ratio={self.sk_ratio} with block='basic'")
    if x.ndim != 4:
      raise ValueError(f'x must be images [b, h, w, c], got shape {x.shape}')


def resnet18(**fields: Any) -> ResNet:
  """ResNet-18, d = 512; `fields` are ResNet's."""
  return ResNet((2, 2, 2, 2), 'basic', **fields)


def resnet34(**fields: Any) -> ResNet:
  """ResNet-34, d = 512; `fields` are ResNet's."""
  return ResNet((3, 4, 6, 3), 'basic', **fields)


def resnet50(**fields: Any) -> ResNet:
  """ResNet-50, d = 2048; `fields` are ResNet's."""
  return ResNet((3, 4, 6, 3), **fields)


def resnet101(**fields: Any) -> ResNet:
  """ResNet-101, d = 2048; `fields` are ResNet's."""
  return ResNet((3, 4, 23, 3), **fields)


def resnet152(**fields: Any) -> ResNet:
  """ResNet-152, d = 2048; `fields` are ResNet's."""
  return ResNet((3, 8, 36, 3), **fields)


def resnet200(**fields: Any) -> ResNet:
  """ResNet-200, d = 2048; `fields` are ResNet's."""
  return ResNet((3, 24, 36, 3), **fields)
