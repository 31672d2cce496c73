"""Batch norm over the whole batch, or over groups of its examples."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn


def batch_norm(groups: int = 1, axis_name: str | None = None, **fields: Any) -> nn.Module:
  """Returns Flax's batch norm, or `GroupedBatchNorm` where there are several groups; their variables are the same.

  Args:
    groups: parts of the batch that are normalised by themselves; 1: the whole batch, also where jit has it sharded.
    axis_name: the mapped axis to take the statistics over, inside pmap, vmap or shard_map.
    **fields: of `flax.linen.BatchNorm`.
  """
  if groups == 1:
    return nn.BatchNorm(axis_name=axis_name, **fields)
  if axis_name is not None:
    raise ValueError(f'bn_groups={groups} with axis_name={axis_name!r}: groups are for the whole batch under jit; '
                     'without axis_name each mapped device is a group of its own')
  return GroupedBatchNorm(groups, **fields)


class GroupedBatchNorm(nn.Module):
  """Batch norm of groups of consecutive examples, each by its own mean and variance: [b, ..., c] -> [b, ..., c].

  With as many groups as devices, or a multiple, no statistics cross devices in the forward pass, as where each device
  normalises by itself (Goyal et al. 2017, https://arxiv.org/abs/1706.02677, section 3); but since it is the number of
  groups that says it, any number of devices computes the same. The running averages are those of the groups' mean.

  Attributes:
    groups: how many, a divisor of b.
    use_running_average: normalise by the running averages, as in evaluation.
    momentum: of the running averages.
    epsilon: added to the variance.
    use_bias: whether there is a bias.
    use_scale: whether there is a scale.
    scale_init: of the scale.
    dtype: of the output; statistics are float32.
  """

  groups: int
  use_running_average: bool = False
  momentum: float = 0.99
  epsilon: float = 1e-5
  use_bias: bool = True
  use_scale: bool = True
  scale_init: Callable = nn.initializers.ones
  dtype: Any = jnp.float32

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    c = x.shape[-1]
    groups = 1 if self.use_running_average else self.groups
    if groups < 1 or x.shape[0] % groups:
      raise ValueError(f'bn_groups must divide the {x.shape[0]} rows of the batch, all views together, got {groups}')
    running_mean = self.variable('batch_stats', 'mean', jnp.zeros, (c,), jnp.float32)
    running_var = self.variable('batch_stats', 'var', jnp.ones, (c,), jnp.float32)
    parts = x.reshape(groups, -1, *x.shape[1:])
    if self.use_running_average:
      mean, var = running_mean.value, running_var.value
    else:
      mean, var = _statistics(parts)
      if not self.is_initializing():
        for running, each in ((running_mean, mean), (running_var, var)):
          running.value = self.momentum * running.value + (1 - self.momentum) * each.mean(0)
    spread = lambda v: v.reshape(-1, *(1,) * (parts.ndim - 2), c)  # [groups or 1, 1, ..., c].
    factor = jax.lax.rsqrt(var + self.epsilon)
    if self.use_scale:
      factor = factor * jnp.broadcast_to(self.param('scale', self.scale_init, (c,), jnp.float32), factor.shape)
    y = (parts - spread(mean)) * spread(factor)
    if self.use_bias:
      y = y + spread(self.param('bias', nn.initializers.zeros, (c,), jnp.float32))
    return y.reshape(x.shape).astype(self.dtype)


def _statistics(parts: jax.Array) -> tuple[jax.Array, jax.Array]:
  """Returns the mean and the variance of every group, [groups, b / groups, ..., c] -> two of [groups, c]."""
  axes = tuple(range(1, parts.ndim - 1))
  parts = parts.astype(jnp.float32)
  mean = parts.mean(axes)
  return mean, jnp.maximum(0.0, jnp.square(parts).mean(axes) - jnp.square(mean))
