"""Relatives of NT-Xent, of two views too: other negatives, other weights, other links.

Where they run, `axis_name` and the ambient mesh mean the same as in `jaxssl.losses.contrastive`, and so does
`implementation`, 'dense', 'tiled' or None, where there is one. `nt_logistic` with a margin and `margin_triplet` are
dense only: which negatives count, and for how much, differs from anchor to anchor, so no tile would serve both its
sides, and the semi-hard ones have to be counted in a sweep of their own. They are there for comparisons.

InfoNCE against a queue of past keys, as in MoCo, is `info_nce(query, key, queue)`.
"""

import functools

import jax
import jax.numpy as jnp
from jax import lax
from jax.typing import ArrayLike

from jaxssl import ops
from jaxssl.losses import _anchors, _checks, _dense
from jaxssl.losses._choice import dense_or_tiled
from jaxssl.losses._collectives import AxisName, devices, global_mean, over_batch, vary


def decoupled_nt_xent(
    z1: ArrayLike,
    z2: ArrayLike,
    *,
    temperature: ArrayLike = 0.1,
    sigma: float | None = None,
    axis_name: AxisName | None = None,
    implementation: str | None = None,
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
    sigma: None, or the width of DCLW's weights, 0.5 in the paper; a Python number, at least 0.05.
    axis_name: the mapped axis or axes whose devices share the batch.
    implementation: see this module's introduction.

  Returns:
    The mean over the 2n anchors of the global batch, a float32 scalar in nats.

  Raises:
    ValueError: naming the argument whose shape, dtype or name is wrong.

  References:
    Yeh et al., `Decoupled Contrastive Learning <https://arxiv.org/abs/2110.06848>`_, 2022, L_DC and L_DCW.
  """
  _checks.implementation(implementation, _checks.DENSE_OR_TILED)
  if sigma is not None:
    _checks.number('sigma', sigma, 0.05)
  kernel = functools.partial(_decoupled_nt_xent, sigma=sigma, implementation=implementation)
  return _of_views(kernel, z1, z2, axis_name, temperature=temperature)


def debiased_nt_xent(
    z1: ArrayLike,
    z2: ArrayLike,
    *,
    temperature: ArrayLike = 0.5,
    prior: float = 0.1,
    hardness: float = 0.0,
    axis_name: AxisName | None = None,
    implementation: str | None = None,
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
    prior: in [0, 1), a Python number, as `hardness`.
    hardness: at least 0.
    axis_name: the mapped axis or axes whose devices share the batch.
    implementation: see this module's introduction.

  Returns:
    The mean over the 2n anchors of the global batch, a float32 scalar in nats.

  Raises:
    ValueError: naming the argument whose shape, dtype, range or name is wrong.

  References:
    Chuang et al., `Debiased Contrastive Learning <https://arxiv.org/abs/2007.00224>`_, 2020; Robinson et al.,
    `Contrastive Learning with Hard Negative Samples <https://arxiv.org/abs/2010.04592>`_, 2021.
  """
  _checks.number('prior', prior, 0, 1)
  _checks.number('hardness', hardness, 0)
  _checks.implementation(implementation, _checks.DENSE_OR_TILED)
  kernel = functools.partial(_debiased_nt_xent, prior=prior, hardness=hardness, implementation=implementation)
  return _of_views(kernel, z1, z2, axis_name, temperature=temperature)


def nt_logistic(
    z1: ArrayLike,
    z2: ArrayLike,
    *,
    temperature: ArrayLike = 0.1,
    margin: float | None = None,
    axis_name: AxisName | None = None,
    implementation: str | None = None,
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
    margin: None, or the width of the semi-hard range, in cosine; a Python number.
    axis_name: the mapped axis or axes whose devices share the batch.
    implementation: see this module's introduction; with `margin` always 'dense'.

  Returns:
    The mean over the 2n anchors of the global batch, a float32 scalar in nats.

  Raises:
    ValueError: naming the argument whose shape, dtype or name is wrong.

  References:
    Chen et al. 2020, https://arxiv.org/abs/2002.05709, table 2 and section 5.1.
  """
  _checks.implementation(implementation, _checks.DENSE_OR_TILED)
  if margin is not None:
    _checks.number('margin', margin, 0)
    if implementation == 'tiled':
      raise ValueError("implementation must be None or 'dense' where a margin is given, got 'tiled'")
  kernel = functools.partial(_nt_logistic, margin=margin, implementation=implementation)
  return _of_views(kernel, z1, z2, axis_name, temperature=temperature)


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
    margin: m, in cosine; a Python number, at least 0.
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
  _checks.number('margin', margin, 0)
  _checks.flag('semi_hard', semi_hard)
  return _of_views(functools.partial(_margin_triplet, margin=margin, semi_hard=semi_hard), z1, z2, axis_name)


def _of_views(kernel, z1, z2, axis_name, **temperatures):
  z1, z2 = _checks.embeddings(z1=z1, z2=z2)
  split = {'z1': ops.l2_normalize(z1), 'z2': ops.l2_normalize(z2)}
  whole = {name: _checks.temperature(value, name) for name, value in temperatures.items()}
  return over_batch(kernel, split, whole, axis_name)


def _decoupled_nt_xent(z1, z2, temperature, axis_name, sigma, implementation):
  weight = jnp.float32(1)
  if sigma is not None:
    shifted = lax.stop_gradient(jnp.exp((jnp.sum(z1 * z2, axis=1) - 1) / sigma))  # The shift cancels.
    weight = 2 - shifted / global_mean(shifted, axis_name)
  shared = devices(axis_name)
  if dense_or_tiled(implementation, 2 * len(z1), 2 * len(z1) * shared.count) == 'dense':
    _, scores, negatives = _scores_of_views(z1, z2, temperature, axis_name)
    lse = jax.nn.logsumexp(scores, axis=1, where=negatives)
  else:
    z, inverse, _ = _anchors_of_views(z1, z2, temperature, axis_name)
    lse = _anchors.lse_sum((z, inverse), lambda lses, inverse: lses[0], (1.0,), True, shared) / len(z)
  positive = jnp.sum(z1 * z2, axis=1) / temperature
  return global_mean(lse, axis_name) - global_mean(weight * positive, axis_name)


def _debiased_nt_xent(z1, z2, temperature, axis_name, prior, hardness, implementation):
  shared = devices(axis_name)
  rows, everyone = 2 * len(z1), 2 * len(z1) * shared.count
  # The mean of exp(s) under weights exp(hardness * s) is a quotient of two sums of exponentials.
  powers = (1 + hardness, hardness) if hardness else (1.0,)
  loss = functools.partial(_debiased, prior=prior, count=everyone - 2)
  if dense_or_tiled(implementation, rows, everyone) == 'dense':
    positive, scores, negatives = _scores_of_views(z1, z2, temperature, axis_name)
    lses = [jax.nn.logsumexp(power * scores, axis=1, where=negatives) for power in powers]
    return global_mean(loss(lses, 1 / temperature, positive), axis_name)
  arrays = _anchors_of_views(z1, z2, temperature, axis_name)
  return global_mean(_anchors.lse_sum(arrays, loss, powers, True, shared) / rows, axis_name)


def _debiased(lses, inverse, positive, prior, count):
  """Returns the loss of anchors [n], from the log-sum-exps [n] of their `count` negatives' scores times each power."""
  if not count:
    return jnp.zeros_like(positive)
  mean = lses[0] - (lses[1] if len(lses) > 1 else jnp.log(count))  # Its logarithm.
  largest = lax.stop_gradient(jnp.maximum(positive, mean))  # All exponentials are relative to it.
  found = jnp.exp(positive - largest)
  estimate = (jnp.exp(mean - largest) - prior * found) / (1 - prior)
  negative = count * jnp.maximum(estimate, jnp.exp(-inverse - largest))
  return jnp.log(found + negative) - (positive - largest)


def _nt_logistic(z1, z2, temperature, axis_name, margin, implementation):
  shared = devices(axis_name)
  rows, everyone = 2 * len(z1), 2 * len(z1) * shared.count
  if margin is None and dense_or_tiled(implementation, rows, everyone) == 'tiled':
    z, inverse, positive = _anchors_of_views(z1, z2, temperature, axis_name)
    mean = _anchors.softplus_sum((z, inverse), shared) / max(everyone - 2, 1) / rows
    return global_mean(jax.nn.softplus(-positive), axis_name) + global_mean(mean, axis_name)
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


def _scores_of_views(z1, z2, temperature, axis_name):
  """Returns every anchor's score with its positive [2n], those with all views [2n, 2N], and which are negatives."""
  scores, positive = _dense.view_scores(z1, z2, temperature, axis_name)
  others = jnp.arange(scores.shape[1])[None, :] != positive[:, None]
  return jnp.take_along_axis(scores, positive[:, None], axis=1)[:, 0], scores, others & (scores > -jnp.inf)


def _anchors_of_views(z1, z2, temperature, axis_name):
  """Returns the anchors [2n, d], 1 / temperature, and every anchor's score with its positive [2n], for `_anchors`."""
  z, inverse = vary(axis_name, jnp.concatenate([z1, z2]), 1 / temperature)
  return z, inverse, jnp.sum(z * jnp.roll(z, len(z1), axis=0), axis=1) * inverse
