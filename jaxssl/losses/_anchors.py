"""Sums over anchors that may weigh differently, in memory linear in the batch: the relatives of NT-Xent, 'tiled'.

An anchor is a row of z [n, d]; its candidates are the rows of all devices but itself and, where the loss is of two
views, its positive, the other view, n / 2 rows on around the end. On one device each sweep of two tiles serves both
sides; on several each device gathers the others' rows and sweeps its own against all.

As in `_pairs`, each function returns the sum over this device's anchors, expects that the loss is its mean over the
devices, and finds the gradients in the forward pass. An anchor's weight in them, the derivative of its loss by its
log-sum-exp, is known there too, from the log-sum-exp itself. Arguments must be marked by `_collectives.vary`.
"""

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp

from jaxssl.losses import _collectives, _tiles
from jaxssl.losses._collectives import Devices
from jaxssl.losses._pairs import with_gradients
from jaxssl.losses._tiles import Exclude, Rows, Scale


def classes(labels: jax.Array, devices: Devices) -> tuple[jax.Array, jax.Array]:
  """Returns a number below N for each label [n], the same for equal labels only, and how many others have it: [n]."""
  ordered = jnp.sort(_collectives.gather(labels, devices.names))
  first, after = (jnp.searchsorted(ordered, labels, side=side) for side in ('left', 'right'))
  return first, after - first - 1


def _class_sum(arrays, devices: Devices):
  return jnp.sum(arrays[0] * _mean_of_others(arrays, devices))


def _class_sum_and_gradients(arrays, devices):
  mean = _mean_of_others(arrays, devices)
  return jnp.sum(arrays[0] * mean), (2 * mean, None, None)  # Twice: a row is to its class what its class is to it.


def _mean_of_others(arrays, devices):
  """Returns the mean of the other rows of each row's class, [n, d]."""
  z, number, others = arrays
  everyone, numbers = (_collectives.gather(each, devices.names) for each in (z, number))
  sums = jax.ops.segment_sum(everyone, numbers, len(everyone))
  return jnp.where(others > 0, 1 / jnp.maximum(others, 1), 0)[:, None] * (sums[number] - z)


def _lse_sum(arrays, loss: Callable, powers: tuple[float, ...], views: bool, devices: Devices):
  z, inverse, *others = arrays
  x, everyone, exclude = _meetings(z, views, devices)
  lses = [_lse(x, everyone, Scale(power * inverse, True), exclude, len(z)) for power in powers]
  return jnp.sum(loss(lses, inverse, *others))


def _lse_sum_and_gradients(arrays, loss, powers, views, devices):
  z, inverse, *others = arrays
  x, everyone, exclude = _meetings(z, views, devices)
  scales = [Scale(power * inverse, True) for power in powers]
  lses = [_lse(x, everyone, scale, exclude, len(z)) for scale in scales]
  total, (slopes, d_inverse, *d_others) = jax.value_and_grad(
      lambda *statistics: jnp.sum(loss(*statistics)), argnums=tuple(range(len(arrays))))(lses, inverse, *others)
  dz = jnp.zeros_like(z)
  for power, sign, scale, lse, slope in zip(powers, (1, -1), scales, lses, slopes, strict=False):
    own = _weighted(lse, sign * slope)
    theirs = own if everyone is x else _collectives.gather(own, devices.names)
    weights = _tiles.weights(own), _tiles.weights(theirs)
    dz += sign * power * _gradient(x, everyone, scale, exclude, weights, len(z))
  # As in `_pairs.self_sum`, z_i . dz_i sums every pair twice.
  return total, (dz * inverse, d_inverse + jnp.sum(z * dz) / 2, *d_others)


def _cross_lse_sum(arrays, loss: Callable, unit: bool, paired: bool, devices: Devices):
  a, b, inverse = arrays
  x, y, exclude = _encounters(a, b, paired, devices)
  return jnp.sum(loss([_lse(x, y, Scale(inverse, unit), exclude, len(a))]))


def _cross_lse_sum_and_gradients(arrays, loss, unit, paired, devices):
  a, b, inverse = arrays
  scale, alone = Scale(inverse, unit), devices.count == 1
  x, y, exclude = _encounters(a, b, paired, devices)
  lse = _lse(x, y, scale, exclude, len(a))
  total, slope = jax.value_and_grad(lambda lse: jnp.sum(loss([lse])))(lse)
  own = _weighted(lse, slope)
  da, db = _tiles.sweep_gradients(
      _tiles.all_pairs(x, y), x, y, scale, _tiles.weights(own), None, jnp.zeros_like(x.x),
      _tiles.turned_zeros(y) if alone else None, exclude)
  if alone:
    db = jnp.swapaxes(db, 1, 2)
  else:
    y, x, exclude = _encounters(b, a, paired, devices)
    theirs = _tiles.weights(_collectives.gather(own, devices.names))
    db, _ = _tiles.sweep_gradients(
        _tiles.all_pairs(y, x), y, x, scale, None, theirs, jnp.zeros_like(y.x), exclude=exclude)
  da, db = _tiles.join(da, len(a)), _tiles.join(db, len(b))
  return total, (da * inverse, db * inverse, jnp.sum(a * da))


def _weighted(lse, weight):
  """Returns what stands for a log-sum-exp so that its softmax comes out times `weight`: weight * exp(score - lse)."""
  nothing = (weight == 0) | (lse == -jnp.inf)
  return jnp.where(nothing, jnp.inf, lse - jnp.log(jnp.where(nothing, 1, weight)))


def _lse(x, everyone, scale, exclude, n):
  if everyone is not x:
    pairs = _tiles.all_pairs(x, everyone)
    return _tiles.finished(_tiles.sweep(pairs, x, everyone, scale, _tiles.nothing(x), exclude=exclude)[0], n)
  sums, _ = _tiles.sweep(_tiles.diagonal(x), x, x, scale, _tiles.nothing(x), exclude=exclude)
  both = _tiles.sweep(_tiles.off_diagonal(x), x, x, scale, sums, _tiles.nothing(x), exclude=exclude)
  return _tiles.finished(_tiles.merged(*both), n)


def _gradient(x, everyone, scale, exclude, weights, n):
  dx, dy = jnp.zeros_like(x.x), None
  if everyone is x:
    dx, _ = _tiles.sweep_gradients(_tiles.diagonal(x), x, x, scale, *weights, dx, exclude=exclude)
    dx, dy = _tiles.sweep_gradients(
        _tiles.off_diagonal(x), x, x, scale, *weights, dx, _tiles.turned_zeros(x), exclude)
  else:
    dx, _ = _tiles.sweep_gradients(_tiles.all_pairs(x, everyone), x, everyone, scale, *weights, dx, exclude=exclude)
  return _tiles.joined_gradient(dx, dy, n)


def _softplus_sum(arrays, devices: Devices):
  z, inverse = arrays
  x, everyone, exclude = _meetings(z, True, devices)
  loss = jnp.zeros_like(x.counts)
  sweep = lambda pairs: _tiles.sweep_softplus(pairs, x, everyone, inverse, jnp.zeros_like(inverse), loss, exclude)
  if everyone is x:
    loss = sweep(_tiles.diagonal(x)) + 2 * sweep(_tiles.off_diagonal(x))
  else:
    loss = sweep(_tiles.all_pairs(x, everyone))
  return jnp.sum(_tiles.join(loss, len(z)))


def _softplus_sum_and_gradients(arrays, devices):
  z, inverse = arrays
  x, everyone, exclude = _meetings(z, True, devices)
  nothing, dx = jnp.zeros_like(x.counts), jnp.zeros_like(x.x)
  sweep = lambda pairs, dx, dy=None: _tiles.sweep_softplus_gradients(
      pairs, x, everyone, inverse, jnp.zeros_like(inverse), nothing, nothing, dx, dy, exclude)
  if everyone is x:
    loss, _, dx, _ = sweep(_tiles.diagonal(x), dx)
    off, _, dx, dy = sweep(_tiles.off_diagonal(x), dx, _tiles.turned_zeros(x))
    loss += 2 * off
  else:
    loss, _, dx, dy = sweep(_tiles.all_pairs(x, everyone), dx)
  dz = _tiles.joined_gradient(dx, dy, len(z))
  return jnp.sum(_tiles.join(loss, len(z))), (2 * inverse * dz, jnp.sum(z * dz))


def rivals(z: jax.Array, devices: Devices) -> jax.Array:
  """Returns how many rows of all devices are as near to each unit row of z [2n, d] as its positive: float32 [2n].

  The positive is n rows on, around the end. What is as near up to float32 rounding counts, so that equal rows tie.
  """
  x, everyone, exclude = _meetings(z, True, devices)
  nearness = _tiles.cut(jnp.sum(z * jnp.roll(z, len(z) // 2, axis=0), axis=1) - 1e-6)
  found = _tiles.sweep_counts(_tiles.all_pairs(x, everyone), x, everyone, nearness, jnp.zeros_like(x.counts), exclude)
  return _tiles.join(found, len(z))


def _meetings(z: jax.Array, views: bool, devices: Devices) -> tuple[Rows, Rows, Exclude]:
  """Returns this device's rows and everyone's, the same object on one device, and which pairs do not count."""
  x = _tiles.rows(z)
  everyone = x if devices.count == 1 else _tiles.rows(_collectives.gather(z, devices.names))
  index = _collectives.gathered_index(len(z), devices.names or None)
  return x, everyone, _excluding(everyone, index, *([jnp.roll(index, len(z) // 2)] if views else []))


def _encounters(a: jax.Array, b: jax.Array, paired: bool, devices: Devices) -> tuple[Rows, Rows, Exclude | None]:
  """Returns this device's rows of a, everyone's of b, and which pairs do not count: `paired`, a_i with b_i."""
  y = _tiles.rows(_collectives.gather(b, devices.names))
  index = _collectives.gathered_index(len(a), devices.names or None)
  return _tiles.rows(a), y, _excluding(y, index) if paired else None


def _excluding(everyone: Rows, first: jax.Array, *others: jax.Array) -> Exclude:
  """Returns which pairs do not count: each row's with the rows of everyone at its indices, [n] each."""
  tiles, size = [_tiles.cut(index) for index in (first, *others)], everyone.counts.shape[1]

  def exclude(i, j):
    candidate = (j * size + jnp.arange(size))[None, :]
    return functools.reduce(jnp.logical_or, [index[i][:, None] == candidate for index in tiles])

  return exclude


# (z [n, d], inverse, *others [n]), loss, powers, views, devices -> sum_i loss(lses, inverse, *others)_i, where lses are
# log sum_k exp(power * inverse * z_i . z_k) over the candidates k, [n], for each power. With `views` the positives are
# no candidates. `loss` must grow with the first of lses and fall with the second.
# A power costs 1 unit, and 3 for the gradients, on one device; on several 2 and 4.
lse_sum = with_gradients(_lse_sum, _lse_sum_and_gradients)

# (a [n, d], b [m, d], inverse), loss, unit, paired, devices -> sum_i loss(lses)_i, where lses is the one log-sum-exp
# log sum_j exp(inverse * a_i . b_j) over the rows b_j of all devices, [n]; `paired`, without b_i. `unit` says that all
# rows have length 1, or 0. `loss` must grow with lses; here and in `lse_sum` it may also be of all anchors together,
# with collectives, if each device has its own copy of what they find.
# One device: 2 units, and 6 for the gradients; several: 2 and 8.
cross_lse_sum = with_gradients(_cross_lse_sum, _cross_lse_sum_and_gradients)

# (z [n, d], inverse), devices -> sum_i sum_k log(1 + exp(inverse * z_i . z_k)) over the candidates k, not the positive.
# 1 unit, 3 with the gradients, on one device; on several 2 and 4.
softplus_sum = with_gradients(_softplus_sum, _softplus_sum_and_gradients)

# (z [n, d], number [n], others [n]), devices -> sum_i of the mean of z_i . z_p over the others p of i's class, both by
# `classes`; 0 where there are none. Needs no sweep.
class_sum = with_gradients(_class_sum, _class_sum_and_gradients)
