"""Log-sum-exps of all pairs' scores, and their gradients, tile by tile: no array of all pairs is ever held.

Rows [n, d] are cut into tiles [t, k, d]; the score of two rows is their inner product times `inverse`, 1 / temperature.
A sweep visits pairs of tiles one after another. Whatever a sweep visits, it can serve both sides of a pair at once: the
scores of tile i with tile j are the transposed scores of j with i.
"""

import functools
import math
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

LOWEST = -1e30  # Below every score, but finite, so that a difference of two of them is 0 and not NaN.
# Scores of unit rows lie within inverse = 1 / temperature of 0: while exp(2 * inverse) is a float32, one shift fits.
LARGEST_SHIFT = 43.0
TILE = {'cpu': 1024}  # Rows of a tile.
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
  tiles = math.ceil(n / TILE.get(jax.default_backend(), ACCELERATOR_TILE))
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
    sums: tuple[LogSumExp, ...],
    column: int | None = None,
    exclude: Exclude | None = None,
) -> tuple[LogSumExp, ...]:
  """Takes the scores of `pairs` into the sums of x's rows, `sums[0]`, and of y's rows, `sums[column]`.

  `column` is 0 where y is x, None where y's rows want no sums. `exclude(i, j)` tells the pairs of rows of two tiles,
  bool [k, l], that are nobody's candidates.
  """
  inverse = scale.inverse

  def scores(t):
    i, j = pairs[1](t)
    found = _products(x.x[i], y.x[j]) * inverse
    return i, j, found if exclude is None else jnp.where(exclude(i, j), -jnp.inf, found)

  def visit_bounded(t, totals):
    i, j, found = scores(t)
    terms = jnp.exp(found - inverse)  # One exponential for the row and the column.
    totals = _replace(totals, 0, totals[0].at[i].add(jnp.sum(terms * y.counts[j][None, :], axis=1)))
    if column is not None:
      totals = _replace(totals, column, totals[column].at[j].add(jnp.sum(terms * x.counts[i][:, None], axis=0)))
    return totals

  def visit(t, sums):
    i, j, found = scores(t)
    sums = _replace(sums, 0, _absorb(sums[0], i, jnp.where(y.counts[j][None, :] > 0, found, -jnp.inf), 1))
    if column is not None:
      sums = _replace(sums, column, _absorb(sums[column], j, jnp.where(x.counts[i][:, None] > 0, found, -jnp.inf), 0))
    return sums

  def bounded(sums):
    start = tuple(each.total * jnp.exp(each.peak - inverse) for each in sums)
    totals = _loop(pairs[0], visit_bounded, start)
    return tuple(LogSumExp(jnp.full_like(total, inverse), total) for total in totals)

  unbounded = lambda sums: _loop(pairs[0], visit, sums)
  return lax.cond(inverse <= LARGEST_SHIFT, bounded, unbounded, sums) if scale.unit else unbounded(sums)


def sweep_gradients(
    pairs: Pairs,
    x: Rows,
    y: Rows,
    scale: Scale,
    row_lse: jax.Array | None,
    column_lse: jax.Array | None,
    gradients: tuple[jax.Array, ...],
    column: int | None = None,
    exclude: Exclude | None = None,
) -> tuple[jax.Array, ...]:
  """Adds what `pairs` contribute to the gradients of the sum of all rows' log-sum-exps.

  `row_lse` and `column_lse` are those of x's and of y's rows, from `weights`; None where these have none. `gradients`
  are those of x [t, k, d] times the temperature, of y in `gradients[column]` likewise (`column` as in `sweep`), and
  last of `inverse`, to be summed over x's rows [t, k]. There a row's part counts where it is swept as a row, and a
  column's only with `column`: without it, the pair is swept again the other way round.
  """
  inverse = scale.inverse

  def softmax_bounded(scores, i, j, rows_too, columns_too):
    terms = jnp.exp(scores - inverse)
    return terms * sum([
        *([jnp.exp(inverse - row_lse[i])[:, None]] if rows_too else []),
        *([jnp.exp(inverse - column_lse[j])[None, :]] if columns_too else [])])

  def softmax(scores, i, j, rows_too, columns_too):
    return sum([
        *([jnp.where(y.counts[j][None, :] > 0, jnp.exp(scores - row_lse[i][:, None]), 0.0)] if rows_too else []),
        *([jnp.where(x.counts[i][:, None] > 0, jnp.exp(scores - column_lse[j][None, :]), 0.0)] if columns_too else [])])

  def visit(t, gradients, softmax):
    i, j = pairs[1](t)
    products = _products(x.x[i], y.x[j])
    scores = products * inverse
    if exclude is not None:
      scores, products = jnp.where(exclude(i, j), -jnp.inf, scores), jnp.where(exclude(i, j), 0.0, products)
    both = softmax(scores, i, j, row_lse is not None, column_lse is not None)
    counted = row_lse is not None, column_lse is not None and column is not None
    gradients = _replace(gradients, 0, gradients[0].at[i].add(_weighted(both, y.x[j])))
    if column is not None:
      gradients = _replace(gradients, column, gradients[column].at[j].add(_weighted(both, x.x[i], transposed=True)))
    if any(counted):
      of_inverse = jnp.sum(softmax(scores, i, j, *counted) * products, axis=1)
      gradients = _replace(gradients, -1, gradients[-1].at[i].add(of_inverse))
    return gradients

  bounded = lambda gradients: _loop(pairs[0], functools.partial(visit, softmax=softmax_bounded), gradients)
  unbounded = lambda gradients: _loop(pairs[0], functools.partial(visit, softmax=softmax), gradients)
  return lax.cond(inverse <= LARGEST_SHIFT, bounded, unbounded, gradients) if scale.unit else unbounded(gradients)


def sweep_softplus(
    pairs: Pairs,
    x: Rows,
    y: Rows,
    inverse: jax.Array,
    bias: jax.Array,
    found: tuple[jax.Array, ...],
    column: int | None = None,
) -> tuple[jax.Array, ...]:
  """Adds the loss log(1 + exp(score + bias)) of every pair of rows, and its gradients, to `found`.

  `found` ends with the loss of x's rows [t, k]. Before it stand, where gradients are wanted, those of x [t, k, d] times
  the temperature, of y in `found[column]` likewise unless `column` is None, and of `inverse` and of `bias`, to be
  summed over x's rows [t, k].
  """

  def visit(t, found):
    i, j = pairs[1](t)
    products = _products(x.x[i], y.x[j])
    present = (x.counts[i][:, None] * y.counts[j][None, :]) > 0
    logits = jnp.where(present, products * inverse + bias, -jnp.inf)
    found = _replace(found, -1, found[-1].at[i].add(jnp.sum(jax.nn.softplus(logits), axis=1)))
    if len(found) == 1:
      return found
    slope = jax.nn.sigmoid(logits)
    found = _replace(found, 0, found[0].at[i].add(_weighted(slope, y.x[j])))
    if column is not None:
      found = _replace(found, column, found[column].at[j].add(_weighted(slope, x.x[i], transposed=True)))
    found = _replace(found, -3, found[-3].at[i].add(jnp.sum(slope * products, axis=1)))
    return _replace(found, -2, found[-2].at[i].add(jnp.sum(slope, axis=1)))

  return _loop(pairs[0], visit, found)


def no_gradients(*rows: Rows) -> tuple[jax.Array, ...]:
  """Returns zeros for `sweep_gradients`: one for each of `rows` and one for `inverse`."""
  return *(jnp.zeros_like(each.x) for each in rows), jnp.zeros_like(rows[0].counts)


def _absorb(sums: LogSumExp, i: jax.Array, scores: jax.Array, axis: int) -> LogSumExp:
  """Takes scores into the sums of tile i; `axis` is that of the candidates."""
  before = sums.peak[i]
  peak = jnp.maximum(before, jnp.max(scores, axis))
  total = sums.total[i] * jnp.exp(before - peak) + jnp.sum(jnp.exp(scores - jnp.expand_dims(peak, axis)), axis)
  return LogSumExp(sums.peak.at[i].set(peak), sums.total.at[i].set(total))


def _products(x: jax.Array, y: jax.Array) -> jax.Array:
  return jnp.einsum('kd,ld->kl', x, y, precision=lax.Precision.HIGHEST)


def _weighted(weights: jax.Array, y: jax.Array, transposed: bool = False) -> jax.Array:
  return jnp.einsum('kl,kd->ld' if transposed else 'kl,ld->kd', weights, y, precision=lax.Precision.HIGHEST)


def _replace(entries: tuple, index: int, entry) -> tuple:
  changed = list(entries)
  changed[index] = entry
  return tuple(changed)


def _loop(count: int, visit: Callable, carry: tuple) -> tuple:
  return lax.fori_loop(0, count, visit, carry) if count else carry
