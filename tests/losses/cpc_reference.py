"""The losses of CPC in float64 NumPy, one prediction at a time."""

import jax.numpy as jnp
import numpy as np

from jaxssl.losses import _cpc


def comparisons(predictions, z, *, negatives='batch', group=None, mask=None, drawn=None, alpha=1.0):
  """Returns for each k a list of (score of the target, scores of the negatives), of the contexts that count.

  Args:
    predictions: [b, t, K, d].
    z: [b, t, d].
    negatives: as in `losses.cpc_info_nce`.
    group: [b].
    mask: [b, t].
    drawn: [b, m], the numbers b * t + i of the steps drawn for each sequence; None: all steps.
    alpha: contexts with no more candidates are left out.
  """
  b, t, steps, _ = predictions.shape
  mask = np.ones((b, t), bool) if mask is None else mask
  found = [[] for _ in range(steps)]
  for s, i, k in np.ndindex(b, t, steps):
    target = i + k + 1
    if target >= t or not mask[s, i] or not mask[s, target]:
      continue
    pool = [divmod(number, t) for number in drawn[s]] if drawn is not None else np.ndindex(b, t)
    pool = [(r, j) for r, j in pool if (r, j) != (s, target) and mask[r, j] and within(negatives, s, r, group)]
    if len(pool) + 1 > max(1, alpha):
      scores = [predictions[s, i, k] @ z[r, j] for r, j in pool]
      found[k].append((predictions[s, i, k] @ z[s, target], np.array(scores)))
  return found


def within(negatives, sequence, other, group):
  return {
      'batch': True, 'sequence': sequence == other, 'others': sequence != other,
      'group': group is not None and group[sequence] == group[other],
      'group_others': group is not None and group[sequence] == group[other] and sequence != other,
  }[negatives]


def info_nce_at(found, alpha=1.0):
  losses = []
  for positive, negatives in found:
    m = len(negatives) + 1
    weight = np.log((m - alpha) / (m - 1))
    losses.append(np.logaddexp.reduce([positive + np.log(alpha), *(negatives + weight)]) - positive)
  return np.mean(losses)


def ml_cpc_at(found, alpha=1.0):
  n, terms = len(found), []
  for positive, negatives in found:
    m = len(negatives) + 1
    terms.append(positive + np.log(alpha / (n * m)))
    terms.extend(negatives + np.log((m - alpha) / (n * m * (m - 1))))
  return log_candidates(found) - np.mean([positive for positive, _ in found]) + np.logaddexp.reduce(terms)


def log_candidates(found):
  return np.mean([np.log(len(negatives) + 1) for _, negatives in found])


def losses_at(predictions, z, *, objective='info_nce', alpha=1.0, **settings):
  """Returns the loss at each k that has a context."""
  at = {'info_nce': info_nce_at, 'ml_cpc': ml_cpc_at}[objective]
  return [at(found, alpha) for found in comparisons(predictions, z, alpha=alpha, **settings) if found]


def loss(predictions, z, **settings):
  return np.mean(losses_at(predictions, z, **settings))


def accuracy_and_bound(predictions, z, *, objective='info_nce', alpha=1.0, **settings):
  found = comparisons(predictions, z, alpha=alpha, **settings)
  hits = [np.mean([positive > negatives.max() for positive, negatives in each]) for each in found]
  losses = losses_at(predictions, z, objective=objective, alpha=alpha, **settings)
  return hits, [log_candidates(each) - loss for each, loss in zip(found, losses, strict=True)]


def drawn(key, negatives, mask, group, num_negatives):
  """Returns the numbers of the steps that the loss itself draws for each sequence, [b, m]: tested on their own."""
  own, mask = jnp.arange(len(mask)), jnp.asarray(mask)
  scope = _cpc._scope(negatives, own, len(mask), jnp.asarray(group), None)
  return np.asarray(_cpc._draw(key, own, scope, mask, num_negatives)[0])
