"""Any loss of examples against each other, over groups of them that do not meet."""

import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import lax
from jax.sharding import PartitionSpec as P
from jax.typing import ArrayLike

from jaxssl.losses._collectives import batch_axes, shares_batches


def in_groups(loss: Callable[..., jax.Array], *arrays: ArrayLike, groups: int) -> jax.Array:
  r"""The mean of a loss over groups of consecutive rows, whose examples have only one another as negatives.

  .. math::
    \mathrm{loss} = \frac{1}{G} \sum_{g=1}^{G} \ell(a^{(g)}, b^{(g)}, \ldots)

  With as many groups as devices that is what a loss of every device's own batch is, without negatives from the others;
  but since it is the number of groups that says it, any number of devices computes the same. Under a mesh set by
  `jax.set_mesh` with an axis 'data' whose devices share the groups out evenly, no embedding crosses devices; otherwise
  every device gathers all of them. Inside `jax.pmap` or `jax.shard_map` leave `axis_name` out of the loss instead, and
  average it.

  Example:
    >>> import jax.numpy as jnp
    >>> from jaxssl import losses
    >>> z = jnp.eye(4)  # In groups of two: log(1 + 2 exp(-1)).
    >>> print(f'{losses.in_groups(lambda a, b: losses.nt_xent(a, b, temperature=1.0), z, z, groups=2):.4f}')
    0.5514

  Args:
    loss: a function of parts [n / groups, ...] of the arrays, returning a scalar; without `axis_name`.
    *arrays: [n, ...] each, such as z1 and z2.
    groups: how many, a divisor of n; 1: `loss(*arrays)`.

  Returns:
    A float32 scalar.

  Raises:
    ValueError: if `groups` does not divide n.
  """
  rows = [jnp.asarray(array) for array in arrays]
  for i, array in enumerate(rows):
    if groups < 1 or array.shape[0] % groups:
      raise ValueError(f'groups must divide the {array.shape[0]} rows of array {i}, got groups={groups}')
  if groups == 1:
    return loss(*rows)
  mean = lambda *arrays: jax.vmap(loss)(*arrays).mean()
  parts = [array.reshape(groups, -1, *array.shape[1:]) for array in rows]
  mesh = jax.sharding.get_abstract_mesh()
  if not shares_batches(mesh):
    return mean(*parts)
  axes = batch_axes(mesh, groups)
  if groups % math.prod(mesh.shape[axis] for axis in axes):
    return jax.shard_map(mean, in_specs=P(), out_specs=P())(*parts)
  local = lambda *arrays: lax.pmean(mean(*arrays), axes)
  return jax.shard_map(local, in_specs=P(axes), out_specs=P())(*parts)
