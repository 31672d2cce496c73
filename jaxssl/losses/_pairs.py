"""Sums over all pairs of the global batch, in memory linear in the batch, on one device or many.

On several devices `form` chooses: 'tiled' gathers the other devices' rows, and each device sweeps its own rows against
all; 'ring' passes the rows, with what has been found for them, from device to device, so that each sweep serves both
sides; 'pallas_tpu' and 'mosaic_gpu' are 'tiled' with a kernel of that name, which sweeps its own rows against all on
one device too, but that 'mosaic_gpu' there finds log-sum-exps in sweeps for both sides. Each function returns the sum
over this device's rows, and expects that the loss is its mean over the devices.

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
from jaxssl.losses._choice import KERNELS
from jaxssl.losses._collectives import Devices
from jaxssl.losses._tiles import Scale


def _kernels(form: str) -> Any:
  """Returns the module of a kernel, imported only where it is used: not every platform's jaxlib has all of them."""
  if form == 'mosaic_gpu':
    from jaxssl.losses import _mosaic_gpu

    return _mosaic_gpu
  from jaxssl.losses import _pallas_tpu

  return _pallas_tpu


def as_seen(form: str, inverse: jax.Array, *arrays: jax.Array) -> tuple[jax.Array, ...]:
  """Returns embeddings as an implementation sees them, so that a positive's score is the same wherever it stands."""
  if form != 'mosaic_gpu':
    return arrays
  return tuple(_kernels(form).rounded(each, inverse) for each in arrays)


def with_gradients(value: Callable, value_and_gradients: Callable) -> Callable:
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
  if form in KERNELS:
    everyone, theirs = (_collectives.gather(each, devices.names) for each in (z, lse))
    dz = _kernels(form).row_gradient(z, everyone, inverse, lse, theirs, _first(z, devices))
    return jnp.sum(lse - positive), (dz * inverse, jnp.sum(z * dz) / 2, -jnp.ones_like(positive))
  own = _tiles.weights(lse)
  if form == 'tiled' and devices.count > 1:
    everyone = _tiles.rows(_collectives.gather(z, devices.names))
    dx, dy = _tiles.sweep_gradients(
        _tiles.all_pairs(x, everyone), x, everyone, scale, own,
        _tiles.weights(_collectives.gather(lse, devices.names)), jnp.zeros_like(x.x),
        exclude=_same(x, everyone, z, devices))
  else:
    dx, dy = _self_gradients(x, scale, own)
    if devices.count > 1:
      dx, dy = _half_ring_gradients(x, scale, own, dx, dy, devices)
  dz = _tiles.joined_gradient(dx, dy, len(z))
  # sum_j of (p_ij + p_ji) z_i . z_j is z_i . dz_i: every pair of the sum of p_ij z_i . z_j, twice.
  return jnp.sum(lse - positive), (dz * inverse, jnp.sum(z * dz) / 2, -jnp.ones_like(positive))


def _self_lse(x, z, scale, form, devices):
  if form == 'mosaic_gpu' and devices.count == 1:
    return _kernels(form).self_lse(z, scale.inverse)
  if form in KERNELS:
    return _kernels(form).row_lse(z, _collectives.gather(z, devices.names), scale.inverse, _first(z, devices))
  if form == 'tiled' and devices.count > 1:
    everyone = _tiles.rows(_collectives.gather(z, devices.names))
    sums, _ = _tiles.sweep(
        _tiles.all_pairs(x, everyone), x, everyone, scale, _tiles.nothing(x),
        exclude=_same(x, everyone, z, devices))
  else:
    sums = _self_sums(x, scale)
    if devices.count > 1:
      sums = _half_ring_sums(x, scale, sums, devices)
  return _tiles.finished(sums, len(z))


def _self_sums(x, scale):
  sums, _ = _tiles.sweep(_tiles.diagonal(x), x, x, scale, _tiles.nothing(x), exclude=_itself(x))
  return _tiles.merged(*_tiles.sweep(_tiles.off_diagonal(x), x, x, scale, sums, _tiles.nothing(x)))


def _self_gradients(x, scale, own):
  dx, _ = _tiles.sweep_gradients(
      _tiles.diagonal(x), x, x, scale, own, own, jnp.zeros_like(x.x), exclude=_itself(x))
  return _tiles.sweep_gradients(_tiles.off_diagonal(x), x, x, scale, own, own, dx, _tiles.turned_zeros(x))


def _half_ring_sums(x, scale, sums, devices):
  """Meets the devices behind, up to half of the circle, and sends home what was summed for them."""

  def hop(carry, _):
    sums, visitor = carry
    y, y_sums = _collectives.rotate(visitor, devices)
    sums, y_sums = _tiles.sweep(_tiles.all_pairs(x, y), x, y, scale, sums, y_sums)
    return (sums, (y, y_sums)), None

  hops = (devices.count - 1) // 2
  (sums, (y, y_sums)), _ = lax.scan(hop, (sums, (x, _tiles.nothing(x))), length=hops)
  sums = _tiles.merged(sums, _collectives.rotate(y_sums, devices, -hops))
  if devices.count % 2 == 0:
    y = _collectives.rotate(y, devices)
    sums, _ = _tiles.sweep(_tiles.all_pairs(x, y), x, y, scale, sums)
  return sums


def _half_ring_gradients(x, scale, own, dx, dy, devices):
  """Does the same for the gradients; `dx` and `dy` are this device's rows', straight and turned."""

  def hop(carry, _):
    dx, visitor = carry
    y, theirs, their_dy = _collectives.rotate(visitor, devices)
    dx, their_dy = _tiles.sweep_gradients(_tiles.all_pairs(x, y), x, y, scale, own, theirs, dx, their_dy)
    return (dx, (y, theirs, their_dy)), None

  hops = (devices.count - 1) // 2
  (dx, (y, theirs, their_dy)), _ = lax.scan(hop, (dx, (x, own, _tiles.turned_zeros(x))), length=hops)
  dy += _collectives.rotate(their_dy, devices, -hops)
  if devices.count % 2 == 0:
    y, theirs = _collectives.rotate((y, theirs), devices)
    dx, _ = _tiles.sweep_gradients(_tiles.all_pairs(x, y), x, y, scale, own, theirs, dx)
  return dx, dy


def _itself(x):
  same = jnp.eye(x.counts.shape[1], dtype=bool)
  return lambda i, j: same


def _first(z, devices):
  """Returns where this device's rows begin among everyone's."""
  return len(z) * lax.axis_index(devices.names) if devices.names else jnp.int32(0)


def _same(x, everyone, z, devices):
  """Returns which pairs are a row of this device's z with itself among everyone's."""
  first = _first(z, devices)
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
  if form in KERNELS:
    everyone = lambda each: None if each is None else _collectives.gather(each, devices.names)
    of_a, of_b = lse[0], lse[1] if columns else None
    da = _kernels(form).row_gradient(a, everyone(b), inverse, of_a, everyone(of_b))
    db = _kernels(form).row_gradient(b, everyone(a), inverse, of_b, everyone(of_a))
  elif form == 'tiled' and devices.count > 1:
    da = _tiles.join(_gradient_against_all(x, b, scale, of_x, lse[1] if columns else None, devices), len(a))
    db = _tiles.join(_gradient_against_all(y, a, scale, of_y, lse[0], devices), len(b))
  else:
    sweep = lambda y, of_y, da, db: _tiles.sweep_gradients(_tiles.all_pairs(x, y), x, y, scale, of_x, of_y, da, db)
    da, db = _around(sweep, (y, of_y), jnp.zeros_like(x.x), _tiles.turned_zeros(y), devices)
    da, db = _tiles.join(da, len(a)), _tiles.join(jnp.swapaxes(db, 1, 2), len(b))
  d_positive = jnp.full_like(positive, -len(lse)) + (jnp.exp(positive - lse[0]) if candidates == 'others' else 0.0)
  gradients = da * inverse, db * inverse, jnp.sum(a * da), d_positive
  return sum(jnp.sum(each - positive) for each in lse), gradients


def _cross_lse(x, y, arrays, scale, candidates, form, devices):
  """Returns the log-sum-exps of the rows of a [n] and, for 'both', of those of b [n]."""
  (a, b, _, positive), columns = arrays, candidates == 'both'
  if form == 'mosaic_gpu' and devices.count == 1 and columns and scale.unit:
    of_a, of_b = _kernels(form).both_lse(a, b, scale.inverse)
  elif form in KERNELS or (form == 'tiled' and devices.count > 1):
    against_all = lambda own, other: _lse_against_all(own, _collectives.gather(other, devices.names), scale, form)
    of_a, of_b = against_all(a, b), against_all(b, a) if columns else None
  else:
    sweep = lambda y, x_sums, y_sums: _tiles.sweep(_tiles.all_pairs(x, y), x, y, scale, x_sums, y_sums)
    x_sums, y_sums = _around(sweep, (y,), _tiles.nothing(x), _tiles.nothing(y) if columns else None, devices)
    of_a, of_b = _tiles.finished(x_sums, len(a)), None if y_sums is None else _tiles.finished(y_sums, len(b))
  of_a = jnp.logaddexp(of_a, positive) if candidates == 'others' else of_a
  return (of_a,) if of_b is None else (of_a, of_b)


def _lse_against_all(own, everyone, scale, form):
  if form in KERNELS:
    return _kernels(form).row_lse(own, everyone, scale.inverse)
  x, y = _tiles.rows(own), _tiles.rows(everyone)
  sums, _ = _tiles.sweep(_tiles.all_pairs(x, y), x, y, scale, _tiles.nothing(x))
  return _tiles.finished(sums, len(own))


def _gradient_against_all(x, b, scale, own, lse, devices):
  everyone = _tiles.rows(_collectives.gather(b, devices.names))
  theirs = None if lse is None else _tiles.weights(_collectives.gather(lse, devices.names))
  return _tiles.sweep_gradients(
      _tiles.all_pairs(x, everyone), x, everyone, scale, own, theirs, jnp.zeros_like(x.x))[0]


def _around(sweep, visitor, at_home, on_the_way, devices):
  """Passes `visitor`, with `on_the_way` that is found for it, once around the circle of devices, sweeping at each."""
  if devices.count == 1:
    return sweep(*visitor, at_home, on_the_way)

  def hop(carry, _):
    visitor, at_home, on_the_way = carry
    at_home, on_the_way = sweep(*visitor, at_home, on_the_way)
    visitor, on_the_way = _collectives.rotate((visitor, on_the_way), devices)
    return (visitor, at_home, on_the_way), None

  (_, at_home, on_the_way), _ = lax.scan(hop, (visitor, at_home, on_the_way), length=devices.count)
  return at_home, on_the_way


def _softplus_sum(arrays, form: str, devices: Devices):
  a, b, inverse, bias, positive = arrays
  x, y = _tiles.rows(a), _tiles.rows(b)
  if form == 'tiled' and devices.count > 1:
    y, devices = _tiles.rows(_collectives.gather(b, devices.names)), _collectives.devices(None)
  sweep = lambda y, loss, _: (_tiles.sweep_softplus(_tiles.all_pairs(x, y), x, y, inverse, bias, loss), None)
  loss, _ = _around(sweep, (y,), jnp.zeros_like(x.counts), None, devices)
  return jnp.sum(_tiles.join(loss, len(a)) - positive)


def _softplus_sum_and_gradients(arrays, form, devices):
  a, b, inverse, bias, positive = arrays
  x, y = _tiles.rows(a), _tiles.rows(b)
  start = lambda rows: (jnp.zeros_like(rows.counts), jnp.zeros_like(rows.counts), jnp.zeros_like(rows.x))
  sweep = lambda x, y, found, dy=None: _tiles.sweep_softplus_gradients(
      _tiles.all_pairs(x, y), x, y, inverse, bias, *found, dy)
  if form == 'tiled' and devices.count > 1:
    all_a, all_b = (_tiles.rows(_collectives.gather(each, devices.names)) for each in (a, b))
    loss, slope, da, _ = sweep(x, all_b, start(x))
    db = sweep(y, all_a, start(y))[2]
  else:
    def visit(y, found, dy):
      *found, dy = sweep(x, y, found, dy)
      return tuple(found), dy

    (loss, slope, da), db = _around(visit, (y,), start(x), _tiles.turned_zeros(y), devices)
    db = jnp.swapaxes(db, 1, 2)
  da, db = _tiles.join(da, len(a)), _tiles.join(db, len(b))
  total = jnp.sum(_tiles.join(loss, len(a)) - positive)
  return total, (da * inverse, db * inverse, jnp.sum(a * da), jnp.sum(slope), -jnp.ones_like(positive))


# (z [n, d], inverse, positive [n]), form, devices ->
# sum_i (log sum_{j != i} exp(inverse * z_i . z_j) - positive_i).
# One device: 1 unit, and 3 for the gradients; 'mosaic_gpu' 1 and 4. W devices: 'tiled' 2 and 4 in all; 'ring', a
# half-ring in which each unordered pair of devices meets once, 1 and 3 for odd W; for even W opposite devices both
# sweep the pair they are, which makes 1.5 and 3.5 at W = 2, 1.25 and 3.25 at 4, 1.125 and 3.125 at 8.
self_sum = with_gradients(_self_sum, _self_sum_and_gradients)

# (a [n, d], b [m, d], inverse, positive [n]), unit, candidates, form, devices ->
# sum_i (log sum_j exp(inverse * a_i . b_j) - positive_i), by `candidates`: 'rows', so; 'others', with exp(positive_i)
# in the sum too, since b does not hold the positives; 'both', the same of b's rows in addition. `unit` says that all
# rows have length 1, or 0.
# One device or 'ring': 2 units, and 6 for the gradients; 'tiled' on several devices: 'both' 4 and 8, else 2 and 8;
# 'mosaic_gpu' on one device 2 and 8.
cross_sum = with_gradients(_cross_sum, _cross_sum_and_gradients)

# (a [n, d], b [m, d], inverse, bias, positive [n]), form, devices ->
# sum_i (sum_j log(1 + exp(inverse * a_i . b_j + bias)) - positive_i).
# The gradients need no statistics of a row: 2 units alone, 6 with the gradients; 'tiled' on several devices 2 and 8.
softplus_sum = with_gradients(_softplus_sum, _softplus_sum_and_gradients)
