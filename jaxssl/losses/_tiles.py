"""Log-sum-exps of all pairs' scores, and their gradients, tile by tile: no array of all pairs is ever held.

Rows [n, d] are cut into tiles [t, k, d]; the score of two rows is their inner product times `inverse`, 1 / temperature.
A sweep visits pairs of tiles one after another. Whatever a sweep visits, it can serve both sides of a pair at once: the
scores of tile i with tile j are the transposed scores of j with i.
"""

import functools
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

LOWEST = -1e30  # Below every score, but finite, so that a difference of two of them is 0 and not NaN.
# Scores of unit rows lie within inverse = 1 / temperature of 0: while exp(2 * inverse) is a float32, one shift fits.
LARGEST_SHIFT = 43.0
TILE = {'cpu': 1024}  # Rows of a tile; half as many where there are fewer than four tiles of them, to save memory.
ACCELERATOR_TILE = 2048

Exclude = Callable[[jax.Array, jax.Array], jax.Array]
Pairs = tuple[int, Callable[[jax.Array], tuple[jax.Array, jax.Array]]]  # How many, and the t-th.


class Rows(NamedTuple):
  """Rows cut into tiles, the last of them filled up."""

  x: jax.Array  # [t, k, d]
  counts: jax.Array  # [t, k]: 1, or 0 for a row that only fills up: nobody's candidate.


class Scale(NamedTuple):
  """What turns inner products into scores."""

  inverse: jax.Array  # 1 / temperature.
  unit: bool  # Whether all rows have length 1, or 0, so that no score exceeds `inverse`.


class LogSumExp(NamedTuple):
  """A log-sum-exp for every row, on the way: peak + log(total)."""

  peak: jax.Array  # [t, k]
  total: jax.Array  # [t, k]


def cut(x: jax.Array, fill: float = 0.0) -> jax.Array:
  """Returns [n, ...] as tiles [t, k, ...], of nearly equal size, with `fill` at the end."""
  n = x.shape[0]
  largest = TILE.get(jax.default_backend(), ACCELERATOR_TILE)
  tiles = math.ceil(n / (largest if n >= 4 * largest else largest // 2))
  size = math.ceil(n / tiles)
  padded = jnp.pad(x, [(0, tiles * size - n)] + [(0, 0)] * (x.ndim - 1), constant_values=fill)
  return padded.reshape(tiles, size, *x.shape[1:])


def rows(x: jax.Array) -> Rows:
  """Returns rows [n, d] in tiles."""
  return Rows(cut(x), cut(jnp.ones_like(x[:, 0])))


def weights(lse: jax.Array) -> jax.Array:
  """Returns the log-sum-exps of n rows in tiles, for `sweep_gradients`; the rows that fill up weigh nothing."""
  return cut(lse, jnp.inf)


def join(tiles: jax.Array, n: int) -> jax.Array:
  """Returns tiles [t, k, ...] as [n, ...]."""
  return tiles.reshape(-1, *tiles.shape[2:])[:n]


def turned_zeros(rows: Rows) -> jax.Array:
  """Returns zeros for the gradient of `rows` in turned tiles, [t, d, k]."""
  return jnp.swapaxes(jnp.zeros_like(rows.x), 1, 2)


def nothing(rows: Rows) -> LogSumExp:
  """Returns the log-sum-exp of no candidate for every row."""
  return LogSumExp(jnp.full_like(rows.counts, LOWEST), jnp.zeros_like(rows.counts))


def finished(sums: LogSumExp, n: int) -> jax.Array:
  """Returns the log-sum-exp of each of the n rows."""
  return join(sums.peak + jnp.log(sums.total), n)


def merged(one: LogSumExp, other: LogSumExp) -> LogSumExp:
  """Returns the log-sum-exps over the candidates of both."""
  peak = jnp.maximum(one.peak, other.peak)
  return LogSumExp(peak, one.total * jnp.exp(one.peak - peak) + other.total * jnp.exp(other.peak - peak))


def all_pairs(x: Rows, y: Rows) -> Pairs:
  """Every tile of x with every tile of y."""
  tiles = y.counts.shape[0]
  return x.counts.shape[0] * tiles, lambda t: (t // tiles, t % tiles)


def diagonal(x: Rows) -> Pairs:
  """Every tile with itself."""
  return x.counts.shape[0], lambda t: (t, t)


def off_diagonal(x: Rows) -> Pairs:
  """Every unordered pair of two tiles once: (i, i + 1) for all i around the circle, then (i, i + 2), and so on."""
  tiles = x.counts.shape[0]
  return tiles * (tiles - 1) // 2, lambda t: (t % tiles, (t % tiles + 1 + t // tiles) % tiles)


def sweep(
    pairs: Pairs,
    x: Rows,
    y: Rows,
    scale: Scale,
    x_sums: LogSumExp,
    y_sums: LogSumExp | None = None,
    exclude: Exclude | None = None,
) -> tuple[LogSumExp, LogSumExp | None]:
  """Takes the scores of `pairs` into the sums of x's rows, over rows of y, and if given into those of y's, over x's.

  `exclude(i, j)` tells the pairs of rows of two tiles, bool [k, l], that are nobody's candidates.
  """

  def scores(t):
    i, j = pairs[1](t)
    found = _products(x.x[i], y.x[j]) * scale.inverse
    return i, j, found if exclude is None else jnp.where(exclude(i, j), -jnp.inf, found)

  def visit_bounded(t, totals):
    i, j, found = scores(t)
    terms = jnp.exp(found - scale.inverse)  # One exponential for the row and the column.
    of_x, of_y = totals
    of_x = of_x.at[i].add(jnp.sum(terms * y.counts[j][None, :], axis=1))
    return of_x, None if of_y is None else of_y.at[j].add(jnp.sum(terms * x.counts[i][:, None], axis=0))

  def visit(t, sums):
    i, j, found = scores(t)
    of_x, of_y = sums
    of_x = _absorb(of_x, i, jnp.where(y.counts[j][None, :] > 0, found, -jnp.inf), 1)
    return of_x, of_y and _absorb(of_y, j, jnp.where(x.counts[i][:, None] > 0, found, -jnp.inf), 0)

  def bounded(sums):
    start = tuple(each and each.total * jnp.exp(each.peak - scale.inverse) for each in sums)
    totals = _loop(pairs[0], visit_bounded, start)
    return tuple(None if each is None else LogSumExp(jnp.full_like(each, scale.inverse), each) for each in totals)

  unbounded = lambda sums: _loop(pairs[0], visit, sums)
  sums = x_sums, y_sums
  return lax.cond(jnp.abs(scale.inverse) <= LARGEST_SHIFT, bounded, unbounded, sums) if scale.unit else unbounded(sums)


def sweep_gradients(
    pairs: Pairs,
    x: Rows,
    y: Rows,
    scale: Scale,
    row_lse: jax.Array | None,
    column_lse: jax.Array | None,
    dx: jax.Array,
    dy: jax.Array | None = None,
    exclude: Exclude | None = None,
) -> tuple[jax.Array, jax.Array | None]:
  """Adds what `pairs` contribute to the gradients, times the temperature, of the sum of all rows' log-sum-exps.

  `row_lse` and `column_lse` are those of x's and of y's rows, from `weights`; None where these have none. `dx` has the
  tiles of x, [t, k, d]; `dy`, None where it is not wanted, those of y, turned: [t, d, l].
  """
  turned = None if dy is None else lax.optimization_barrier(jnp.swapaxes(x.x, 1, 2))  # A turned product is slow.

  def softmax_bounded(scores, i, j):
    """Each row's softmax plus each column's, [k, l]."""
    of_row = None if row_lse is None else jnp.exp(scale.inverse - row_lse[i])[:, None]
    of_column = None if column_lse is None else jnp.exp(scale.inverse - column_lse[j])[None, :]
    return jnp.exp(scores - scale.inverse) * _sum(of_row, of_column)

  def softmax(scores, i, j):
    of_row = None if row_lse is None else jnp.where(
        y.counts[j][None, :] > 0, jnp.exp(scores - row_lse[i][:, None]), 0.0)
    of_column = None if column_lse is None else jnp.where(
        x.counts[i][:, None] > 0, jnp.exp(scores - column_lse[j][None, :]), 0.0)
    return _sum(of_row, of_column)

  def visit(t, gradients, softmax):
    i, j = pairs[1](t)
    scores = _products(x.x[i], y.x[j]) * scale.inverse
    if exclude is not None:
      scores = jnp.where(exclude(i, j), -jnp.inf, scores)
    return _add_products(gradients, softmax(scores, i, j), i, j, y.x, turned)

  bounded = lambda gradients: _loop(pairs[0], functools.partial(visit, softmax=softmax_bounded), gradients)
  unbounded = lambda gradients: _loop(pairs[0], functools.partial(visit, softmax=softmax), gradients)
  gradients = dx, dy
  if not scale.unit:
    return unbounded(gradients)
  return lax.cond(jnp.abs(scale.inverse) <= LARGEST_SHIFT, bounded, unbounded, gradients)


def sweep_softplus(
    pairs: Pairs,
    x: Rows,
    y: Rows,
    inverse: jax.Array,
    bias: jax.Array,
    loss: jax.Array,
    exclude: Exclude | None = None,
) -> jax.Array:
  """Adds the loss log(1 + exp(score + bias)) of every pair of rows to `loss` [t, k] of x's rows."""

  def visit(t, loss):
    i, j = pairs[1](t)
    logits = _logits(_products(x.x[i], y.x[j]), x, y, i, j, inverse, bias, exclude)
    return loss.at[i].add(jnp.sum(jax.nn.softplus(logits), axis=1))

  return _loop(pairs[0], visit, loss)


def sweep_softplus_gradients(
    pairs: Pairs,
    x: Rows,
    y: Rows,
    inverse: jax.Array,
    bias: jax.Array,
    loss: jax.Array,
    slope: jax.Array,
    dx: jax.Array,
    dy: jax.Array | None = None,
    exclude: Exclude | None = None,
) -> tuple[jax.Array, jax.Array, jax.Array, jax.Array | None]:
  """Does the same, and adds each row's gradient by `bias` to `slope` [t, k]; `dx` and `dy` as in `sweep_gradients`."""
  turned = None if dy is None else lax.optimization_barrier(jnp.swapaxes(x.x, 1, 2))

  def visit(t, found):
    loss, slope, *gradients = found
    i, j = pairs[1](t)
    logits = _logits(_products(x.x[i], y.x[j]), x, y, i, j, inverse, bias, exclude)
    slopes = jax.nn.sigmoid(logits)
    loss = loss.at[i].add(jnp.sum(jax.nn.softplus(logits), axis=1))
    return loss, slope.at[i].add(jnp.sum(slopes, axis=1)), *_add_products(gradients, slopes, i, j, y.x, turned)

  return _loop(pairs[0], visit, (loss, slope, dx, dy))


def sweep_counts(
    pairs: Pairs, x: Rows, y: Rows, least: jax.Array, found: jax.Array, exclude: Exclude
) -> jax.Array:
  """Adds to `found` [t, k], for each row of x, how many rows of y have an inner product of `least` [t, k] or more.

  NaN counts, so that embeddings that are not finite are never found to be without rivals.
  """

  def visit(t, found):
    i, j = pairs[1](t)
    near = ~(_products(x.x[i], y.x[j]) < least[i][:, None]) & (y.counts[j][None, :] > 0) & ~exclude(i, j)
    return found.at[i].add(jnp.sum(near, axis=1).astype(found.dtype))

  return _loop(pairs[0], visit, found)


def joined_gradient(dx: jax.Array, dy: jax.Array | None, n: int) -> jax.Array:
  """Returns the sum of a gradient in tiles [t, k, d] and of one in turned tiles [t, d, k], as [n, d]."""
  return join(dx if dy is None else dx + jnp.swapaxes(dy, 1, 2), n)


def _logits(products, x, y, i, j, inverse, bias, exclude):
  present = (x.counts[i][:, None] * y.counts[j][None, :]) > 0
  if exclude is not None:
    present &= ~exclude(i, j)
  return jnp.where(present, products * inverse + bias, -jnp.inf)


def _add_products(gradients, weights, i, j, y, turned):
  """Adds weights [k, l] @ y_j to tile i of dx, and turned x_i @ weights to tile j of dy."""
  dx, dy = gradients
  dx = dx.at[i].add(jnp.matmul(weights, y[j], precision=lax.Precision.HIGHEST))
  return dx, None if dy is None else dy.at[j].add(jnp.matmul(turned[i], weights, precision=lax.Precision.HIGHEST))


def _sum(one: Any, other: Any) -> jax.Array:
  """Returns the sum of those that are given, at least one."""
  if one is None or other is None:
    return one if other is None else other
  return one + other


def _absorb(sums: LogSumExp, i: jax.Array, scores: jax.Array, axis: int) -> LogSumExp:
  """Takes scores into the sums of tile i; `axis` is that of the candidates."""
  before = sums.peak[i]
  peak = jnp.maximum(before, jnp.max(scores, axis))
  total = sums.total[i] * jnp.exp(before - peak) + jnp.sum(jnp.exp(scores - jnp.expand_dims(peak, axis)), axis)
  return LogSumExp(sums.peak.at[i].set(peak), sums.total.at[i].set(total))


def _products(x: jax.Array, y: jax.Array) -> jax.Array:
  return jnp.einsum('kd,ld->kl', x, y, precision=lax.Precision.HIGHEST)


def _loop(count: int, visit: Callable, carry: Any) -> Any:
  return lax.fori_loop(0, count, visit, carry) if count else carry
