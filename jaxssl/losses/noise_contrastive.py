"""Noise-contrastive estimation: each score is classified alone, as of a pair that belongs together or of noise.

The loss of a memory bank in instance discrimination and in multiview coding. `axis_name` and the ambient mesh mean the
same as in `jaxssl.losses.contrastive`.
"""

import functools

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from jaxssl import ops
from jaxssl.losses import _checks, _dense, _pairs
from jaxssl.losses._choice import dense_or_tiled
from jaxssl.losses._collectives import AxisName, devices, global_mean, over_batch, vary


def noise_contrastive(
    query: ArrayLike,
    key: ArrayLike,
    negatives: ArrayLike,
    *,
    normalizer: ArrayLike,
    num_examples: int,
    temperature: ArrayLike = 0.07,
    axis_name: AxisName | None = None,
    implementation: str | None = None,
) -> jax.Array:
  r"""NCE of a query's key among m negatives, drawn uniformly from the N examples of a memory bank.

  .. math::
    \ell_i = -\log \frac{P(k_i \mid q_i)}{P(k_i \mid q_i) + m / N}
             - \sum_{j=1}^{m} \log \frac{m / N}{P(\bar k_j \mid q_i) + m / N},
    \qquad P(k \mid q) = \frac{\exp(\mathrm{sim}(q, k) / \tau)}{Z}

  P models the probability of one example of the bank, so its sum over all N is to be 1, for which Z would have to be
  computed over the whole bank; it is estimated once, by `noise_contrastive_normalizer`, and then kept. A critic that
  knows nothing, P = 1 / N, costs log(1 + m) + m log((1 + m) / m).

  Example:
    >>> import jax.numpy as jnp
    >>> from jaxssl import losses
    >>> query, bank = jnp.eye(3)[:2], jnp.zeros([4, 3])  # All scores but the keys' are 0: exp(0) / 8 is 1 / N.
    >>> print(f'{losses.noise_contrastive(query, jnp.zeros([2, 3]), bank, normalizer=8.0, num_examples=8):.4f}')
    2.5020

  Args:
    query: [n, d], of any length.
    key: [n, d], the positive of each query.
    negatives: [m, d], which all queries share, on every device the same, or [n, m, d], each query's own.
    normalizer: Z, a positive scalar; no gradient goes into it.
    num_examples: N, of the bank that the negatives were drawn from.
    temperature: scalar, Python number or (traced, learnable) array.
    axis_name: the mapped axis or axes whose devices share the batch.
    implementation: 'dense', 'tiled' (for shared negatives: scores are never all stored), or None, which chooses.

  Returns:
    The mean over the n queries of the global batch, a float32 scalar in nats.

  Raises:
    ValueError: naming the argument whose shape, dtype, name or range is wrong.

  References:
    Gutmann and Hyvärinen 2010; Wu et al., `Unsupervised Feature Learning via Non-Parametric Instance Discrimination
    <https://arxiv.org/abs/1805.01978>`_, 2018, equations 4 to 7; as in Tian et al., `Contrastive Multiview Coding
    <https://arxiv.org/abs/1906.05849>`_, 2019, equations 8 to 10. (Their code adds 1e-7 to the denominators.)
  """
  split, whole = _arrays(query, key, negatives, temperature)
  _checks.implementation(implementation, _checks.DENSE_OR_TILED)
  _checks.number('num_examples', num_examples, 1)
  m = jnp.asarray(negatives).shape[-2]
  if m < 1:
    raise ValueError('negatives must hold at least one, got none')
  normalizer = jax.lax.stop_gradient(_checks.scalar('normalizer', normalizer, 'positive'))
  whole['bias'] = jnp.log(num_examples / m) - jnp.log(normalizer)  # A logit is score + bias: log P - log(m / N).
  return over_batch(functools.partial(_noise_contrastive, implementation=implementation), split, whole, axis_name)


def noise_contrastive_normalizer(
    query: ArrayLike,
    key: ArrayLike,
    negatives: ArrayLike,
    *,
    num_examples: int,
    temperature: ArrayLike = 0.07,
    axis_name: AxisName | None = None,
) -> jax.Array:
  """Estimates Z of `noise_contrastive` on a batch: N times the mean of exp(score) over keys and negatives.

  As CMC's code does on the first batch, to keep it for the rest of the training.

  Example:
    >>> import jax.numpy as jnp
    >>> from jaxssl import losses
    >>> z = jnp.zeros([2, 3])
    >>> print(losses.noise_contrastive_normalizer(z, z, jnp.zeros([4, 3]), num_examples=8))
    8.0

  Args:
    query: as in `noise_contrastive`, like all that follow.
    key: likewise.
    negatives: likewise.
    num_examples: likewise.
    temperature: likewise.
    axis_name: likewise.

  Returns:
    A float32 scalar, without a gradient.

  Raises:
    ValueError: as `noise_contrastive`.
  """
  split, whole = _arrays(query, key, negatives, temperature)
  _checks.number('num_examples', num_examples, 1)
  return num_examples * over_batch(_mean_exponential, *jax.lax.stop_gradient((split, whole)), axis_name)


def _arrays(query, key, negatives, temperature):
  query, key = _checks.embeddings(query=query, key=key)
  negatives = ops.l2_normalize(_checks.negatives(negatives, *query.shape))
  split = {'query': ops.l2_normalize(query), 'key': ops.l2_normalize(key)}
  whole = {'temperature': _checks.temperature(temperature)}
  (whole if negatives.ndim == 2 else split)['negatives'] = negatives
  return split, whole


def _noise_contrastive(query, key, negatives, temperature, bias, axis_name, implementation):
  if negatives.ndim == 3 or dense_or_tiled(implementation, len(query), len(negatives)) == 'dense':
    noise = jnp.sum(jax.nn.softplus(_dense.inner_products(query, negatives) / temperature + bias), axis=1)
    positive = jnp.sum(query * key, axis=1) / temperature + bias
    return global_mean(jax.nn.softplus(-positive) + noise, axis_name)
  query, key, negatives, inverse, bias = vary(axis_name, query, key, negatives, 1 / temperature, bias)
  positive = jax.nn.softplus(-(jnp.sum(query * key, axis=1) * inverse + bias))
  noise = _pairs.softplus_sum(
      (query, negatives, inverse, bias, jnp.zeros_like(positive)), 'tiled', devices(None)) / len(query)
  return global_mean(positive + noise, axis_name)


def _mean_exponential(query, key, negatives, temperature, axis_name):
  noise = jnp.sum(jnp.exp(_dense.inner_products(query, negatives) / temperature), axis=1)
  positive = jnp.exp(jnp.sum(query * key, axis=1) / temperature)
  return global_mean((positive + noise) / (1 + negatives.shape[-2]), axis_name)
