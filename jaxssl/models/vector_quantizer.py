"""Vector quantization: a codebook, the nearest of its entries, and the moving averages that it follows."""

from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

Codebook = dict[str, jax.Array]  # embedding [K, d], counts [K], sums [K, d].

HIGHEST = jax.lax.Precision.HIGHEST  # Else accelerators round vectors before they are compared or summed.


class VectorQuantizer(nn.Module):
  """Replaces vectors by the nearest entry of a codebook: z_e [..., d] -> (codes [..., d], indices int32 [...]).

  Attributes:
    num_codes: K.
    code_dim: d.
    moving: whether the codebook is a variable of the collection 'codebook' (see `follow`), not a parameter.
  """

  num_codes: int
  code_dim: int
  moving: bool = True

  @nn.compact
  def __call__(self, z_e: jax.Array) -> tuple[jax.Array, jax.Array]:
    if self.moving:
      start = lambda: _small_uniform(self.make_rng('params'), (self.num_codes, self.code_dim))
      embedding = self.variable('codebook', 'embedding', start).value
      self.variable('codebook', 'counts', jnp.ones, (self.num_codes,))
      self.variable('codebook', 'sums', lambda: jnp.copy(embedding))  # Buffers may be donated.
    else:
      embedding = self.param('embedding', _small_uniform, (self.num_codes, self.code_dim))
    indices = nearest(embedding, z_e)
    return embedding[indices], indices


def _small_uniform(key: jax.Array, shape: tuple[int, int]) -> jax.Array:
  """Entries so short that at first direction alone decides which is nearest, and many are used."""
  return jax.random.uniform(key, shape, minval=-1 / shape[0], maxval=1 / shape[0])


def nearest(embedding: jax.Array, z_e: jax.Array) -> jax.Array:
  """Returns which entry of `embedding` [K, d] is nearest to each of z_e [..., d], the first of equals: int32 [...]."""
  # Distances from a common centre, so that what all share does not take their digits.
  centre = jnp.mean(embedding, axis=0)
  z_e = z_e - centre.reshape((1,) * (z_e.ndim - 1) + (-1,))
  embedding = embedding - centre[None]
  scores = jnp.matmul(z_e, embedding.T, precision=HIGHEST)
  squares = jnp.sum(jnp.square(embedding), axis=1)
  # ||z_e - e||^2 but for ||z_e||^2, which all entries share.
  return jnp.argmin(squares.reshape((1,) * (scores.ndim - 1) + (-1,)) - 2 * scores, axis=-1).astype(jnp.int32)


def follow(
    codebook: Codebook,
    z_e: jax.Array,
    indices: jax.Array,
    key: jax.Array,
    *,
    decay: float,
    restart_below: float = 0.0,
    first: Any = False,
    epsilon: float = 1e-5,
) -> Codebook:
  """Returns the codebook after one step of the moving averages: K-means of the batches seen lately.

  Each entry is the mean of the vectors assigned to it; van den Oord et al. 2017, https://arxiv.org/abs/1711.00937,
  appendix A.1, with the Laplace smoothing of the counts of the authors' code (Sonnet, `VectorQuantizerEMA`). Written
  for the global batch.

  Args:
    codebook: embedding [K, d], counts [K] and sums [K, d].
    z_e: [..., d], all vectors of the batch, n together.
    indices: int32 [...], the entry that each is assigned to.
    key: decides where entries restart.
    decay: gamma.
    restart_below: entries whose count is less than this share of the even one, n / K, restart at a random vector of the
      batch, with the even count, as if they had always been used; 0: none does.
    first: boolean scalar, whether this is the first step, at which all restart, unless `restart_below` is 0.
    epsilon: added to the counts.
  """
  z_e = z_e.reshape(-1, z_e.shape[-1])
  num_codes = len(codebook['counts'])
  assigned = jax.nn.one_hot(indices.reshape(-1), num_codes)
  counts = decay * codebook['counts'] + (1 - decay) * jnp.sum(assigned, axis=0)
  sums = decay * codebook['sums'] + (1 - decay) * jnp.matmul(assigned.T, z_e, precision=HIGHEST)
  if restart_below:
    even = len(z_e) / num_codes
    dead = (counts < restart_below * even) | first
    drawn = z_e[jax.random.randint(key, (num_codes,), 0, len(z_e))]
    counts = jnp.where(dead, even, counts)
    sums = jnp.where(dead[:, None], even * drawn, sums)
  total = jnp.sum(counts)
  smoothed = (counts + epsilon) / (total + num_codes * epsilon) * total
  return {'embedding': sums / smoothed[:, None], 'counts': counts, 'sums': sums}
