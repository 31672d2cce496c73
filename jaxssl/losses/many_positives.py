"""Relatives of InfoNCE with several positives an anchor: known from labels, or by masks.

Where they run, `axis_name` and the ambient mesh mean the same as in `jaxssl.losses.contrastive`, and so does the
`implementation` of `supervised_contrastive`, 'dense', 'tiled' or None. `multi_positive_info_nce` is always dense: its
masks are as large as the scores.
"""

import functools

import jax
import jax.numpy as jnp
from jax import lax
from jax.typing import ArrayLike

from jaxssl import ops
from jaxssl.losses import _anchors, _checks, _dense
from jaxssl.losses._choice import dense_or_tiled
from jaxssl.losses._collectives import AxisName, devices, gather, gathered_index, over_batch, vary


def supervised_contrastive(
    z: ArrayLike,
    labels: ArrayLike,
    *,
    temperature: ArrayLike = 0.1,
    axis_name: AxisName | None = None,
    implementation: str | None = None,
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
    implementation: see this module's introduction.

  Returns:
    The mean over the rows of the global batch that have a positive, a float32 scalar in nats.

  Raises:
    ValueError: naming the argument whose shape, dtype or name is wrong.

  References:
    Khosla et al., `Supervised Contrastive Learning <https://arxiv.org/abs/2004.11362>`_, 2020, equation 2 (L_out).
  """
  (z,) = _checks.embeddings(z=z)
  labels = _checks.integers('labels', labels, (len(z),))
  _checks.implementation(implementation, _checks.DENSE_OR_TILED)
  split = {'z': ops.l2_normalize(z), 'labels': labels}
  whole = {'temperature': _checks.temperature(temperature)}
  kernel = functools.partial(_supervised_contrastive, implementation=implementation)
  return over_batch(kernel, split, whole, axis_name)


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
  whole = {'temperature': _checks.temperature(temperature)}
  return over_batch(_multi_positive_info_nce, split, whole, axis_name)


def _supervised_contrastive(z, labels, temperature, axis_name, implementation):
  shared = devices(axis_name)
  if dense_or_tiled(implementation, len(z), len(z) * shared.count) == 'dense':
    scores = _dense.inner_products(z, gather(z, axis_name)) / temperature
    itself = gathered_index(len(z), axis_name)[:, None] == jnp.arange(scores.shape[1])[None, :]
    positives = (labels[:, None] == gather(labels, axis_name)[None, :]) & ~itself
    return _mean_over_positives(scores, positives, ~itself, axis_name)
  z, labels, inverse = vary(axis_name, z, labels, 1 / temperature)
  number, others = _anchors.classes(labels, shared)
  has_positive = (others > 0).astype(jnp.float32)
  lse = _anchors.lse_sum((z, inverse, has_positive), _where_counted, (1.0,), False, shared)
  total = lse - _anchors.class_sum((z, number, others), shared) * inverse
  return _mean_of_some(total, jnp.sum(has_positive), axis_name)


def _where_counted(lses, inverse, counted):
  return jnp.where(counted > 0, lses[0], 0)


def _multi_positive_info_nce(query, key, positives, temperature, axis_name, candidates=None):
  scores = _dense.inner_products(query, gather(key, axis_name)) / temperature
  if positives.shape != scores.shape or (candidates is not None and candidates.shape != scores.shape):
    raise ValueError(
        f'positives and candidates must have shape {list(scores.shape)}, this device\'s queries and all keys, got '
        f'{list(positives.shape)}' + ('' if candidates is None else f' and {list(candidates.shape)}'))
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
  return _mean_of_some(total, jnp.sum(count > 0).astype(jnp.float32), axis_name)


def _mean_of_some(total, rows, axis_name):
  """Returns the mean over `rows` rows of all devices, that sum up to `total` on this one; 0 of none."""
  if axis_name is not None:
    total, rows = lax.psum(total, axis_name), lax.psum(rows, axis_name)
  return total / jnp.maximum(rows, 1)
