"""The health of an embedding: is it collapsing, and how is it spread over the sphere?"""

import itertools
import math
from collections.abc import Mapping

import jax
import jax.numpy as jnp

from jaxssl import ops
from jaxssl.evaluation.table import NONE, Row

COLLAPSED = 0.1  # Embedding std below which all examples share practically one direction.
UNDECIDED = 0.999  # Share of the largest entropy above which assignments to prototypes tell nothing.
LOW_RANK = 0.05  # Share of the available dimensions below which the collapse is called partial.
MOST = 2048  # Examples whose features are measured without labels: of n, uniformity takes n x n products.


def embedding_std(z: jax.Array) -> jax.Array:
  """Mean standard deviation, over the batch, of the l2-normalised embedding's dimensions, times sqrt(d).

  1 for directions uniform on the sphere, 0 for total collapse (SimSiam, arXiv:2011.10566, section 4.1). z: [n, d].
  """
  return jnp.mean(jnp.std(ops.l2_normalize(z), axis=0)) * jnp.sqrt(z.shape[1])


def effective_rank(z: jax.Array, epsilon: float = 1e-7) -> jax.Array:
  """RankMe: the exponential of the entropy of the singular values' distribution, in [1, min(n, d)]. z: [n, d].

  Garrido et al. 2023 (arXiv:2210.02885), equation 1, with its epsilon.
  """
  singular = jnp.linalg.svd(z.astype(jnp.float32), compute_uv=False)
  p = singular / jnp.maximum(jnp.sum(singular), jnp.finfo(jnp.float32).tiny) + epsilon
  return jnp.exp(-jnp.sum(p * jnp.log(p)))


def alignment(z1: jax.Array, z2: jax.Array) -> jax.Array:
  """Mean squared distance of the l2-normalised embeddings of two views, in [0, 4]; 0 is perfect. z1, z2: [n, d].

  Wang and Isola 2020 (arXiv:2005.10242), equation 2 with alpha = 2.
  """
  difference = ops.l2_normalize(z1) - ops.l2_normalize(z2)
  return jnp.mean(jnp.sum(difference * difference, axis=1))


def uniformity(z: jax.Array) -> jax.Array:
  """Log of the mean Gaussian potential of pairs of l2-normalised embeddings, in [-8, 0]; 0 is collapse. z: [n, d].

  Wang and Isola 2020 (arXiv:2005.10242), equation 3 with t = 2, over pairs of different examples.
  """
  n = z.shape[0]
  z = ops.l2_normalize(z)
  squared_distance = jnp.maximum(2 - 2 * jnp.matmul(z, z.T, precision=jax.lax.Precision.HIGHEST), 0)
  potential = jnp.where(jnp.eye(n, dtype=bool), -jnp.inf, -2 * squared_distance)
  return jax.nn.logsumexp(potential) - math.log(n * (n - 1))


def retrieval(z: jax.Array) -> jax.Array:
  """How often the view of an example that is nearest, among all examples', is its own; the mean over pairs of views.

  z: [n, views, p]; chance is 1 / n, and a tie is a miss, as in `losses.retrieval_accuracy`.
  """
  z = ops.l2_normalize(z)
  scores = jnp.einsum('nip,mjp->ijnm', z, z, precision=jax.lax.Precision.HIGHEST)
  own = jnp.diagonal(scores, axis1=2, axis2=3)[..., None]
  rivals = (scores > own - 1e-6) & ~jnp.eye(len(z), dtype=bool)[None, None]
  found = ~jnp.any(rivals, axis=-1)  # [views, views, n]
  ways = itertools.permutations(range(z.shape[1]), 2)
  return jnp.mean(jnp.stack([found[i, j] for i, j in ways]).astype(jnp.float32))


def health(z1: jax.Array, z2: jax.Array | None = None) -> dict[str, jax.Array]:
  """Returns the health panel of the embeddings [n, d] of one view or of two: scalars, ready for the log.

  `embedding_std`, `effective_rank`, `rank_fraction` (of min(n, d)) and `uniformity` are means over the views;
  `alignment` needs two.
  """
  if z1.ndim != 2 or z1.shape[0] < 2 or (z2 is not None and z1.shape != z2.shape):
    found = [list(z.shape) for z in (z1, z2) if z is not None]
    raise ValueError(f'z1 and z2 must be [n, d], alike, n >= 2; got {" and ".join(map(str, found))}')
  views = (z1,) if z2 is None else (z1, z2)
  mean = lambda measure: sum(map(measure, views)) / len(views)
  rank = mean(effective_rank)
  return {
      'embedding_std': mean(embedding_std),
      'effective_rank': rank,
      'rank_fraction': rank / min(z1.shape),
      **({} if z2 is None else {'alignment': alignment(z1, z2)}),
      'uniformity': mean(uniformity),
  }


def rows(h: jax.Array, features: str, representation: str, seed: int) -> list[Row]:
  """Returns what is known of features [n, d] without labels, a row each: their effective rank and their uniformity."""
  figures = {'effective_rank': effective_rank(h), 'uniformity': uniformity(h)}
  return [{'protocol': 'geometry', 'label': NONE, 'split': 'test', 'representation': representation,
           'features': features, 'seed': seed, 'metric': metric, 'value': float(value), 'num_test': len(h)}
          for metric, value in figures.items()]


def warning(health: Mapping[str, float]) -> str | None:
  """Says in plain language what is wrong with `health`, or returns None.

  Total collapse: embedding std below 0.1. Partial (dimensional) collapse: an effective rank below 5 % of min(n, d). Of
  methods with prototypes also `prototypes_used`, where fewer than two are, and `assignment_entropy`, a share of that of
  the uniform distribution, where it is all of it.
  """
  std, rank, fraction = (float(health[name]) for name in ('embedding_std', 'effective_rank', 'rank_fraction'))
  if not all(map(math.isfinite, (std, rank, fraction))):
    return 'The embedding holds NaN or infinite values: training has diverged.'
  if std < COLLAPSED:
    return (f'Collapse: every example gets nearly the same embedding (std {std:.3f}; 1 is healthy, below {COLLAPSED} '
            'is collapsed). Check the learning rate and what keeps the method from it: negatives, '
            'predictor and stop-gradient, the target\'s momentum and temperatures, or the weight of its regulariser.')
  if health.get('prototypes_used', math.inf) < 2:
    return ('Collapse: nearly all examples are assigned to the same prototype. Check the momentum of the centre and '
            'the temperatures (DINO), or epsilon of the assignments (SwAV).')
  if health.get('assignment_entropy', 0.0) > UNDECIDED:
    return ('Collapse: every example is assigned to all prototypes alike, so that there is nothing to predict. Lower '
            'the temperature of the target, or epsilon of the assignments.')
  if fraction < LOW_RANK:
    return (f'Partial collapse: the embedding uses only about {rank:.1f} directions ({fraction:.1%} of those it could; '
            f'below {LOW_RANK:.0%} is low). A lower learning rate or stronger augmentation may help.')
  return None
