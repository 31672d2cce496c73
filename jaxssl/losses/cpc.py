"""Contrastive Predictive Coding: tell the step that comes k steps after a context from other steps.

Computed in float32 (also from bfloat16, float16 or float64 inputs). `axis_name` and the ambient mesh mean the same as
in `jaxssl.losses.contrastive`: the negatives are those of the global batch, the loss is its mean.
"""

import functools

import jax
import jax.numpy as jnp
from jax import lax
from jax.typing import ArrayLike

from jaxssl.losses import _checks, _cpc
from jaxssl.losses._collectives import AxisName, devices, over_batch

NEGATIVES = ('batch', 'sequence', 'group', 'others', 'group_others')
OBJECTIVES = ('info_nce', 'ml_cpc')


def cpc_info_nce(
    predictions: ArrayLike,
    z: ArrayLike,
    *,
    negatives: str = 'batch',
    num_negatives: int | None = None,
    key: ArrayLike | None = None,
    group: ArrayLike | None = None,
    mask: ArrayLike | None = None,
    objective: str = 'info_nce',
    alpha: ArrayLike = 1.0,
    axis_name: AxisName | None = None,
    chunk: int | None = None,
) -> jax.Array:
  r"""InfoNCE of CPC, at every step and every distance at once: find the step that came, among N candidates.

  .. math::
    \ell_{bik} = -\log \frac{\exp f_k(z_{b,i+k}, c_{bi})}{\sum_{j} \exp f_k(z_j, c_{bi})},
    \qquad f_k(z, c) = z^T W_k c,
    \qquad \mathrm{loss} = \frac{1}{K} \sum_k \operatorname{mean}_{b,i} \ell_{bik}

  j runs over the target z_{b,i+k} and its negatives, for the one context c_{bi}. Scores are inner products as they are:
  summed over d, of any length. At the optimum f_k is log p(z | c) / p(z) up to a constant of the context. Equal scores
  cost log N; log N - loss is a lower bound on the mutual information of target and context.

  `negatives` says which steps they are, never padding and never the target itself:

  * 'batch': of all sequences of the global batch;
  * 'sequence': of the same sequence;
  * 'group': of the sequences of the same group, say the same speaker;
  * 'others': of all sequences but this one;
  * 'group_others': of the same group's sequences but this one.

  All of them, or `num_negatives` drawn uniformly with replacement for each sequence: its contexts and all k share what
  was drawn, so that one matrix product scores them. Where the target of one is among the drawn, that one has a negative
  less. The draws do not depend on how many devices share the batch, provided that all hold the same key.

  With `objective='ml_cpc'` the contexts of each k share one denominator (multi-label CPC), of weights that sum to 1:

  .. math::
    \mathrm{loss}_k = \operatorname{mean}_{i} \log m_i - \operatorname{mean}_{i} f_{ii} + \log \sum_i \Big(
      \frac{\alpha}{n m_i} e^{f_{ii}} + \frac{m_i - \alpha}{n m_i (m_i - 1)} \sum_{j \neq i} e^{f_{ij}} \Big)

  over the n contexts i with m_i candidates each. Equal scores cost mean log m, as in InfoNCE, whatever alpha; the least
  is log alpha, so a small alpha lifts the ceiling of the bound, from log m to log(m / alpha). See `geometric_alpha`
  for a schedule. The gradients shrink with alpha: the paper's code divides the loss by it, `cpc_info_nce(...) / alpha`.
  With 'info_nce', alpha weighs the target in the same way (alpha-CPC), but below 1 that bounds nothing.

  Example:
    >>> import jax.numpy as jnp
    >>> from jaxssl import losses
    >>> z = 2 * jnp.eye(4)[None]  # One sequence of four steps.
    >>> predictions = jnp.roll(z, -1, axis=1)[:, :, None]  # K = 1: each step foresees the next.
    >>> print(f'{losses.cpc_info_nce(predictions, z):.4f}')  # log(1 + 3 exp(-4))
    0.0535

  Args:
    predictions: [b, t, K, d]; `predictions[:, i, k - 1]` is W_k c_i, what the context of step i predicts for
      `z[:, i + k]`.
    z: [b, t, d], more than K steps.
    negatives: see above.
    num_negatives: how many to draw; None: all there are.
    key: of `jax.random`, for the draws; the same on all devices. Only with `num_negatives`.
    group: int [b], the group of each sequence; only for 'group' and 'group_others'.
    mask: bool [b, t], False for padding: no context, no target, no negative. None: all steps count.
    objective: 'info_nce' or 'ml_cpc'.
    alpha: scalar in (0, N), N the number of candidates; Python number or (traced) array.
    axis_name: the mapped axis or axes whose devices share the batch.
    chunk: how many contexts have their scores stored at a time, at least one a sequence; None: by a budget. The
      backward pass computes them again, unless they are all one chunk. The value does not depend on it, but for
      rounding.

  Returns:
    The mean over k of the mean over the contexts of the global batch, a float32 scalar in nats. Contexts without a
    target or with no more candidates than 1 and alpha are left out, and so is a k that has no others.

  Raises:
    ValueError: naming the argument whose shape, dtype, name or range is wrong, or that is missing.

  References:
    van den Oord et al., `Representation Learning with Contrastive Predictive Coding
    <https://arxiv.org/abs/1807.03748>`_, 2018, equation 4 and table 2 for the choice of negatives; Song and Ermon,
    `Multi-label Contrastive Predictive Coding <https://arxiv.org/abs/2007.09852>`_, 2020.
  """
  return _over_batch(
      _loss, predictions, z, mask, group, key, alpha, axis_name,
      negatives=negatives, num_negatives=num_negatives, objective=objective, chunk=chunk)


def cpc_accuracy_and_bound(
    predictions: ArrayLike,
    z: ArrayLike,
    *,
    negatives: str = 'batch',
    num_negatives: int | None = None,
    key: ArrayLike | None = None,
    group: ArrayLike | None = None,
    mask: ArrayLike | None = None,
    objective: str = 'info_nce',
    alpha: ArrayLike = 1.0,
    axis_name: AxisName | None = None,
    chunk: int | None = None,
) -> tuple[jax.Array, jax.Array]:
  """How often the step that came scores highest, and how much is known of it, at each distance k.

  The bound is the mean over contexts of log N less the loss at k: an estimate of the mutual information of context and
  target, never above the mean of log N (of log(N / alpha), for another alpha).

  Example:
    >>> import jax.numpy as jnp
    >>> from jaxssl import losses
    >>> z = 2 * jnp.eye(4)[None]
    >>> predictions = jnp.roll(z, -1, axis=1)[:, :, None]
    >>> accuracy, bound = losses.cpc_accuracy_and_bound(predictions, z)
    >>> print(accuracy, f'{bound[0]:.4f}')  # log 4 - log(1 + 3 exp(-4))
    [1.] 1.3328

  Args:
    predictions: as in `cpc_info_nce`, like all that follow.
    z: likewise.
    negatives: likewise.
    num_negatives: likewise.
    key: likewise.
    group: likewise.
    mask: likewise.
    objective: likewise.
    alpha: likewise.
    axis_name: likewise.
    chunk: likewise.

  Returns:
    Two float32 arrays [K] over the global batch: the fraction of contexts whose target scores higher than every
    negative (a tie, up to float32 rounding, is a miss), and the bound in nats. Both are 0 at a k without a context.

  Raises:
    ValueError: as `cpc_info_nce`.
  """
  accuracy, bound = _over_batch(
      _accuracy_and_bound, predictions, z, mask, group, key, alpha, axis_name,
      negatives=negatives, num_negatives=num_negatives, objective=objective, chunk=chunk)
  return accuracy, bound


def _over_batch(kernel, predictions, z, mask, group, key, alpha, axis_name, **settings):
  split = _sequences(predictions, z, mask)
  _checks.choice('negatives', settings['negatives'], NEGATIVES)
  _checks.choice('objective', settings['objective'], OBJECTIVES)
  whole = {}
  for name in ('num_negatives', 'chunk'):
    if settings[name] is not None:
      _checks.count(name, settings[name])
  if settings['negatives'] in ('group', 'group_others'):
    if group is None:
      raise ValueError(f'group must be given for negatives={settings["negatives"]!r}, got None')
    split['group'] = _checks.integers('group', group, (len(split['z']),))
  if settings['num_negatives'] is not None:
    if key is None:
      raise ValueError(f'key must be given for num_negatives={settings["num_negatives"]}, got None')
    whole['key'] = key
  if _checks.is_number(alpha):
    settings['alpha'] = alpha  # A Python number stays one, so that its range can be checked.
  else:
    whole['alpha'] = _checks.scalar('alpha', alpha)
  return over_batch(functools.partial(kernel, **settings), split, whole, axis_name)


def _sequences(predictions, z, mask):
  predictions, z = _checks.floating('predictions', predictions), _checks.floating('z', z)
  if predictions.ndim != 4 or 0 in predictions.shape:
    raise ValueError(f'predictions must have shape [b, t, K, d], none of them 0, got {list(predictions.shape)}')
  b, t, steps, d = predictions.shape
  if z.shape != (b, t, d):
    raise ValueError(f'z must have shape {[b, t, d]}, that of predictions without K, got {list(z.shape)}')
  if steps > t - 1:
    raise ValueError(f'predictions foresee K = {steps} steps, which sequences of t = {t} steps do not have: K must be '
                     f'at most t - 1')
  mask = jnp.ones((b, t), bool) if mask is None else jnp.asarray(mask)
  if mask.dtype != bool or mask.shape != (b, t):
    raise ValueError(f'mask must be boolean of shape {[b, t]}, got {mask.dtype} {list(mask.shape)}')
  return {'predictions': predictions, 'z': z, 'mask': mask}


def _loss(axis_name, **arguments):
  per_step, _, _, exists = _per_step(axis_name=axis_name, **arguments)
  return jnp.sum(per_step) / jnp.maximum(jnp.sum(exists), 1)


def _accuracy_and_bound(predictions, z, axis_name, **arguments):
  loss, log_count, scores, exists = _per_step(predictions, z, axis_name=axis_name, **arguments)
  # What rounding may make of equal scores: the target's and the others' were not summed in the same order.
  rounding = jnp.finfo(jnp.float32).eps * z.shape[-1] ** 0.5 * _cpc.along(jnp.abs(predictions), jnp.abs(z))
  accuracy, _ = _mean(scores.positive > scores.highest + rounding, scores.valid, axis_name)
  return jnp.stack([accuracy, log_count - loss])


def _per_step(predictions, z, mask, alpha, axis_name, objective, negatives, num_negatives, chunk, group=None, key=None):
  """Returns the loss and the mean of log N at each k, the scores they come from, and whether there are any at k."""
  count = devices(axis_name).count
  if negatives in ('others', 'group_others') and len(z) * count < 2:
    raise ValueError(f'negatives={negatives!r} come from other sequences: z must hold two or more, got 1')
  _checks.alpha(alpha, _cpc.most_candidates(z.shape, count, negatives, num_negatives))
  scores = _cpc.scores(
      predictions, z, mask, alpha, axis_name, negatives, num_negatives, chunk, group=group, key=key)
  log_count, contexts = _mean(jnp.log(scores.candidates), scores.valid, axis_name)
  if objective == 'info_nce':
    loss, _ = _mean(scores.lse - scores.positive, scores.valid, axis_name)
  else:
    positive, _ = _mean(scores.positive, scores.valid, axis_name)
    normalised = scores.lse - jnp.log(scores.candidates)
    loss = log_count - positive + _log_mean_exp(normalised, scores.valid, contexts, axis_name)
  return loss, log_count, scores, contexts > 0


def _mean(x, valid, axis_name):
  """Returns the mean of `x` over the valid contexts of the global batch at each k, 0 without any; and their number."""
  total, count = jnp.sum(jnp.where(valid, x, 0), axis=(0, 1)), jnp.sum(valid, axis=(0, 1), dtype=jnp.float32)
  if axis_name is not None:
    total, count = lax.psum(total, axis_name), lax.psum(count, axis_name)
  return total / jnp.maximum(count, 1), count


def _log_mean_exp(x, valid, contexts, axis_name):
  """Returns log(mean(exp(x))) over the valid contexts of the global batch at each k, 0 without any."""
  x = jnp.where(valid, x, -jnp.inf)
  top = lax.stop_gradient(jnp.max(x, axis=(0, 1)))
  top = top if axis_name is None else lax.pmax(top, axis_name)
  top = jnp.where(contexts > 0, top, 0)
  total = jnp.sum(jnp.exp(x - top[None, None]), axis=(0, 1))
  total = total if axis_name is None else lax.psum(total, axis_name)
  return top + jnp.log(jnp.where(contexts > 0, total / jnp.maximum(contexts, 1), 1))
