"""The contrastive losses with all scores of this device's rows stored: [n, N] of them, N rows on all devices.

Embeddings are normalised already where they should be.
"""

import jax
import jax.numpy as jnp
from jax import lax

from jaxssl.losses._collectives import gather, gathered_index, global_mean


def nt_xent(z1, z2, temperature, axis_name):
  scores, _ = view_scores(z1, z2, temperature, axis_name)
  positive = jnp.tile(jnp.sum(z1 * z2, axis=1) / temperature, 2)
  return _cross_entropy(scores, positive, axis_name, scores.shape[1] - 1)


def info_nce(query, key, temperature, axis_name, negatives=None):
  positive = jnp.sum(query * key, axis=1) / temperature
  if negatives is None:
    scores = inner_products(query, gather(key, axis_name)) / temperature
  else:
    scores = jnp.concatenate([positive[:, None], inner_products(query, negatives) / temperature], axis=1)
  return _cross_entropy(scores, positive, axis_name, scores.shape[1])


def symmetric_info_nce(a, b, temperature, axis_name):
  if axis_name is not None:
    return (info_nce(a, b, temperature, axis_name) + info_nce(b, a, temperature, axis_name)) / 2
  scores, positive = inner_products(a, b) / temperature, jnp.sum(a * b, axis=1) / temperature
  return (_cross_entropy(scores, positive, None, len(a)) + _cross_entropy(scores.T, positive, None, len(a))) / 2


def _cross_entropy(scores, positive, axis_name, candidates):
  """Returns that of scores [n, m], among them the positives' [n] and, of each row, `candidates` in all.

  The positives' come from the embeddings: to take them out of the scores costs XLA another matrix, for the gradient.
  """
  if candidates == 1:  # Nothing to choose from costs nothing, which the two roundings of its score would miss.
    return global_mean(0 * positive, axis_name)
  return global_mean(jax.nn.logsumexp(scores, axis=1) - positive, axis_name)


def siglip(a, b, temperature, bias, axis_name):
  logits = inner_products(a, gather(b, axis_name)) / temperature + bias
  together = gathered_index(len(a), axis_name)[:, None] == jnp.arange(logits.shape[1])[None, :]
  return global_mean(jnp.sum(jax.nn.softplus(jnp.where(together, -logits, logits)), axis=1), axis_name)


def view_scores(z1, z2, temperature, axis_name):
  """Returns scores [2n, 2N] of this device's views against all N examples', and each row's positive [2n].

  A view's score against itself is minus infinity, set after the division by the temperature: its gradient stays 0.
  """
  z = jnp.concatenate([z1, z2])
  own = gathered_index(len(z), axis_name)
  scores = inner_products(z, gather(z, axis_name)) / temperature
  is_own = own[:, None] == jnp.arange(scores.shape[1])[None, :]
  return jnp.where(is_own, -jnp.inf, scores), jnp.roll(own, len(z1))


def inner_products(x, y):
  """Returns the inner products [n, m] of x [n, d] with y, [m, d] or [n, m, d].

  In full float32: the bfloat16 passes of TPUs move a cosine by up to 2e-3, the TF32 of GPUs by 2e-4 (d = 128), which at
  temperature 0.01 is 0.2 and 0.02 in a score.
  """
  return jnp.einsum('nd,nmd->nm' if y.ndim == 3 else 'nd,md->nm', x, y, precision=lax.Precision.HIGHEST)
