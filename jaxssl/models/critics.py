"""Critics that score pairs (x, y), for estimates of mutual information: x [n, ...], y [m, ...] -> log-scores [n, m].

Sizes are those of the benchmark of Song and Ermon, https://arxiv.org/abs/1910.06222 and
https://github.com/ermongroup/smile-mi-estimator, and so is the initialisation, PyTorch's for a linear layer: kernel and
bias uniform within 1 / sqrt(fan-in) (`torch.nn.Linear`).
"""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
from flax import linen as nn


class SeparableCritic(nn.Module):
  """f(x, y) = g(x) . h(y), each an MLP with ReLU: n + m passes score all n m pairs.

  Attributes:
    features: sizes of the hidden layers of g and of h.
    embedding: length of g(x) and h(y).
  """

  features: Sequence[int] = (256, 256, 256)
  embedding: int = 32

  @nn.compact
  def __call__(self, x: jax.Array, y: jax.Array) -> jax.Array:
    """Returns the log-scores [n, m] of every x [n, ...] with every y [m, ...]."""
    sizes = (*self.features, self.embedding)
    return _mlp(_flat('x', x), sizes, 'g') @ _mlp(_flat('y', y), sizes, 'h').T


class ConcatenatedCritic(nn.Module):
  """f(x, y) = an MLP with ReLU of x and y side by side (the papers' "joint" critic), for each of the n m pairs.

  The first layer is linear in (x, y), so it runs once for each x and each y, and the sums are what the pairs share.

  Attributes:
    features: sizes of the hidden layers.
  """

  features: Sequence[int] = (256, 256, 256)

  @nn.compact
  def __call__(self, x: jax.Array, y: jax.Array) -> jax.Array:
    """Returns the log-scores [n, m] of every x [n, ...] with every y [m, ...]."""
    x, y = _flat('x', x), _flat('y', y)
    fan_in = x.shape[1] + y.shape[1]
    of_x = _linear(self.features[0], fan_in, 'x')(x)
    of_y = _linear(self.features[0], fan_in, 'y', use_bias=False)(y)
    h = nn.relu(of_x[:, None] + of_y[None])
    return _mlp(h, (*self.features[1:], 1), 'mlp')[..., 0]


class LogBaseline(nn.Module):
  """log a(x), an MLP with ReLU: the baseline of TUBA.

  Attributes:
    features: sizes of the hidden layers.
  """

  features: Sequence[int] = (256, 256, 256)

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    """Returns [n] for x [n, ...]."""
    return _mlp(_flat('x', x), (*self.features, 1), 'mlp')[:, 0]


def _flat(name: str, x: jax.Array) -> jax.Array:
  if x.ndim < 2 or not x.size:
    raise ValueError(f'{name} must have shape [n, ...], none of it 0, got {list(x.shape)}')
  return x.reshape(x.shape[0], -1).astype(jnp.float32)


def _mlp(x: jax.Array, sizes: Sequence[int], name: str) -> jax.Array:
  for i, size in enumerate(sizes):
    x = _linear(size, x.shape[-1], f'{name}{i + 1}')(x if i == 0 else nn.relu(x))
  return x


def _linear(size: int, fan_in: int, name: str, use_bias: bool = True) -> nn.Dense:
  """A linear layer with PyTorch's initialisation."""
  uniform = lambda key, shape, dtype=jnp.float32: jax.random.uniform(
      key, shape, dtype, -fan_in ** -0.5, fan_in ** -0.5)
  return nn.Dense(size, use_bias=use_bias, kernel_init=uniform, bias_init=uniform, name=name)
