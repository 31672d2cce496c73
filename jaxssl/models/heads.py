"""Projection heads and prototypes, and an encoder with what stands on it."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from jaxssl import ops
from jaxssl.models import _checks
from jaxssl.models.norm import batch_norm

ACTIVATIONS: dict[str, Callable] = {'relu': nn.relu, 'gelu': lambda x: nn.gelu(x, approximate=False)}


class MLP(nn.Module):
  """A multilayer perceptron, with ReLU between its layers or GELU, [b, d] -> [b, features[-1]], float32.

  The defaults are SimCLR's head (Chen et al. 2020, https://arxiv.org/abs/2002.05709, and google-research/simclr,
  model_util.py): every linear layer is followed by batch norm and has no bias; the last batch norm has a scale alone.
  `MLP((2048, 128))` is the head of SimCLR with a ResNet-50, `MLP((2048, 2048, 128))` that of SimCLRv2
  (https://arxiv.org/abs/2006.10029); a predictor of BYOL or SimSiam is `MLP((..., ...), output_bn=False,
  output_bias=True)`, and SimSiam's projection has `output_scale=False`. Batch norm spans the whole batch, also where
  jit has it sharded over devices.

  Attributes:
    features: output size of each layer.
    hidden_bn: batch norm in all layers but the last; without it they have a bias.
    output_bn: batch norm in the last layer.
    output_bias: a bias in the last layer: the batch norm's where there is one, else the linear map's.
    output_scale: a scale in the last layer's batch norm.
    activation: 'relu' or 'gelu', between the layers.
    kernel_init: of all linear maps; None: truncated normal of variance 1 / fan-in. SimCLR's code has
      `nn.initializers.normal(0.01)`.
    bn_groups: parts of the batch that batch norm normalises by themselves; 1: the whole batch. See `GroupedBatchNorm`.
    axis_name: the mapped axis to take batch-norm statistics over, inside pmap, vmap or shard_map; None under jit.
    dtype: of the computation; parameters, batch-norm averages and outputs are float32.
  """

  features: tuple[int, ...]
  hidden_bn: bool = True
  output_bn: bool = True
  output_bias: bool = False
  output_scale: bool = True
  activation: str = 'relu'
  kernel_init: Callable | None = None
  bn_groups: int = 1
  axis_name: str | None = None
  dtype: Any = jnp.float32

  def __call__(self, x: jax.Array, train: bool = False) -> jax.Array:
    """Returns the last layer's output, [b, features[-1]]."""
    return self.layers(x, train)[-1]

  @nn.compact
  def layers(self, x: jax.Array, train: bool = False) -> tuple[jax.Array, ...]:
    """Returns `x` and every layer's output after its activation: entry i is SimCLRv2's `ft_proj_selector` = i."""
    if x.ndim != 2:
      raise ValueError(f'x must be features [b, d], got shape {x.shape}')
    _checks.sizes('features', self.features)
    _checks.choice('activation', self.activation, ACTIVATIONS)
    outputs = [x.astype(jnp.float32)]
    for i, size in enumerate(self.features):
      last = i == len(self.features) - 1
      x = self._linear(x, size, i, last, train)
      x = x if last else ACTIVATIONS[self.activation](x)
      outputs.append(x.astype(jnp.float32))
    return tuple(outputs)

  def _linear(self, x: jax.Array, size: int, i: int, last: bool, train: bool) -> jax.Array:
    """Layer i without its activation: linear map and batch norm, with the bias in the latter of the two."""
    norm, bias = (self.output_bn, self.output_bias) if last else (self.hidden_bn, True)
    x = nn.Dense(
        size, use_bias=bias and not norm, kernel_init=self.kernel_init or nn.initializers.lecun_normal(),
        dtype=self.dtype, name=f'linear{i + 1}')(x)
    if not norm:
      return x
    return batch_norm(
        self.bn_groups, use_running_average=not train, momentum=0.9, epsilon=1e-5, use_bias=bias,
        use_scale=self.output_scale or not last, axis_name=self.axis_name, dtype=self.dtype, name=f'bn{i + 1}')(x)


class Projected(nn.Module):
  """An encoder with a projection head: inputs -> (representation h [b, d], projection z [b, p]).

  Attributes:
    encoder: a module of inputs and `train`, such as `ResNet`, that returns [b, d].
    head: an `MLP`, or any module of [b, d] and `train`.
  """

  encoder: nn.Module
  head: nn.Module

  def __call__(self, x: jax.Array, train: bool = False) -> tuple[jax.Array, jax.Array]:
    h = self.encoder(x, train=train)
    return h, self.head(h, train=train)

  def layers(self, x: jax.Array, train: bool = False) -> tuple[jax.Array, ...]:
    """Returns (h, the head's first layer, ..., z), to fine-tune from the middle of an `MLP` head as SimCLRv2 does."""
    return self.head.layers(self.encoder(x, train=train), train=train)


class Predicted(nn.Module):
  """An encoder with a projection head and a predictor on it: inputs -> (h [b, d], z [b, p], prediction [b, p]).

  Attributes:
    encoder: a module of inputs and `train` that returns [b, d].
    head: an `MLP`, or any module of [b, d] and `train`.
    predictor: of the head's output, an `MLP` too.
  """

  encoder: nn.Module
  head: nn.Module
  predictor: nn.Module

  def __call__(self, x: jax.Array, train: bool = False) -> tuple[jax.Array, jax.Array, jax.Array]:
    h = self.encoder(x, train=train)
    z = self.head(h, train=train)
    return h, z, self.predictor(z, train=train)


class Prototypes(nn.Module):
  """Cosines of embeddings with learned prototypes, [b, p] -> [b, count], float32.

  Attributes:
    count: how many.
    weight_norm: whether the prototypes are scaled to length 1 here, as in DINO's last layer; else whoever trains them
      scales the kernel's columns after each update, as SwAV does (`normalized`).
  """

  count: int
  weight_norm: bool = False

  @nn.compact
  def __call__(self, z: jax.Array) -> jax.Array:
    if self.count < 1:
      raise ValueError(f'count of the prototypes must be positive, got {self.count}')
    kernel = self.param('kernel', _unit_columns, (z.shape[-1], self.count))
    directions = self.normalized(kernel) if self.weight_norm else kernel
    return ops.l2_normalize(z) @ directions

  @staticmethod
  def normalized(kernel: jax.Array) -> jax.Array:
    """Returns the kernel [p, count] with columns of length 1."""
    return ops.l2_normalize(kernel, axis=0)


def _unit_columns(key: jax.Array, shape: tuple[int, ...]) -> jax.Array:
  return ops.l2_normalize(jax.random.normal(key, shape), axis=0)


class Assigned(nn.Module):
  """An encoder with a projection head and prototypes: inputs -> (h [b, d], z [b, p], scores [b, k]).

  Attributes:
    encoder: a module of inputs and `train` that returns [b, d].
    head: an `MLP`, or any module of [b, d] and `train`.
    prototypes: of the head's output.
  """

  encoder: nn.Module
  head: nn.Module
  prototypes: Prototypes

  def __call__(self, x: jax.Array, train: bool = False) -> tuple[jax.Array, jax.Array, jax.Array]:
    h = self.encoder(x, train=train)
    z = self.head(h, train=train)
    return h, z, self.prototypes(z)


class Truncated(nn.Module):
  """An encoder with the first layers of its head, as one encoder: inputs -> `network.layers(inputs)[layer]`, [b, d].

  SimCLRv2 fine-tunes it from `layer` = 1 (https://arxiv.org/abs/2006.10029, section 2.2).
  """

  network: Projected
  layer: int

  def __call__(self, x: jax.Array, train: bool = False) -> jax.Array:
    return self.network.layers(x, train)[self.layer]
