"""Sums over all pairs of the global batch, in memory linear in the batch, on one device or many.

On several devices `form` chooses: 'tiled' gathers the other devices' rows, and each device sweeps its own rows against
all; 'ring' passes the rows, with what has been found for them, from device to device, so that each sweep serves both
sides. Each function returns the sum over this device's rows, and expects that the loss is its mean over the devices.

All rows weigh the same in that mean, so the gradients are known, up to one factor, before the backward pass: where a
sum is differentiated, its forward pass finds them too, and no collective waits in the backward pass, where `jax.vmap`
would not let it know its axis. Arguments must be marked by `_collectives.vary`. A unit below is N^2 d FLOPs for N rows
in all.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from jaxssl.losses import _collectives, _tiles
from jaxssl.losses._collectives import Devices
from jaxssl.losses._tiles import Scale


def _with_gradients(value: Callable, value_and_gradients: Callable) -> Callable:
  """Returns the function `value(arrays, *static)`, whose gradients come from `value_and_gradients`, same arguments."""

  def scaled(*arguments):
    *_, gradients, cotangent = arguments
    return (jax.tree.map(lambda gradient: cotangent * gradient, gradients),)

  def call(arrays: Any, *static: Any) -> jax.Array:
    function = jax.custom_vjp(lambda arrays: value(arrays, *static))
    function.defvjp(lambda arrays: value_and_gradients(arrays, *static), scaled)
    return function(arrays)

  return call


def _self_sum(arrays, form: str, devices: Devices):
  z, inverse, positive = arrays
  return jnp.sum(_self_lse(_tiles.rows(z), z, Scale(inverse, True), form, devices) - positive)


def _self_sum_and_gradients(arrays, form, devices):
  z, inverse, positive = arrays
  x, scale = _tiles.rows(z), Scale(inverse, True)
  lse = _self_lse(x, z, scale, form, devices)
  own = _tiles.weights(lse)
  if form == 'tiled' and devices.count > 1:
    everyone = _tiles.rows(_collectives.gather(z, devices.names))
    dz, d_inverse = _tiles.sweep_gradients(
        _tiles.all_pairs(x, everyone), x, everyone, scale, own,
        _tiles.weights(_collectives.gather(lse, devices.names)), _tiles.no_gradients(x),
        exclude=_same(x, everyone, len(z), devices))
  else:
    dz, d_inverse = _self_gradients(x, scale, own)
    if devices.count > 1:
      dz, d_inverse = _half_ring_gradients(x, scale, own, (dz, d_inverse), devices)
  return jnp.sum(lse - positive), (_tiles.join(dz, len(z)) * inverse, jnp.sum(d_inverse), -jnp.ones_like(positive))


def _self_lse(x, z, scale, form, devices):
  if form == 'tiled' and devices.count > 1:
    everyone = _tiles.rows(_collectives.gather(z, devices.names))
    (sums,) = _tiles.sweep(
        _tiles.all_pairs(x, everyone), x, everyone, scale, (_tiles.nothing(x),),
        exclude=_same(x, everyone, len(z), devices))
  else:
    sums = _self_sums(x, scale)
    if devices.count > 1:
      sums = _half_ring_sums(x, scale, sums, devices)
  return _tiles.finished(sums, len(z))


def _self_sums(x, scale):
  (sums,) = _tiles.sweep(_tiles.diagonal(x), x, x, scale, (_tiles.nothing(x),), exclude=_itself(x))
  return _tiles.sweep(_tiles.off_diagonal(x), x, x, scale, (sums,), column=0)[0]


def _self_gradients(x, scale, own):
  gradients = _tiles.sweep_gradients(
      _tiles.diagonal(x), x, x, scale, own, own, _tiles.no_gradients(x), exclude=_itself(x))
  return _tiles.sweep_gradients(_tiles.off_diagonal(x), x, x, scale, own, own, gradients, column=0)


def _half_ring_sums(x, scale, sums, devices):
  """Meets the devices behind, up to half of the circle, and sends home what was summed for them."""

  def hop(carry, _):
    sums, visitor = carry
    y, y_sums = _collectives.rotate(visitor, devices)
    sums, y_sums = _tiles.sweep(_tiles.all_pairs(x, y), x, y, scale, (sums, y_sums), column=1)
    return (sums, (y, y_sums)), None

  hops = (devices.count - 1) // 2
  (sums, (y, y_sums)), _ = lax.scan(hop, (sums, (x, _tiles.nothing(x))), length=hops)
  sums = _tiles.merged(sums, _collectives.rotate(y_sums, devices, -hops))
  if devices.count % 2 == 0:
    y = _collectives.rotate(y, devices)
    (sums,) = _tiles.sweep(_tiles.all_pairs(x, y), x, y, scale, (sums,))
  return sums


def _half_ring_gradients(x, scale, own, gradients, devices):
  def hop(carry, _):
    (dx, d_inverse), visitor = carry
    y, theirs, dy = _collectives.rotate(visitor, devices)
    dx, dy, d_inverse = _tiles.sweep_gradients(
        _tiles.all_pairs(x, y), x, y, scale, own, theirs, (dx, dy, d_inverse), column=1)
    return ((dx, d_inverse), (y, theirs, dy)), None

  hops = (devices.count - 1) // 2
  ((dx, d_inverse), (y, theirs, dy)), _ = lax.scan(hop, (gradients, (x, own, jnp.zeros_like(x.x))), length=hops)
  dx += _collectives.rotate(dy, devices, -hops)
  if devices.count % 2 == 0:
    y, theirs = _collectives.rotate((y, theirs), devices)
    dx, d_inverse = _tiles.sweep_gradients(_tiles.all_pairs(x, y), x, y, scale, own, theirs, (dx, d_inverse))
  return dx, d_inverse


def _itself(x):
  same = jnp.eye(x.counts.shape[1], dtype=bool)
  return lambda i, j: same


def _same(x, everyone, n, devices):
  """Returns which pairs are one of this device's n rows with itself among everyone's."""
  first = n * lax.axis_index(devices.names)
  index = lambda tiles, i: i * tiles.counts.shape[1] + jnp.arange(tiles.counts.shape[1])
  return lambda i, j: (index(x, i) + first)[:, None] == index(everyone, j)[None, :]


def _cross_sum(arrays, unit: bool, candidates: str, form: str, devices: Devices):
  a, b, inverse, positive = arrays
  lse = _cross_lse(_tiles.rows(a), _tiles.rows(b), arrays, Scale(inverse, unit), candidates, form, devices)
  return sum(jnp.sum(each - positive) for each in lse)


def _cross_sum_and_gradients(arrays, unit, candidates, form, devices):
  a, b, inverse, positive = arrays
  x, y, scale, columns = _tiles.rows(a), _tiles.rows(b), Scale(inverse, unit), candidates == 'both'
  lse = _cross_lse(x, y, arrays, scale, candidates, form, devices)
  of_x, of_y = _tiles.weights(lse[0]), _tiles.weights(lse[1]) if columns else None
  if devices.count == 1:
    dx, dy, d_inverse = _tiles.sweep_gradients(
        _tiles.all_pairs(x, y), x, y, scale, of_x, of_y, _tiles.no_gradients(x, y), column=1)
  elif form == 'tiled':
    dx, from_x = _gradients_against_all(x, b, scale, of_x, lse[1] if columns else None, devices)
    dy, from_y = _gradients_against_all(y, a, scale, of_y, lse[0], devices)
    d_inverse = from_x + from_y
  else:
    dx, dy, d_inverse = _ring_gradients(x, y, scale, of_x, of_y, devices)
  d_positive = jnp.full_like(positive, -len(lse)) + (jnp.exp(positive - lse[0]) if candidates == 'others' else 0.0)
  gradients = _tiles.join(dx, len(a)) * inverse, _tiles.join(dy, len(b)) * inverse, jnp.sum(d_inverse), d_positive
  return sum(jnp.sum(each - positive) for each in lse), gradients


def _cross_lse(x, y, arrays, scale, candidates, form, devices):
  """Returns the log-sum-exps of the rows of a [n] and, for 'both', of those of b [n]."""
  (a, b, _, positive), columns = arrays, candidates == 'both'
  x_sums, y_sums = _tiles.nothing(x), _tiles.nothing(y)
  if devices.count == 1 and columns:
    x_sums, y_sums = _tiles.sweep(_tiles.all_pairs(x, y), x, y, scale, (x_sums, y_sums), column=1)
  elif devices.count == 1:
    (x_sums,) = _tiles.sweep(_tiles.all_pairs(x, y), x, y, scale, (x_sums,))
  elif form == 'tiled':
    x_sums = _against_all(x, b, scale, devices)
    y_sums = _against_all(y, a, scale, devices) if columns else y_sums
  else:
    x_sums, y_sums = _ring_sums(x, y, scale, columns, devices)
  lse = _tiles.finished(x_sums, len(a))
  lse = jnp.logaddexp(lse, positive) if candidates == 'others' else lse
  return (lse, _tiles.finished(y_sums, len(b))) if columns else (lse,)


def _against_all(x, b, scale, devices):
  everyone = _tiles.rows(_collectives.gather(b, devices.names))
  return _tiles.sweep(_tiles.all_pairs(x, everyone), x, everyone, scale, (_tiles.nothing(x),))[0]


def _gradients_against_all(x, b, scale, own, lse, devices):
  everyone = _tiles.rows(_collectives.gather(b, devices.names))
  theirs = None if lse is None else _tiles.weights(_collectives.gather(lse, devices.names))
  return _tiles.sweep_gradients(
      _tiles.all_pairs(x, everyone), x, everyone, scale, own, theirs, _tiles.no_gradients(x))


def _ring_sums(x, y, scale, columns, devices):
  """Passes y once around the circle, with its sums where they are wanted."""

  def hop(carry, _):
    x_sums, (y, y_sums) = carry
    if columns:
      x_sums, y_sums = _tiles.sweep(_tiles.all_pairs(x, y), x, y, scale, (x_sums, y_sums), column=1)
    else:
      (x_sums,) = _tiles.sweep(_tiles.all_pairs(x, y), x, y, scale, (x_sums,))
    return (x_sums, _collectives.rotate((y, y_sums), devices)), None

  start = _tiles.nothing(x), (y, _tiles.nothing(y) if columns else None)
  (x_sums, (_, y_sums)), _ = lax.scan(hop, start, length=devices.count)
  return x_sums, y_sums


def _ring_gradients(x, y, scale, of_x, of_y, devices):
  def hop(carry, _):
    (dx, d_inverse), (y, of_y, dy) = carry
    dx, dy, d_inverse = _tiles.sweep_gradients(
        _tiles.all_pairs(x, y), x, y, scale, of_x, of_y, (dx, dy, d_inverse), column=1)
    return ((dx, d_inverse), _collectives.rotate((y, of_y, dy), devices)), None

  start = _tiles.no_gradients(x), (y, of_y, jnp.zeros_like(y.x))
  ((dx, d_inverse), (_, _, dy)), _ = lax.scan(hop, start, length=devices.count)
  return dx, dy, d_inverse


def _softplus_sum(arrays, form: str, devices: Devices):
  a, b, inverse, bias, positive = arrays
  x, y = _tiles.rows(a), _tiles.rows(b)
  value = jnp.zeros_like(x.counts)
  sweep = lambda y, value: _tiles.sweep_softplus(_tiles.all_pairs(x, y), x, y, inverse, bias, (value,))[0]
  if form == 'tiled' or devices.count == 1:
    value = sweep(_tiles.rows(_collectives.gather(b, devices.names)), value)
    return jnp.sum(_tiles.join(value, len(a)) - positive)
  hop = lambda carry, _: ((_collectives.rotate(carry[0], devices), sweep(*carry)), None)
  (_, value), _ = lax.scan(hop, (y, value), length=devices.count)
  return jnp.sum(_tiles.join(value, len(a)) - positive)


def _softplus_sum_and_gradients(arrays, form, devices):
  a, b, inverse, bias, positive = arrays
  x, y = _tiles.rows(a), _tiles.rows(b)
  dx, dy, of_rows = jnp.zeros_like(x.x), jnp.zeros_like(y.x), (jnp.zeros_like(x.counts),) * 3
  sweep = lambda x, y, found, **settings: _tiles.sweep_softplus(
      _tiles.all_pairs(x, y), x, y, inverse, bias, found, **settings)
  if devices.count == 1:
    dx, dy, *of_rows = sweep(x, y, (dx, dy, *of_rows), column=1)
  elif form == 'tiled':
    all_a, all_b = (_tiles.rows(_collectives.gather(each, devices.names)) for each in (a, b))
    dy, *_ = sweep(y, all_a, (dy, *of_rows))
    dx, *of_rows = sweep(x, all_b, (dx, *of_rows))
  else:
    def hop(carry, _):
      dx, of_rows, (y, dy) = carry
      dx, dy, *of_rows = sweep(x, y, (dx, dy, *of_rows), column=1)
      return (dx, tuple(of_rows), _collectives.rotate((y, dy), devices)), None

    (dx, of_rows, (_, dy)), _ = lax.scan(hop, (dx, of_rows, (y, dy)), length=devices.count)
  d_inverse, d_bias, value = of_rows
  da, db = (_tiles.join(each, n) * inverse for each, n in ((dx, len(a)), (dy, len(b))))
  loss = jnp.sum(_tiles.join(value, len(a)) - positive)
  return loss, (da, db, jnp.sum(d_inverse), jnp.sum(d_bias), -jnp.ones_like(positive))


# (z [n, d], inverse, positive [n]), form, devices ->
# sum_i (log sum_{j != i} exp(inverse * z_i . z_j) - positive_i).
# One device: 1 unit, and 3 for the gradients. W devices: 'tiled' 2 and 4 in all; 'ring', a half-ring in which each
# unordered pair of devices meets once, 1 and 3 for odd W; for even W opposite devices both sweep the pair they are,
# which makes 1.5 and 3.5 at W = 2, 1.25 and 3.25 at 4, 1.125 and 3.125 at 8.
self_sum = _with_gradients(_self_sum, _self_sum_and_gradients)

# (a [n, d], b [m, d], inverse, positive [n]), unit, candidates, form, devices ->
# sum_i (log sum_j exp(inverse * a_i . b_j) - positive_i), by `candidates`: 'rows', so; 'others', with exp(positive_i)
# in the sum too, since b does not hold the positives; 'both', the same of b's rows in addition. `unit` says that all
# rows have length 1, or 0.
# One device or 'ring': 2 units, and 6 for the gradients; 'tiled' on several devices: 'both' 4 and 8, else 2 and 8.
cross_sum = _with_gradients(_cross_sum, _cross_sum_and_gradients)

# (a [n, d], b [m, d], inverse, bias, positive [n]), form, devices ->
# sum_i (sum_j log(1 + exp(inverse * a_i . b_j + bias)) - positive_i).
# The gradients need no statistics of a row: 2 units alone, 6 with the gradients; 'tiled' on several devices 2 and 8.
softplus_sum = _with_gradients(_softplus_sum, _softplus_sum_and_gradients)
