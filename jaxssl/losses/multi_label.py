r"""Multi-label CPC: all positives of the batch are found among all its candidates at once.

Where CPC (InfoNCE) has a denominator for each anchor, multi-label CPC has one for all n of them. With alpha, the weight
of the positives in it, the loss of n anchors with m candidates each, the positive among them, is

.. math::
  \mathrm{loss} = \log m - L_\alpha = -\frac{1}{n} \sum_i s_i^+ + \log \frac{1}{n} \Big(
    \alpha \sum_i e^{s_i^+} + \frac{m - \alpha}{m - 1} \sum_i \sum_{j=1}^{m-1} e^{s_{ij}} \Big)

L is `ml_cpc_bound`: a lower bound on the mutual information for alpha in [m / (n (m - 1) + 1), 1] (Song and Ermon's
theorem, for negatives drawn independently), never above log(m / alpha), or log(n (m - 1) + 1) at the least such alpha.
So equal scores cost log m whatever alpha, the loss is never below log alpha, and its gradient shrinks with alpha: the
paper's code rescales it, which is `multi_label_info_nce(...) / alpha`. See `geometric_alpha` for a schedule that starts
at easy, large alphas: above 1 the bound is looser still (at m it is at most 0), below the interval none is proven.

Where they run, `axis_name` and the ambient mesh mean the same as in `jaxssl.losses.contrastive`: n counts the anchors
of the global batch, and the denominator is one for all devices. `implementation` is 'dense', 'tiled' or None, which
chooses by size.
"""

import functools
import math

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from jaxssl import ops
from jaxssl.losses import _anchors, _checks, _dense
from jaxssl.losses._choice import dense_or_tiled
from jaxssl.losses._collectives import (
    AxisName,
    devices,
    gather,
    gathered_index,
    global_lse,
    global_mean,
    over_batch,
    vary,
)


def multi_label_info_nce(
    query: ArrayLike,
    key: ArrayLike,
    negatives: ArrayLike | None = None,
    *,
    temperature: ArrayLike = 0.1,
    alpha: ArrayLike = 1.0,
    normalize: bool = True,
    axis_name: AxisName | None = None,
    implementation: str | None = None,
) -> jax.Array:
  r"""InfoNCE with one denominator for all queries: multi-label CPC of pairs, of a queue (MoCo), or in distillation.

  .. math::
    \mathrm{loss} = -\frac{1}{n} \sum_i s_i^+ + \log \frac{1}{n} \Big(
      \alpha \sum_i e^{s_i^+} + \frac{m - \alpha}{m - 1} \sum_i \sum_j e^{s_{ij}} \Big),
    \qquad s_i^+ = q_i \cdot k_i / \tau, \quad s_{ij} = q_i \cdot \bar k_{ij} / \tau

  m counts a query's candidates: its key and m - 1 negatives. See this module's introduction for alpha.

  Example:
    >>> import jax.numpy as jnp
    >>> from jaxssl import losses
    >>> query = jnp.eye(3)
    >>> print(f'{losses.multi_label_info_nce(query, query, temperature=0.5):.4f}')  # log(1 + 2 exp(-2))
    0.2395
    >>> print(f'{losses.multi_label_info_nce(query, query, temperature=0.5, alpha=0.5):.4f}')  # Not below log 0.5.
    -0.1763
    >>> bank = jnp.zeros([7, 3])
    >>> print(f'{losses.multi_label_info_nce(query, query, bank, temperature=0.5):.4f}')  # log(1 + 7 exp(-2))
    0.6665

  Args:
    query: [n, d].
    key: [n, d], the positive of each query.
    negatives: None: the other keys of the global batch, N in all, m = N. [K, d]: a bank that all queries share,
      m = 1 + K; it is not gathered, so every device must hold the same. [n, K, d]: each query's own, m = 1 + K, on the
      query's device.
    temperature: scalar, Python number or (traced, learnable) array.
    alpha: scalar in (0, m), likewise; traced, one above m gives NaN.
    normalize: whether to compare by cosine; otherwise by the inner product as it is.
    axis_name: the mapped axis or axes whose devices share the batch.
    implementation: see this module's introduction; each query's own negatives are always 'dense', since their scores
      are fewer than they.

  Returns:
    The loss of the global batch, a float32 scalar in nats.

  Raises:
    ValueError: naming the argument whose shape, dtype, range or name is wrong, or if there are no negatives.

  References:
    Song and Ermon, `Multi-label Contrastive Predictive Coding <https://arxiv.org/abs/2007.09852>`_, 2020; the queue's
    form is that of the authors' main_moco_cifar.py, https://github.com/jiamings/ml-cpc.
  """
  query, key = _checks.embeddings(query=query, key=key)
  _checks.flag('normalize', normalize)
  arrays = {'query': query, 'key': key}
  if negatives is not None:
    arrays['negatives'] = _checks.negatives(negatives, *query.shape)
    if not arrays['negatives'].shape[-2]:
      raise ValueError(f'negatives must not be empty, got shape {list(arrays["negatives"].shape)}')
  if normalize:
    arrays = {name: ops.l2_normalize(x) for name, x in arrays.items()}
  whole = {}
  if negatives is not None and arrays['negatives'].ndim == 2:
    whole['negatives'] = arrays.pop('negatives')
  kernel = functools.partial(_multi_label_info_nce, unit=normalize)
  return _of_batch(kernel, arrays, whole, temperature, alpha, axis_name, implementation)


def multi_label_nt_xent(
    z1: ArrayLike,
    z2: ArrayLike,
    *,
    temperature: ArrayLike = 0.1,
    alpha: ArrayLike = 1.0,
    axis_name: AxisName | None = None,
    implementation: str | None = None,
) -> jax.Array:
  r"""NT-Xent with one denominator for all 2n anchors: multi-label CPC with SimCLR's candidates.

  .. math::
    \mathrm{loss} = -\frac{1}{2n} \sum_i s_{i p(i)} + \log \frac{1}{2n} \sum_i \Big(
      \alpha e^{s_{i p(i)}} + \frac{m - \alpha}{m - 1} \sum_{k \notin \{i, p(i)\}} e^{s_{ik}} \Big),
    \qquad s = \mathrm{sim} / \tau, \quad m = 2n - 1

  p(i) is the other view of the anchor's example. At alpha 1 it is never below `nt_xent`, and the same where all anchors
  have the same denominator. See this module's introduction for alpha.

  Example:
    >>> import jax.numpy as jnp
    >>> from jaxssl import losses
    >>> z = jnp.eye(3)
    >>> print(f'{losses.multi_label_nt_xent(z, z, temperature=0.5):.4f}')  # log(1 + 4 exp(-2)), as in `nt_xent`
    0.4327
    >>> print(f'{losses.multi_label_nt_xent(z, z, temperature=0.5, alpha=0.5):.4f}')
    0.1035

  Args:
    z1: [n, d], embeddings of the first views, of any length; two examples or more in the global batch.
    z2: [n, d], embeddings of the second views, in the same order.
    temperature: scalar, Python number or (traced, learnable) array.
    alpha: scalar in (0, 2n - 1), n of the global batch, likewise; traced, one above gives NaN.
    axis_name: the mapped axis or axes whose devices share the batch.
    implementation: see this module's introduction.

  Returns:
    The loss of the global batch, a float32 scalar in nats.

  Raises:
    ValueError: naming the argument whose shape, dtype, range or name is wrong, or if there are no negatives.

  References:
    Song and Ermon, `Multi-label Contrastive Predictive Coding <https://arxiv.org/abs/2007.09852>`_, 2020; the
    candidates are those of Chen et al. 2020, https://arxiv.org/abs/2002.05709, equation 1.
  """
  z1, z2 = _checks.embeddings(z1=z1, z2=z2)
  split = {'z1': ops.l2_normalize(z1), 'z2': ops.l2_normalize(z2)}
  return _of_batch(_multi_label_nt_xent, split, {}, temperature, alpha, axis_name, implementation)


def geometric_alpha(step: ArrayLike, steps: int, *, high: float = 10.0, low: float = 0.1) -> jax.Array:
  """The alpha of multi-label CPC at a step: from `high` down to `low`, by the same factor at every step.

  Example:
    >>> from jaxssl import losses
    >>> print(f'{losses.geometric_alpha(0, 100):.2f} {losses.geometric_alpha(50, 100):.2f}')
    10.00 1.00

  Args:
    step: of the training, may be traced.
    steps: length of the run; alpha is `low` from there on.
    high: alpha at step 0.
    low: alpha at the end.

  Returns:
    A float32 scalar.

  Raises:
    ValueError: unless `steps`, `high` and `low` are positive.

  References:
    The schedule that the authors recommend, https://github.com/jiamings/ml-cpc.
  """
  for name, value in {'steps': steps, 'high': high, 'low': low}.items():
    _checks.positive(name, value)
  left = 1 - jnp.clip(_checks.scalar('step', step) / steps, 0, 1)
  return jnp.exp((jnp.log(high) - jnp.log(low)) * left + jnp.log(low))


def cpc_bound(positive: ArrayLike, negatives: ArrayLike, *, alpha: ArrayLike = 1.0) -> jax.Array:
  r"""CPC's lower bound on the mutual information, to be maximised; with another alpha, alpha-CPC.

  .. math::
    L(g) = \frac{1}{n} \sum_{i=1}^{n}
      \log \frac{m \, g_i}{\alpha \, g_i + \frac{m - \alpha}{m - 1} \sum_{j=1}^{m-1} g_{ij}},
      \qquad g = \exp(\mathrm{score})

  At alpha 1 it is log m less the cross-entropy (InfoNCE, the loss), and at most log m. In general it is at most
  log(m / alpha); below alpha 1 it is no bound on the mutual information. Equal scores give 0.

  Example:
    >>> import jax.numpy as jnp
    >>> from jaxssl import losses
    >>> print(f'{losses.cpc_bound(jnp.full(2, 4.0), jnp.zeros((2, 3))):.4f}')  # log 4 - log(1 + 3 exp(-4))
    1.3328

  Args:
    positive: [n], the log-score of each pair that belongs together.
    negatives: [n, m - 1], those of the same x with what does not belong to it.
    alpha: scalar in (0, m), Python number or (traced) array.

  Returns:
    A float32 scalar in nats.

  Raises:
    ValueError: naming the argument whose shape, dtype or range is wrong.

  References:
    van den Oord et al., `Representation Learning with Contrastive Predictive Coding
    <https://arxiv.org/abs/1807.03748>`_, 2018; Song and Ermon, `Multi-label Contrastive Predictive Coding
    <https://arxiv.org/abs/2007.09852>`_, 2020.
  """
  scores, weighted = _weighted(positive, negatives, alpha)
  return jnp.mean(scores - jax.nn.logsumexp(weighted, axis=1))


def ml_cpc_bound(positive: ArrayLike, negatives: ArrayLike, *, alpha: ArrayLike = 1.0) -> jax.Array:
  r"""Multi-label CPC's lower bound on the mutual information, to be maximised (alpha-ML-CPC).

  .. math::
    \frac{1}{n} \sum_{i=1}^{n} \log \frac{n m \, g_i}
      {\alpha \sum_l g_l + \frac{m - \alpha}{m - 1} \sum_l \sum_{j=1}^{m-1} g_{lj}}, \qquad g = \exp(\mathrm{score})

  One denominator for all pairs. It is at most log(m / alpha), and a bound for alpha in [m / (n (m - 1) + 1), 1]: the
  smallest lifts the ceiling to log(n (m - 1) + 1). At the same alpha it is never above `cpc_bound`. Equal
  scores give 0.

  Example:
    >>> import jax.numpy as jnp
    >>> from jaxssl import losses
    >>> positive, negatives = jnp.full(2, 4.0), jnp.zeros((2, 3))
    >>> print(f'{losses.ml_cpc_bound(positive, negatives):.4f}')
    1.3328
    >>> print(f'{losses.ml_cpc_bound(positive, negatives, alpha=4 / 7):.4f}')  # Up to log 7.
    1.8416

  Args:
    positive: [n], the log-score of each pair that belongs together.
    negatives: [n, m - 1], those of the same x with what does not belong to it.
    alpha: scalar in (0, m), Python number or (traced) array.

  Returns:
    A float32 scalar in nats.

  Raises:
    ValueError: naming the argument whose shape, dtype or range is wrong.

  References:
    Song and Ermon, `Multi-label Contrastive Predictive Coding <https://arxiv.org/abs/2007.09852>`_, 2020.
  """
  scores, weighted = _weighted(positive, negatives, alpha)
  return jnp.mean(scores) - jax.nn.logsumexp(weighted) + math.log(scores.size)


def _of_batch(kernel, split, whole, temperature, alpha, axis_name, implementation):
  _checks.implementation(implementation, _checks.DENSE_OR_TILED)
  settings = {'implementation': implementation}
  whole = {**whole, 'temperature': _checks.temperature(temperature)}
  if _checks.is_number(alpha):
    settings['alpha'] = alpha  # A Python number stays one, so that its range can be checked.
  else:
    whole['alpha'] = _checks.scalar('alpha', alpha)
  return over_batch(functools.partial(kernel, **settings), split, whole, axis_name)


def _multi_label_info_nce(query, key, temperature, alpha, axis_name, implementation, unit, negatives=None):
  shared = devices(axis_name)
  candidates = len(key) * shared.count if negatives is None else 1 + negatives.shape[-2]
  if candidates < 2:
    raise ValueError('query must hold two rows or more where no negatives are given, got 1 in the global batch')
  query, key, inverse = vary(axis_name, query, key, 1 / temperature)
  positive = jnp.sum(query * key, axis=1) * inverse
  form = dense_or_tiled(implementation, len(query), candidates)
  if form == 'dense' or (negatives is not None and negatives.ndim == 3):
    scores = _dense.inner_products(query, gather(key, axis_name) if negatives is None else negatives) * inverse
    if negatives is None:
      itself = gathered_index(len(query), axis_name)[:, None] == jnp.arange(candidates)[None, :]
      scores = jnp.where(itself, -jnp.inf, scores)
    negative = global_lse(scores, axis_name)
  else:
    others, holders = (key, shared) if negatives is None else (*vary(axis_name, query, negatives)[1:], devices(None))
    negative = _anchors.cross_lse_sum(
        (query, others, inverse), _over_anchors(axis_name), unit, negatives is None, holders)
  return _one_denominator(positive, negative, candidates, alpha, axis_name)


def _multi_label_nt_xent(z1, z2, temperature, alpha, axis_name, implementation):
  shared = devices(axis_name)
  rows, everyone = 2 * len(z1), 2 * len(z1) * shared.count
  if everyone < 4:
    raise ValueError('z1 must hold two rows or more, got 1 in the global batch: there are no negatives')
  z, inverse = vary(axis_name, jnp.concatenate([z1, z2]), 1 / temperature)
  positive = jnp.sum(z * jnp.roll(z, len(z1), axis=0), axis=1) * inverse
  if dense_or_tiled(implementation, rows, everyone) == 'dense':
    scores, other_view = _dense.view_scores(z1, z2, temperature, axis_name)
    is_positive = other_view[:, None] == jnp.arange(everyone)[None, :]
    negative = global_lse(jnp.where(is_positive, -jnp.inf, scores), axis_name)
  else:
    negative = _anchors.lse_sum((z, inverse), _over_anchors(axis_name), (1.0,), True, shared)
  return _one_denominator(positive, negative, everyone - 1, alpha, axis_name)


def _over_anchors(axis_name):
  """Returns for `_anchors` the log-sum-exp over all anchors of theirs [n]: the same, but each device's own copy.

  `jax.vmap` would take what is equal on all devices for one number, and hand its gradient to each of them whole.
  """
  return lambda lses, *_: jnp.where(
      gathered_index(1, axis_name)[0] >= 0, global_lse(lses[0], axis_name), jnp.nan)  # Always.


def _one_denominator(positive, negative, candidates, alpha, axis_name):
  """Returns the loss of anchors with `candidates` each, from their positives' scores and all negatives' log-sum-exp."""
  _checks.alpha(alpha, candidates)
  alpha = _checks.scalar('alpha', alpha)
  weight_of_negatives = jnp.log((candidates - alpha) / (candidates - 1))
  total = jnp.logaddexp(global_lse(positive, axis_name) + jnp.log(alpha), negative + weight_of_negatives)
  return global_mean(total - jnp.mean(positive), axis_name) - math.log(len(positive) * devices(axis_name).count)


def _weighted(positive, negatives, alpha):
  """Returns the log-scores of the pairs that belong together, and all of them [n, m] with weights of sum 1 a row."""
  positive, negatives = _checks.floating('positive', positive), _checks.floating('negatives', negatives)
  if positive.ndim != 1 or not positive.size:
    raise ValueError(f'positive must have shape [n], n not 0, got {list(positive.shape)}')
  if negatives.ndim != 2 or len(negatives) != positive.size or not negatives.size:
    raise ValueError(
        f'negatives must have shape [{positive.size}, m - 1], with m above 1, got {list(negatives.shape)}')
  m = 1 + negatives.shape[1]
  _checks.alpha(alpha, m)
  alpha = _checks.scalar('alpha', alpha)
  weighted = [positive[:, None] + jnp.log(alpha / m), negatives + jnp.log((m - alpha) / (m * (m - 1)))]
  return positive, jnp.concatenate(weighted, axis=1)
