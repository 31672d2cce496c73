"""Where a loss meets the other devices: the ambient mesh, gathered rows, the mean over the global batch."""

import dataclasses
import math
from collections.abc import Callable, Hashable
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jax.sharding import PartitionSpec as P

AxisName = Hashable  # What the user named in vmap, pmap or shard_map; a tuple of names for several axes at once.

BATCH_AXES = 'data', 'model'  # Of a mesh, those that may share a batch; without the first it is none for batches.


def over_batch(
    kernel: Callable[..., jax.Array], split: dict[str, Any], whole: dict[str, Any], axis_name: AxisName | None
) -> jax.Array:
  """Returns `kernel(**split, **whole, axis_name=axis_name)`, the global batch's loss, on whatever devices hold it.

  A caller who names an axis is already inside a mapped context, and so is one inside a manual mesh. Any other caller
  has global arrays: where the ambient mesh (`jax.set_mesh`) has an axis 'data', the kernel runs under `jax.shard_map`
  over it, and over an axis 'model' where the rows suffice, so that each device computes its own rows only.

  Args:
    kernel: returns a scalar that is the same on every device of its `axis_name`.
    split: arrays whose leading axis is the batch, under the names the user knows them by.
    whole: arrays that every device needs entirely.
    axis_name: the caller's mapped axis, or None.

  Raises:
    ValueError: if the data axis does not divide a batch.
  """
  mesh = jax.sharding.get_abstract_mesh()
  if axis_name is not None or not shares_batches(mesh):
    return kernel(**split, **whole, axis_name=axis_name)
  devices = mesh.shape[BATCH_AXES[0]]
  for name, x in split.items():
    if x.shape[0] % devices:
      raise ValueError(f'{name} has {x.shape[0]} rows, which the {devices} devices of the mesh axis '
                       f'{BATCH_AXES[0]!r} do not divide')
  axes = batch_axes(mesh, math.gcd(*(x.shape[0] for x in split.values())))
  mapped = jax.shard_map(
      lambda split, whole: kernel(**split, **whole, axis_name=axes), in_specs=(P(axes), P()), out_specs=P())
  # Of Auto axes shard_map itself moves the data; over Explicit ones they have to lie as in_specs says.
  rows = P(tuple(axis for axis in axes if axis in mesh.explicit_axes) or None)
  return mapped(jax.sharding.reshard(split, rows), jax.sharding.reshard(whole, P()))


def shares_batches(mesh: jax.sharding.AbstractMesh) -> bool:
  """Returns whether global arrays are split over the devices of the ambient mesh, rather than mapped already."""
  return BATCH_AXES[0] in mesh.axis_names and not mesh.manual_axes


def batch_axes(mesh: jax.sharding.AbstractMesh, rows: int) -> tuple[str, ...]:
  """Returns the axes of the mesh to split so many rows over: both, where their devices divide them, else the first."""
  axes = tuple(axis for axis in BATCH_AXES if axis in mesh.axis_names and mesh.shape[axis] > 1)
  return axes if axes and rows % math.prod(mesh.shape[axis] for axis in axes) == 0 else BATCH_AXES[:1]


def gather(x: jax.Array, axis_name: AxisName | None) -> jax.Array:
  """Returns the rows of all devices, in the order of `lax.axis_index`: [n, ...] -> [devices * n, ...].

  Gradients flow back to the device a row came from.
  """
  for name in reversed(_names(axis_name)):  # One axis at a time: vmap knows no gather over several.
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


def global_lse(x: jax.Array, axis_name: AxisName | None) -> jax.Array:
  """Returns log(sum(exp(x))) over the elements of `x` and over the devices, each of which finds it for itself."""
  local = jax.nn.logsumexp(x)
  return local if axis_name is None else jax.nn.logsumexp(gather(local[None], axis_name))


@dataclasses.dataclass(frozen=True)
class Devices:
  """The devices that share the batch: the mapped axes and how long they are."""

  names: tuple[Hashable, ...]
  sizes: tuple[int, ...]

  @property
  def count(self) -> int:
    return math.prod(self.sizes)


def devices(axis_name: AxisName | None) -> Devices:
  """Returns the devices of a mapped axis; None: a single one."""
  names = _names(axis_name)
  return Devices(names, tuple(lax.axis_size(name) for name in names))


def rotate(tree: Any, devices: Devices, steps: int = 1) -> Any:
  """Returns what the device `steps` before this one holds, in the circle of `lax.axis_index`'s order."""
  outer = Devices(devices.names[:-1], devices.sizes[:-1])
  name, size = devices.names[-1], devices.sizes[-1]
  carry, shift = divmod(steps, size)
  if shift:
    tree = lax.ppermute(tree, name, [(i, (i + shift) % size) for i in range(size)])
  if outer.count == 1:
    return tree
  # Several axes turn like a counter: whoever has passed the end of the last axis takes one more step along the others.
  straight, carried = (rotate(tree, outer, (carry + extra) % outer.count) for extra in (0, 1))
  within = lax.axis_index(name) >= shift
  return jax.tree.map(lambda here, there: jnp.where(within, here, there), straight, carried)


def vary(axis_name: AxisName | None, *arrays: jax.Array) -> tuple[jax.Array, ...]:
  """Returns the arrays marked as differing from device to device, wherever one of them or the axis does.

  `jax.shard_map` (with check_vma) tells the arrays that differ from those that do not, and sums the gradient of the
  latter over the devices. A `jax.custom_vjp` whose gradients are each device's own takes the former alone.
  """
  indices = [lax.axis_index(name) for name in _names(axis_name)]
  axes = frozenset().union(*(_varying(x) for x in (*arrays, *indices)))
  return tuple(lax.pcast(x, tuple(sorted(axes - _varying(x), key=str)), to='varying') if axes - _varying(x) else x
               for x in arrays)


def _names(axis_name: AxisName | None) -> tuple[Hashable, ...]:
  if axis_name is None:
    return ()
  return axis_name if isinstance(axis_name, tuple) else (axis_name,)


def _varying(x: jax.Array) -> frozenset:
  return frozenset(jax.typeof(x).manual_axis_type.varying)
