"""The scores of Contrastive Predictive Coding: of every prediction with its target and its negatives, in chunks.

Contexts lie in s sets of c; those of a set share their n candidates, so that one matrix product scores them. Where the
negatives are the steps of many sequences there is one set, of all this device's contexts; where they are drawn, or are
the steps of the same sequence, each sequence is a set. A step of the global batch is known by its number: t times that
of its sequence, plus its time.
"""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from jaxssl.losses._collectives import gather, gathered_index

# Scores that a device stores all at once, unless the caller says of how many contexts. More are computed in chunks of
# an eighth of this, which fit the caches: on two cores, 1.6 times as fast as 123 million scores at once.
STORED_SCORES = {'cpu': 8 * 1024**2}
STORED_SCORES_OF_ACCELERATOR = 8192**2


class Scores(NamedTuple):
  """What is known of each prediction, all of them [b, t, K]."""

  positive: jax.Array  # The score of its target.
  lse: jax.Array  # log(alpha exp(positive) + beta sum of exp(negative)), beta = (N - alpha) / (N - 1).
  highest: jax.Array  # The highest score of a negative; minus infinity where there is none.
  candidates: jax.Array  # N, how many it has, the target among them; float32.
  valid: jax.Array  # Whether there is a target, and more candidates than 1 and alpha.


class Candidates(NamedTuple):
  """The steps that the contexts of each set are compared with."""

  z: jax.Array  # [s, n, d]
  number: jax.Array  # int32 [s, n]
  usable: jax.Array  # bool [s, n]: not padding.
  scope: jax.Array | None  # bool [b, B]: the sequences whose steps a sequence's contexts may use; None: any in the set.


def scores(predictions, z, mask, alpha, axis_name, negatives, num_negatives, chunk, group=None, key=None) -> Scores:
  """Returns the scores of this device's predictions with the candidates of the global batch."""
  b, t, steps, _ = predictions.shape
  # Padding may hold anything, NaN too: it must not reach a gradient.
  predictions, z = jnp.where(mask[:, :, None, None], predictions, 0), jnp.where(mask[:, :, None], z, 0)
  own = gathered_index(b, axis_name)
  candidates = _candidates(z, mask, own, axis_name, negatives, num_negatives, group, key)
  positive = along(predictions, z)
  has_target = mask[:, :, None] & _later(mask, steps)
  now = own[:, None] * t + jnp.arange(t)[None, :]
  target = now[:, :, None] + jnp.arange(1, steps + 1)[None, None, :]
  contexts = predictions, positive, target, jnp.broadcast_to(jnp.arange(b)[:, None], (b, t))
  found = _in_chunks(lambda contexts: _compare(contexts, candidates, alpha), contexts, candidates.number.shape, chunk)
  lse, highest, count = (x.reshape(b, t, steps) for x in found)
  return Scores(positive, lse, highest, count, has_target & (count > jnp.maximum(alpha, 1)))


def along(predictions, z):
  """Returns the inner product of each prediction with its target, [b, t, K]; 0 where that is past the end."""
  return jnp.sum(predictions * _later(z, predictions.shape[2]), axis=-1)


def most_candidates(shape, devices, negatives, num_negatives):
  """Returns how many candidates a prediction can have at most, for z of `shape` on each of so many devices."""
  if num_negatives is not None:
    return num_negatives + 1
  b, t, _ = shape
  if negatives == 'sequence':
    return t
  return (b * devices - 1) * t + 1 if negatives in ('others', 'group_others') else b * devices * t


def _later(x, steps):
  """Returns what `x` [b, t, ...] is 1 to K steps later, [b, t, K, ...], 0 past the end.

  By its indices: the gradient of a stack of K slices took half of a training step on a CPU.
  """
  time = jnp.arange(x.shape[1])[:, None] + jnp.arange(1, steps + 1)[None, :]
  exists = (time < x.shape[1]).reshape(1, *time.shape, *[1] * (x.ndim - 2))
  return jnp.where(exists, x[:, jnp.minimum(time, x.shape[1] - 1)], 0)


def _candidates(z, mask, own, axis_name, negatives, num_negatives, group, key):
  b, t, d = z.shape
  if negatives == 'sequence' and num_negatives is None:  # Nothing of the other devices is needed.
    return Candidates(z, own[:, None] * t + jnp.arange(t)[None, :], mask, None)
  everyone, usable = gather(z, axis_name).reshape(-1, d), gather(mask, axis_name)
  scope = _scope(negatives, own, len(usable), group, axis_name)
  if num_negatives is None:
    return Candidates(everyone[None], jnp.arange(usable.size)[None], usable.reshape(1, -1), scope)
  number, any_usable = _draw(key, own, scope, usable, num_negatives)
  return Candidates(everyone[number], number, jnp.broadcast_to(any_usable[:, None], number.shape), None)


def _scope(negatives, own, sequences, group, axis_name):
  """Returns from which sequences of the global batch each of this device's takes its negatives: bool [b, B]."""
  itself = own[:, None] == jnp.arange(sequences)[None, :]
  if negatives == 'sequence':
    return itself
  if negatives in ('batch', 'others'):
    within = jnp.ones_like(itself)
  else:
    within = group[:, None] == gather(group, axis_name)[None, :]
  return within & ~itself if negatives in ('others', 'group_others') else within


def _draw(key, own, scope, usable, num_negatives):
  """Returns the numbers of the steps drawn for each sequence, [b, m], and whether it had any to draw from, [b].

  Uniformly, with replacement, from the usable steps in its scope: those are counted through, sequence after sequence,
  and a count is drawn. The key is the global batch's and the sequence's place in it, so the device does not matter.
  """
  lengths = jnp.where(scope, jnp.sum(usable, axis=1)[None, :], 0)
  ends = jnp.cumsum(lengths, axis=1)
  in_order = jnp.argsort(~usable, axis=1, stable=True)  # The usable steps of each sequence, then the others.

  def draw(place, lengths, ends):
    count = jax.random.randint(jax.random.fold_in(key, place), (num_negatives,), 0, jnp.maximum(ends[-1], 1))
    sequence = jnp.minimum(jnp.searchsorted(ends, count, side='right'), len(ends) - 1)
    return sequence * usable.shape[1] + in_order[sequence, count - (ends - lengths)[sequence]]

  return jax.vmap(draw)(own, lengths, ends), ends[:, -1] > 0


def _in_chunks(function, contexts, shape, chunk):
  """Maps `function` over the contexts [b, t, ...] in s sets, some at a time; returns its results [s, c, ...]."""
  s, n = shape
  sets = jax.tree.map(lambda x: x.reshape(s, -1, *x.shape[2:]), contexts)
  total, steps = sets[0].shape[1:3]
  if chunk is None:
    stored = STORED_SCORES.get(jax.default_backend(), STORED_SCORES_OF_ACCELERATOR)
    chunk = s * total if s * total * steps * n <= stored else stored // 8 // (steps * n)
  size = max(chunk // s, 1)
  if size >= total:
    return function(sets)
  # A chunk that divides the contexts, if one is near: padding copies all predictions.
  size = next((near for near in range(size, size // 2, -1) if total % near == 0), size)
  parts = math.ceil(total / size)

  def split(x):
    x = jnp.pad(x, [(0, 0), (0, parts * size - total)] + [(0, 0)] * (x.ndim - 2))
    return jnp.moveaxis(x.reshape(s, parts, size, *x.shape[2:]), 1, 0)

  # The backward pass computes a chunk's scores again: only one chunk's are ever stored.
  results = lax.map(jax.checkpoint(function), jax.tree.map(split, sets))
  return [jnp.moveaxis(x, 0, 1).reshape(s, parts * size, -1)[:, :total] for x in results]


def _compare(contexts, candidates, alpha):
  """Returns `lse`, `highest` and `candidates` of `Scores` for contexts [s, c, ...]: each [s, c, K]."""
  predictions, positive, target, sequence = contexts
  # Full float32, see `_dense.inner_products`.
  each = jnp.einsum('sckd,snd->sckn', predictions, candidates.z, precision=lax.Precision.HIGHEST)
  allowed = candidates.usable[:, None, :]
  if candidates.scope is not None:
    allowed &= jnp.repeat(candidates.scope[sequence], each.shape[3] // candidates.scope.shape[1], axis=2)
  negative = allowed[:, :, None, :] & (candidates.number[:, None, None, :] != target[..., None])
  each = jnp.where(negative, each, -jnp.inf)
  count = 1 + jnp.sum(negative, axis=-1, dtype=jnp.float32)
  # A context that will be left out is as if it had no negatives: its terms must not overflow in the gradient either.
  left_out = count <= jnp.maximum(alpha, 1)
  each = jnp.where(left_out[..., None], -jnp.inf, each)
  alpha = jnp.where(left_out, 1, alpha)
  highest = jnp.max(each, axis=-1)
  top = lax.stop_gradient(jnp.maximum(positive, highest))
  beta = jnp.where(left_out, 0, count - alpha) / jnp.maximum(count - 1, 1)
  terms = alpha * jnp.exp(positive - top) + beta * jnp.sum(jnp.exp(each - top[..., None]), axis=-1)
  return top + jnp.log(terms), highest, count
