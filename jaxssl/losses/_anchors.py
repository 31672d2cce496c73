"""Sums over anchors that may weigh differently, in memory linear in the batch: the relatives of NT-Xent, 'tiled'.

An anchor is a row of z [n, d]; its candidates are the rows of all devices but itself and, where the loss is of two
views, its positive, the other view, n / 2 rows on around the end. On one device each sweep of two tiles serves both
sides; on several each device gathers the others' rows and sweeps its own against all.

As in `_pairs`, each function returns the sum over this device's anchors, expects that the loss is its mean over the
devices, and finds the gradients in the forward pass. An anchor's weight in them, the derivative of its loss by its
log-sum-exp, is known there too, from the log-sum-exp itself. Arguments must be marked by `_collectives.vary`.
"""

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


def _meetings(z: jax.Array, views: bool, devices: Devices) -> tuple[Rows, Rows, Exclude]:
  """Returns this device's rows and everyone's, the same object on one device, and which pairs do not count."""
  x = _tiles.rows(z)
  everyone = x if devices.count == 1 else _tiles.rows(_collectives.gather(z, devices.names))
  index = _collectives.gathered_index(len(z), devices.names or None)
  itself, positive = _tiles.cut(index), _tiles.cut(jnp.roll(index, len(z) // 2))
  size = everyone.counts.shape[1]

  def exclude(i, j):
    candidate = (j * size + jnp.arange(size))[None, :]
    same = itself[i][:, None] == candidate
    return same | (positive[i][:, None] == candidate) if views else same

  return x, everyone, exclude


# (z [n, d], inverse, *others [n]), loss, powers, views, devices -> sum_i loss(lses, inverse, *others)_i, where lses are
# log sum_k exp(power * inverse * z_i . z_k) over the candidates k, [n], for each power. With `views` the positives are
# no candidates. `loss` must grow with the first of lses and fall with the second.
# A power costs 1 unit, and 3 for the gradients, on one device; on several 2 and 4.
lse_sum = with_gradients(_lse_sum, _lse_sum_and_gradients)

# (z [n, d], inverse), devices -> sum_i sum_k log(1 + exp(inverse * z_i . z_k)) over the candidates k, not the positive.
# 1 unit, 3 with the gradients, on one device; on several 2 and 4.
softplus_sum = with_gradients(_softplus_sum, _softplus_sum_and_gradients)

# (z [n, d], number [n], others [n]), devices -> sum_i of the mean of z_i . z_p over the others p of i's class, both by
# `classes`; 0 where there are none. Needs no sweep.
class_sum = with_gradients(_class_sum, _class_sum_and_gradients)
