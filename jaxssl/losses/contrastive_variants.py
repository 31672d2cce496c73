"""Relatives of NT-Xent and InfoNCE: other positives, other weights, other links. All store their scores ('dense').

Where they run, `axis_name` and the ambient mesh mean the same as in `jaxssl.losses.contrastive`. InfoNCE against a
queue of past keys, as in MoCo, is `info_nce(query, key, queue)`.
"""

import functools

import jax
import jax.numpy as jnp
from jax import lax
from jax.typing import ArrayLike

from jaxssl import ops
from jaxssl.losses import _checks, _dense
from jaxssl.losses._collectives import AxisName, gather, gathered_index, global_mean, over_batch


def supervised_contrastive(
    z: ArrayLike, labels: ArrayLike, *, temperature: ArrayLike = 0.1, axis_name: AxisName | None = None
) -> jax.Array:
  r"""The supervised contrastive loss: every example of the anchor's class is a positive.

  .. math::
    \ell_i = -\frac{1}{|P(i)|} \sum_{p \in P(i)}
      \log \frac{\exp(\mathrm{sim}(z_i, z_p) / \tau)}{\sum_{k \neq i} \exp(\mathrm{sim}(z_i, z_k) / \tau)}

  P(i) are the other rows with the label of i; the mean over them stands outside the logarithm. Rows without one are
  left out of the mean; the loss of a batch without any positive is 0. Where all labels of two views differ,
  `supervised_contrastive(concatenate([z1, z2]), tile(labels, 2))` is `nt_xent(z1, z2)`.

  Example:
    >>> import jax.numpy as jnp
    >>> from jaxssl import losses
    >>> z = jnp.tile(jnp.eye(3), (2, 1))  # log(1 + 4 exp(-2)), as in `nt_xent`.
    >>> print(f'{losses.supervised_contrastive(z, jnp.array([0, 1, 2, 0, 1, 2]), temperature=0.5):.4f}')
    0.4327

  Args:
    z: [n, d], embeddings, of any length.
    labels: [n], integers.
    temperature: scalar, Python number or (traced, learnable) array.
    axis_name: the mapped axis or axes whose devices share the batch.

  Returns:
    The mean over the rows of the global batch that have a positive, a float32 scalar in nats.

  Raises:
    ValueError: naming the argument whose shape or dtype is wrong.

  References:
    Khosla et al., `Supervised Contrastive Learning <https://arxiv.org/abs/2004.11362>`_, 2020, equation 2 (L_out).
  """
  (z,) = _checks.embeddings(z=z)
  labels = _checks.integers('labels', labels, (len(z),))
  split = {'z': ops.l2_normalize(z), 'labels': labels}
  whole = {'temperature': _checks.scalar('temperature', temperature)}
  return over_batch(_supervised_contrastive, split, whole, axis_name)


def multi_positive_info_nce(
    query: ArrayLike,
    key: ArrayLike,
    positives: ArrayLike,
    candidates: ArrayLike | None = None,
    *,
    temperature: ArrayLike = 0.1,
    axis_name: AxisName | None = None,
) -> jax.Array:
  r"""InfoNCE with any number of positives a query, and with false negatives taken out.

  .. math::
    \ell_i = -\frac{1}{|P(i)|} \sum_{p \in P(i)}
      \log \frac{\exp(\mathrm{sim}(q_i, k_p) / \tau)}{\sum_{j \in C(i)} \exp(\mathrm{sim}(q_i, k_j) / \tau)}

  Example:
    >>> import jax.numpy as jnp
    >>> from jaxssl import losses
    >>> z = jnp.eye(3)
    >>> known = jnp.ones((3, 3), bool).at[0, 1].set(False).at[1, 0].set(False)  # 0 and 1 may be the same thing.
    >>> print(f'{losses.multi_positive_info_nce(z, z, jnp.eye(3, dtype=bool), known, temperature=0.5):.4f}')
    0.1645

  Args:
    query: [n, d], embeddings, of any length.
    key: [n, d].
    positives: bool [n, N], P: which keys of the global batch, N in all, are positives of this device's queries.
    candidates: bool [n, N], C: which keys stand in the denominator, positives in any case; None: all. What is suspected
      to be a positive, but not known to be one, is best left out.
    temperature: scalar, Python number or (traced, learnable) array.
    axis_name: the mapped axis or axes whose devices share the batch.

  Returns:
    The mean over the queries of the global batch that have a positive, a float32 scalar in nats; 0 where none has.

  Raises:
    ValueError: naming the argument whose shape or dtype is wrong.

  References:
    The loss of Khosla et al. 2020, https://arxiv.org/abs/2004.11362, equation 2, for given positives; leaving false
    negatives out is the elimination of Huynh et al. 2022, https://arxiv.org/abs/2011.11765.
  """
  query, key = _checks.embeddings(query=query, key=key)
  split = {'query': ops.l2_normalize(query), 'key': ops.l2_normalize(key),
           'positives': _checks.mask('positives', positives, len(query))}
  if candidates is not None:
    split['candidates'] = _checks.mask('candidates', candidates, len(query))
  whole = {'temperature': _checks.scalar('temperature', temperature)}
  return over_batch(_multi_positive_info_nce, split, whole, axis_name)


def decoupled_nt_xent(
    z1: ArrayLike,
    z2: ArrayLike,
    *,
    temperature: ArrayLike = 0.1,
    sigma: float | None = None,
    axis_name: AxisName | None = None,
) -> jax.Array:
  r"""Decoupled contrastive learning: NT-Xent without the positive in the denominator (DCL; with `sigma`, DCLW).

  .. math::
    \ell_i = -w_i \, \mathrm{sim}(z_i, z_{p(i)}) / \tau
             + \log \sum_{k \notin \{i, p(i)\}} \exp(\mathrm{sim}(z_i, z_k) / \tau)

  The gradient no longer vanishes as the positive is found, so small batches and short runs learn faster. w = 1, or with
  `sigma` 2 - exp(sim / sigma) / mean exp(sim / sigma), over the examples of the global batch and without a gradient:
  hard positives weigh more. The loss has no lower bound of 0, and needs two examples.

  Example:
    >>> import jax.numpy as jnp
    >>> from jaxssl import losses
    >>> z = jnp.eye(3)
    >>> print(f'{losses.decoupled_nt_xent(z, z, temperature=0.5):.4f}')  # log 4 - 2
    -0.6137

  Args:
    z1: [n, d], embeddings of the first views, of any length.
    z2: [n, d], embeddings of the second views, in the same order.
    temperature: scalar, Python number or (traced, learnable) array.
    sigma: None, or the width of DCLW's weights, 0.5 in the paper.
    axis_name: the mapped axis or axes whose devices share the batch.

  Returns:
    The mean over the 2n anchors of the global batch, a float32 scalar in nats.

  Raises:
    ValueError: naming the argument whose shape or dtype is wrong.

  References:
    Yeh et al., `Decoupled Contrastive Learning <https://arxiv.org/abs/2110.06848>`_, 2022, L_DC and L_DCW.
  """
  return _of_views(functools.partial(_decoupled_nt_xent, sigma=sigma), z1, z2, axis_name, temperature=temperature)


def debiased_nt_xent(
    z1: ArrayLike,
    z2: ArrayLike,
    *,
    temperature: ArrayLike = 0.5,
    prior: float = 0.1,
    hardness: float = 0.0,
    axis_name: AxisName | None = None,
) -> jax.Array:
  r"""NT-Xent corrected for negatives that are of the anchor's class, and with weight on hard negatives.

  .. math::
    \ell_i = -\log \frac{e^{s_i^+}}{e^{s_i^+} + m g_i}, \qquad
    g_i = \max\left(\frac{\sum_k w_{ik} e^{s_{ik}} / m - \pi e^{s_i^+}}{1 - \pi}, e^{-1/\tau}\right), \qquad
    w_{ik} = \frac{e^{\beta s_{ik}}}{\sum_l e^{\beta s_{il}} / m}

  over the m = 2n - 2 negatives k of anchor i, with s = sim / temperature. `prior`, pi, is the chance that a negative is
  of the anchor's class; `hardness`, beta, is 0 for the debiased loss and 1 in the paper on hard negatives. With both 0
  it is NT-Xent.

  Example:
    >>> import jax.numpy as jnp
    >>> from jaxssl import losses
    >>> z = jnp.eye(3)
    >>> print(f'{losses.debiased_nt_xent(z, z, temperature=0.5, prior=0.0):.4f}')
    0.4327

  Args:
    z1: [n, d], embeddings of the first views, of any length.
    z2: [n, d], embeddings of the second views, in the same order.
    temperature: scalar, Python number or (traced, learnable) array.
    prior: in [0, 1).
    hardness: at least 0.
    axis_name: the mapped axis or axes whose devices share the batch.

  Returns:
    The mean over the 2n anchors of the global batch, a float32 scalar in nats.

  Raises:
    ValueError: naming the argument whose shape, dtype or range is wrong.

  References:
    Chuang et al., `Debiased Contrastive Learning <https://arxiv.org/abs/2007.00224>`_, 2020; Robinson et al.,
    `Contrastive Learning with Hard Negative Samples <https://arxiv.org/abs/2010.04592>`_, 2021.
  """
  if not 0 <= prior < 1:
    raise ValueError(f'prior must lie in [0, 1), found {prior}.')
  if not hardness >= 0:
    raise ValueError(f'hardness must be at least 0, found {hardness}.')
  kernel = functools.partial(_debiased_nt_xent, prior=prior, hardness=hardness)
  return _of_views(kernel, z1, z2, axis_name, temperature=temperature)


def nt_logistic(
    z1: ArrayLike,
    z2: ArrayLike,
    *,
    temperature: ArrayLike = 0.1,
    margin: float | None = None,
    axis_name: AxisName | None = None,
) -> jax.Array:
  r"""The logistic loss of SimCLR's table 2: each pair of views is classified alone.

  .. math::
    \ell_i = -\log \sigma(s_i^+) - \frac{1}{|N(i)|} \sum_{k \in N(i)} \log \sigma(-s_{ik}),
    \qquad s = \mathrm{sim} / \tau

  N(i) are all 2n - 2 negatives or, with `margin`, the semi-hard ones: less similar than the positive, by less than the
  margin. Where there are none, the positive's term stands alone.

  Example:
    >>> import jax.numpy as jnp
    >>> from jaxssl import losses
    >>> z = jnp.eye(3)
    >>> print(f'{losses.nt_logistic(z, z, temperature=0.5):.4f}')  # log(1 + exp(-2)) + log 2
    0.8201

  Args:
    z1: [n, d], embeddings of the first views, of any length.
    z2: [n, d], embeddings of the second views, in the same order.
    temperature: scalar, Python number or (traced, learnable) array.
    margin: None, or the width of the semi-hard range, in cosine.
    axis_name: the mapped axis or axes whose devices share the batch.

  Returns:
    The mean over the 2n anchors of the global batch, a float32 scalar in nats.

  Raises:
    ValueError: naming the argument whose shape or dtype is wrong.

  References:
    Chen et al. 2020, https://arxiv.org/abs/2002.05709, table 2 and section 5.1.
  """
  return _of_views(functools.partial(_nt_logistic, margin=margin), z1, z2, axis_name, temperature=temperature)


def margin_triplet(
    z1: ArrayLike, z2: ArrayLike, *, margin: float = 0.8, semi_hard: bool = False, axis_name: AxisName | None = None
) -> jax.Array:
  r"""The margin (triplet) loss of SimCLR's table 2: a negative may come no closer than the positive, less a margin.

  .. math::
    \ell_i = \frac{1}{|N(i)|} \sum_{k \in N(i)}
      \max\left(\mathrm{sim}(z_i, z_k) - \mathrm{sim}(z_i, z_{p(i)}) + m, 0\right)

  N(i) are all 2n - 2 negatives or the semi-hard ones, less similar than the positive; without any, the anchor costs 0.

  Example:
    >>> import jax.numpy as jnp
    >>> from jaxssl import losses
    >>> z = jnp.eye(3)
    >>> print(f'{losses.margin_triplet(z, z, margin=1.5):.4f}')
    0.5000

  Args:
    z1: [n, d], embeddings of the first views, of any length.
    z2: [n, d], embeddings of the second views, in the same order.
    margin: m, in cosine.
    semi_hard: whether negatives closer than the positive are left out.
    axis_name: the mapped axis or axes whose devices share the batch.

  Returns:
    The mean over the 2n anchors of the global batch, a float32 scalar.

  Raises:
    ValueError: naming the argument whose shape or dtype is wrong.

  References:
    Chen et al. 2020, https://arxiv.org/abs/2002.05709, table 2 and section 5.1; semi-hard negatives: Schroff et al.
    2015, https://arxiv.org/abs/1503.03832.
  """
  return _of_views(functools.partial(_margin_triplet, margin=margin, semi_hard=semi_hard), z1, z2, axis_name)


def _of_views(kernel, z1, z2, axis_name, **scalars):
  z1, z2 = _checks.embeddings(z1=z1, z2=z2)
  split = {'z1': ops.l2_normalize(z1), 'z2': ops.l2_normalize(z2)}
  return over_batch(kernel, split, {name: _checks.scalar(name, value) for name, value in scalars.items()}, axis_name)


def _supervised_contrastive(z, labels, temperature, axis_name):
  scores = _dense.inner_products(z, gather(z, axis_name)) / temperature
  itself = gathered_index(len(z), axis_name)[:, None] == jnp.arange(scores.shape[1])[None, :]
  positives = (labels[:, None] == gather(labels, axis_name)[None, :]) & ~itself
  return _mean_over_positives(scores, positives, ~itself, axis_name)


def _multi_positive_info_nce(query, key, positives, temperature, axis_name, candidates=None):
  scores = _dense.inner_products(query, gather(key, axis_name)) / temperature
  if positives.shape != scores.shape or (candidates is not None and candidates.shape != scores.shape):
    raise ValueError(
        f'positives and candidates must have shape {list(scores.shape)}, this device\'s queries and all keys, found '
        f'{list(positives.shape)}' + ('.' if candidates is None else f' and {list(candidates.shape)}.'))
  candidates = jnp.ones_like(positives) if candidates is None else candidates | positives
  return _mean_over_positives(scores, positives, candidates, axis_name)


def _mean_over_positives(scores, positives, candidates, axis_name):
  """Returns the mean of lse over `candidates` - mean over `positives`.

  Over the rows of all devices that have a positive; a positive is always a candidate.
  """
  count = jnp.sum(positives, axis=1)
  lse = jax.nn.logsumexp(scores, axis=1, where=candidates | positives)
  mean = jnp.sum(jnp.where(positives, scores, 0), axis=1) / jnp.maximum(count, 1)
  total = jnp.sum(jnp.where(count > 0, lse - mean, 0))
  rows = jnp.sum(count > 0).astype(jnp.float32)
  if axis_name is not None:
    total, rows = lax.psum(total, axis_name), lax.psum(rows, axis_name)
  return total / jnp.maximum(rows, 1)


def _scores_of_views(z1, z2, temperature, axis_name):
  """Returns every anchor's score with its positive [2n], those with all views [2n, 2N], and which are negatives."""
  scores, positive = _dense.view_scores(z1, z2, temperature, axis_name)
  others = jnp.arange(scores.shape[1])[None, :] != positive[:, None]
  return jnp.take_along_axis(scores, positive[:, None], axis=1)[:, 0], scores, others & (scores > -jnp.inf)


def _decoupled_nt_xent(z1, z2, temperature, axis_name, sigma):
  positive, scores, negatives = _scores_of_views(z1, z2, temperature, axis_name)
  weight = jnp.ones_like(positive)
  if sigma is not None:
    shifted = lax.stop_gradient(jnp.exp((jnp.sum(z1 * z2, axis=1) - 1) / sigma))  # The shift cancels.
    weight = jnp.tile(2 - shifted / global_mean(shifted, axis_name), 2)
  return global_mean(jax.nn.logsumexp(scores, axis=1, where=negatives) - weight * positive, axis_name)


def _debiased_nt_xent(z1, z2, temperature, axis_name, prior, hardness):
  positive, scores, negatives = _scores_of_views(z1, z2, temperature, axis_name)
  count = scores.shape[1] - 2
  scores = jnp.where(negatives, scores, -jnp.inf)
  largest = lax.stop_gradient(jnp.maximum(positive, jnp.max(scores, axis=1)))  # All exponentials are relative to it.
  terms, found = jnp.exp(scores - largest[:, None]), jnp.exp(positive - largest)
  hard = jax.nn.softmax(jnp.where(negatives, hardness * jnp.where(negatives, scores, 0), -jnp.inf), axis=1)
  estimate = (jnp.sum(hard * terms, axis=1) - prior * found) / (1 - prior)
  negative = count * jnp.maximum(estimate, jnp.exp(-1 / temperature - largest))
  return global_mean(jnp.log(found + negative) - (positive - largest), axis_name)


def _nt_logistic(z1, z2, temperature, axis_name, margin):
  positive, scores, negatives = _scores_of_views(z1, z2, temperature, axis_name)
  if margin is not None:
    behind = positive[:, None] - scores
    negatives &= (behind > 0) & (behind < margin / temperature)
  terms = jax.nn.softplus(jnp.where(negatives, scores, -jnp.inf))
  mean = jnp.sum(terms, axis=1) / jnp.maximum(jnp.sum(negatives, axis=1), 1)
  return global_mean(jax.nn.softplus(-positive) + mean, axis_name)


def _margin_triplet(z1, z2, axis_name, margin, semi_hard):
  positive, scores, negatives = _scores_of_views(z1, z2, 1.0, axis_name)
  if semi_hard:
    negatives &= scores < positive[:, None]
  terms = jnp.maximum(jnp.where(negatives, scores, -jnp.inf) - positive[:, None] + margin, 0)
  return global_mean(jnp.sum(terms, axis=1) / jnp.maximum(jnp.sum(negatives, axis=1), 1), axis_name)
