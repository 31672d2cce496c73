"""Encoders and decoders of images, spectrograms and vectors, and the networks that join them.

A decoder is a module `(z, shape, train=False) -> [b, *shape]`, where `shape` is that of one input: the same decoder
serves inputs of any size. Its output has no last non-linearity: it is a Gaussian's mean, or a Bernoulli's logits.
"""

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from jaxssl import ops
from jaxssl.models import _checks
from jaxssl.models.resnet import pooled


def _normalized(x: jax.Array, batch_norm: bool, train: bool, name: str) -> jax.Array:
  if not batch_norm:
    return x
  return nn.BatchNorm(use_running_average=not train, momentum=0.9, epsilon=1e-5, dtype=x.dtype, name=name)(x)


class ResidualBlock(nn.Module):
  """ReLU, 3x3 convolution, ReLU, 1x1 convolution, added to its input, as VQ-VAE has them; [b, h, w, c] -> the same."""

  width: int
  batch_norm: bool
  dtype: Any

  @nn.compact
  def __call__(self, x: jax.Array, train: bool = False) -> jax.Array:
    y = nn.Conv(self.width, (3, 3), use_bias=not self.batch_norm, dtype=self.dtype, name='conv1')(nn.relu(x))
    y = nn.relu(_normalized(y, self.batch_norm, train, 'bn1'))
    y = nn.Conv(self.width, (1, 1), use_bias=not self.batch_norm, dtype=self.dtype, name='conv2')(y)
    return x + _normalized(y, self.batch_norm, train, 'bn2')


class ConvEncoder(nn.Module):
  """Strided convolutions: images or spectrograms [b, h, w, c] of any size -> features.

  The size of DCGAN's discriminator (Radford et al. 2015, https://arxiv.org/abs/1511.06434) with ReLU. Every layer
  halves height and width, rounding up.

  Attributes:
    widths: channels of each 4x4 convolution of stride 2.
    residual_blocks: how many follow, at the last resolution; VQ-VAE has 2.
    pool: 'flatten', [b, h w c]: keeps where things are, for autoencoders; 'grid', [b, h, w, c], for VQ-VAE; or 'mean',
      [b, c].
    batch_norm: after every convolution, which then has no bias. Off, unlike in DCGAN: autoencoders of a few hundred
      steps stayed near the mean image with it and did not without (Omniglot, 64 dimensions).
    dtype: of the computation; parameters and outputs are float32.
  """

  widths: tuple[int, ...] = (64, 128, 256)
  residual_blocks: int = 0
  pool: str = 'flatten'
  batch_norm: bool = False
  dtype: Any = jnp.float32

  def __call__(self, x: jax.Array, train: bool = False) -> jax.Array:
    return pooled(self.layers(x, train)[-1], self.pool)

  @nn.compact
  def layers(self, x: jax.Array, train: bool = False) -> list[jax.Array]:
    """Returns the output of every convolution and block, after its ReLU, [b, h, w, width], the last at the end."""
    _checks.sizes('widths', self.widths)
    if x.ndim != 4:
      raise ValueError(f'x must be images [b, h, w, c], got shape {list(x.shape)}')
    outputs = []
    for i, width in enumerate(self.widths):
      x = nn.Conv(width, (4, 4), 2, use_bias=not self.batch_norm, dtype=self.dtype, name=f'conv{i + 1}')(x)
      x = nn.relu(_normalized(x, self.batch_norm, train, f'bn{i + 1}'))
      outputs.append(x)
    for i in range(self.residual_blocks):
      x = ResidualBlock(self.widths[-1], self.batch_norm, self.dtype, name=f'block{i}')(x, train)
      outputs.append(nn.relu(x))
    return outputs


class MLPEncoder(nn.Module):
  """Linear layers with ReLU, also after the last: inputs of any shape, flattened, [b, ...] -> [b, features[-1]].

  Attributes:
    features: size of each layer.
    batch_norm: after every linear map, which then has no bias.
    dtype: of the computation; parameters and outputs are float32.
  """

  features: tuple[int, ...] = (512, 256)
  batch_norm: bool = False
  dtype: Any = jnp.float32

  def __call__(self, x: jax.Array, train: bool = False) -> jax.Array:
    return self.layers(x, train)[-1].astype(jnp.float32)

  @nn.compact
  def layers(self, x: jax.Array, train: bool = False) -> list[jax.Array]:
    """Returns the output of every layer, after its ReLU, [b, size], the last at the end."""
    _checks.sizes('features', self.features)
    outputs, x = [], x.reshape(x.shape[0], -1)
    for i, size in enumerate(self.features):
      x = nn.Dense(size, use_bias=not self.batch_norm, dtype=self.dtype, name=f'linear{i + 1}')(x)
      x = nn.relu(_normalized(x, self.batch_norm, train, f'bn{i + 1}'))
      outputs.append(x)
    return outputs


class ConvDecoder(nn.Module):
  """Convolutions that double the resolution, the mirror of `ConvEncoder`: codes -> images [b, h, w, c] of any size.

  Every doubling is a sub-pixel convolution (Shi et al. 2016, https://arxiv.org/abs/1609.05158): a 3x3 convolution makes
  the four pixels of each from one place. It is a transposed convolution of stride 2 in another order, much faster on a
  CPU.

  Attributes:
    widths: channels at each resolution, the coarsest first; as many doublings, the last of which makes the image.
    residual_blocks: how many stand before the first doubling; VQ-VAE has 2.
    batch_norm: after every convolution but the last.
    dtype: of the computation; parameters and outputs are float32.
  """

  widths: tuple[int, ...] = (256, 128, 64)
  residual_blocks: int = 0
  batch_norm: bool = False
  dtype: Any = jnp.float32

  @nn.compact
  def __call__(self, z: jax.Array, shape: tuple[int, ...], train: bool = False) -> jax.Array:
    """Returns [b, h, w, c], float32, from z [b, d], or from a grid [b, h', w', d] of the size that `ConvEncoder` makes.

    Args:
      z: codes.
      shape: (h, w, c) of one image.
      train: whether batch norm uses the batch.
    """
    _checks.sizes('widths', self.widths)
    if len(shape) != 3:
      raise ValueError(f'shape must be (h, w, c) for ConvDecoder, got {tuple(shape)}; vectors take MLPDecoder')
    sizes = [tuple(-(-side // 2**i) for side in shape[:2]) for i in range(len(self.widths), -1, -1)]
    x = self._start(z, sizes[0], train)
    for i in range(self.residual_blocks):
      x = ResidualBlock(self.widths[0], self.batch_norm, self.dtype, name=f'block{i}')(x, train)
    for i, (width, (height, breadth)) in enumerate(zip((*self.widths[1:], shape[2]), sizes[1:], strict=True)):
      last = i == len(self.widths) - 1
      x = nn.Conv(4 * width, (3, 3), use_bias=last or not self.batch_norm, dtype=self.dtype, name=f'up{i + 1}')(x)
      x = doubled(x)[:, :height, :breadth]
      x = x if last else nn.relu(_normalized(x, self.batch_norm, train, f'bn{i + 1}'))
    return x.astype(jnp.float32)

  def _start(self, z: jax.Array, size: tuple[int, ...], train: bool) -> jax.Array:
    """Returns features [b, h', w', widths[0]] at the coarsest resolution, `size`."""
    options = {'use_bias': not self.batch_norm, 'dtype': self.dtype, 'name': 'start'}
    if z.ndim == 2:
      x = nn.Dense(math.prod(size) * self.widths[0], **options)(z)
      x = x.reshape(-1, *size, self.widths[0])
    elif z.ndim == 4 and z.shape[1:3] == size:
      x = nn.Conv(self.widths[0], (3, 3), **options)(z)
    else:
      raise ValueError(
          f'z must be [b, d], or [b, {size[0]}, {size[1]}, d] for {len(self.widths)} doublings (as many as widths) to '
          f'reach the size of the images, got shape {list(z.shape)}')
    return nn.relu(_normalized(x, self.batch_norm, train, 'bn0'))


class MLPDecoder(nn.Module):
  """Linear layers with ReLU between them: codes of any shape, flattened, [b, ...] -> [b, *shape].

  Attributes:
    features: size of each hidden layer; () for a linear decoder.
    batch_norm: after every linear map but the last.
    dtype: of the computation; parameters and outputs are float32.
  """

  features: tuple[int, ...] = (256, 512)
  batch_norm: bool = False
  dtype: Any = jnp.float32

  @nn.compact
  def __call__(self, z: jax.Array, shape: tuple[int, ...], train: bool = False) -> jax.Array:
    x = z.reshape(z.shape[0], -1)
    for i, size in enumerate(self.features):
      x = nn.Dense(size, use_bias=not self.batch_norm, dtype=self.dtype, name=f'linear{i + 1}')(x)
      x = nn.relu(_normalized(x, self.batch_norm, train, f'bn{i + 1}'))
    x = nn.Dense(math.prod(shape), dtype=self.dtype, name='output')(x)
    return x.astype(jnp.float32).reshape(-1, *shape)


class AutoencoderNetwork(nn.Module):
  """An encoder, a linear map to a code, and a decoder: x [b, ...] -> (reconstruction [b, ...], z [b, code_size]).

  Attributes:
    encoder: any module `(x, train) -> [b, ...]`; what it returns is flattened to h [b, d].
    decoder: any module `(z, shape, train) -> [b, *shape]`.
    code_size: length of z.
    bottleneck: what is done to z before it is decoded, without parameters: [b, code_size] -> the same.
  """

  encoder: nn.Module
  decoder: nn.Module
  code_size: int
  bottleneck: Callable[[jax.Array], jax.Array]

  def setup(self):
    self.code = nn.Dense(self.code_size)

  def __call__(self, x: jax.Array, train: bool = False) -> tuple[jax.Array, jax.Array]:
    _, z = self.layers(x, train)
    return self.decode(z, x.shape[1:], train), z

  def layers(self, x: jax.Array, train: bool = False) -> tuple[jax.Array, jax.Array]:
    """Returns h [b, d] and z [b, code_size]."""
    h = self.features(x, train)
    return h, self.bottleneck(self.code(h))

  def features(self, x: jax.Array, train: bool = False) -> jax.Array:
    """Returns h [b, d]."""
    h = self.encoder(x, train=train)
    return h.reshape(h.shape[0], -1)

  def decode(self, z: jax.Array, shape: tuple[int, ...], train: bool = False) -> jax.Array:
    return self.decoder(z, shape, train)


class VariationalNetwork(nn.Module):
  """An encoder of q(z | x), a Gaussian with its own variance for each dimension, and a decoder of p(x | z).

  Attributes:
    encoder: any module `(x, train) -> [b, ...]`; what it returns is flattened to h [b, d].
    decoder: any module `(z, shape, train) -> [b, *shape]`.
    latent_size: length of z.
    learned_variance: whether there is a parameter 'log_variance', the same for all pixels.
  """

  encoder: nn.Module
  decoder: nn.Module
  latent_size: int
  learned_variance: bool = False

  def setup(self):
    self.mean = nn.Dense(self.latent_size)
    # Starts as the prior's variance, so that the first samples are neither all noise nor without any.
    self.log_variance_of_z = nn.Dense(self.latent_size, kernel_init=nn.initializers.zeros)
    if self.learned_variance:
      self.log_variance = self.param('log_variance', nn.initializers.zeros, ())

  def __call__(self, x: jax.Array, noise: jax.Array, train: bool = False) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Returns p(x | z)'s parameters [b, ...] for the z that standard normal noise [b, latent_size] makes, and q's.

    Those of q are mean and log-variance, [b, latent_size] each.
    """
    mean, log_variance = self.posterior(x, train)
    return self.decode(mean + jnp.exp(0.5 * log_variance) * noise, x.shape[1:], train), mean, log_variance

  def posterior(self, x: jax.Array, train: bool = False) -> tuple[jax.Array, jax.Array]:
    """Returns the mean and the log-variance of q(z | x), [b, latent_size] each."""
    h = self.features(x, train)
    return self.mean(h), self.log_variance_of_z(h)

  def layers(self, x: jax.Array, train: bool = False) -> tuple[jax.Array, jax.Array]:
    """Returns h [b, d] and the mean of q(z | x), [b, latent_size]."""
    h = self.features(x, train)
    return h, self.mean(h)

  def features(self, x: jax.Array, train: bool = False) -> jax.Array:
    """Returns h [b, d]."""
    h = self.encoder(x, train=train)
    return h.reshape(h.shape[0], -1)

  def decode(self, z: jax.Array, shape: tuple[int, ...], train: bool = False) -> jax.Array:
    return self.decoder(z, shape, train)


class Coded(nn.Module):
  """The encoding half of a network as one encoder: inputs -> h [b, d], or with `code` z [b, code_size]."""

  network: nn.Module
  code: bool

  def __call__(self, x: jax.Array, train: bool = False) -> jax.Array:
    x = ops.single(x)
    return self.network.layers(x, train)[1] if self.code else self.network.features(x, train)


def doubled(x: jax.Array) -> jax.Array:
  """Depth to space: [b, h, w, 4 c] -> [b, 2 h, 2 w, c]."""
  b, h, w, c = x.shape
  x = x.reshape(b, h, w, 2, 2, c // 4)
  return x.transpose(0, 1, 3, 2, 4, 5).reshape(b, 2 * h, 2 * w, c // 4)
