"""Where a loss meets the other devices: the ambient mesh, gathered rows, the mean over the global batch."""

from collections.abc import Callable, Hashable
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jax.sharding import PartitionSpec as P

AxisName = Hashable  # What the user named in vmap, pmap or shard_map; a tuple of names for several axes at once.

DATA_AXIS = 'data'


def over_batch(
    kernel: Callable[..., jax.Array], split: dict[str, Any], whole: dict[str, Any], axis_name: AxisName | None
) -> jax.Array:
  """Returns `kernel(**split, **whole, axis_name=axis_name)`, the global batch's loss, on whatever devices hold it.

  A caller who names an axis is already inside a mapped context, and so is one inside a manual mesh. Any other caller
  has global arrays: where the ambient mesh (`jax.set_mesh`) has an axis 'data', the kernel runs under `jax.shard_map`
  over it, so that each device computes the rows of its own examples only.

  Args:
    kernel: returns a scalar that is the same on every device of its `axis_name`.
    split: arrays whose leading axis is the batch, under the names the user knows them by.
    whole: arrays that every device needs entirely.
    axis_name: the caller's mapped axis, or None.

  Raises:
    ValueError: if the data axis does not divide a batch.
  """
  mesh = jax.sharding.get_abstract_mesh()
  if axis_name is not None or mesh.manual_axes or DATA_AXIS not in mesh.axis_names:
    return kernel(**split, **whole, axis_name=axis_name)
  devices = mesh.shape[DATA_AXIS]
  for name, x in split.items():
    if x.shape[0] % devices:
      raise ValueError(
          f'{name} has {x.shape[0]} rows, which the {devices} devices of the mesh axis {DATA_AXIS!r} do not divide.')
  mapped = jax.shard_map(
      lambda split, whole: kernel(**split, **whole, axis_name=DATA_AXIS), in_specs=(P(DATA_AXIS), P()), out_specs=P())
  # Of Auto axes shard_map itself moves the data; over Explicit ones they have to lie as in_specs says.
  rows = P(DATA_AXIS if DATA_AXIS in mesh.explicit_axes else None)
  return mapped(jax.sharding.reshard(split, rows), jax.sharding.reshard(whole, P()))


def gather(x: jax.Array, axis_name: AxisName | None) -> jax.Array:
  """Returns the rows of all devices, in the order of `lax.axis_index`: [n, ...] -> [devices * n, ...].

  Gradients flow back to the device a row came from.
  """
  if axis_name is None:
    return x
  names = axis_name if isinstance(axis_name, tuple) else (axis_name,)
  for name in reversed(names):  # One axis at a time: vmap knows no gather over several.
    x = lax.all_gather(x, name, tiled=True)
  return x


def gathered_index(n: int, axis_name: AxisName | None) -> jax.Array:
  """Returns where this device's `n` rows stand among the gathered ones: int32 [n]."""
  rows = jnp.arange(n)
  return rows if axis_name is None else rows + n * lax.axis_index(axis_name)


def global_mean(x: jax.Array, axis_name: AxisName | None) -> jax.Array:
  """Returns the mean of `x` over its elements and over the devices."""
  local = jnp.mean(x)
  return local if axis_name is None else lax.pmean(local, axis_name)
