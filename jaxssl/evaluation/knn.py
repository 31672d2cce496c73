"""Weighted k-nearest-neighbour classification, exact, in bounded memory.

The protocol of Wu et al. 2018 (arXiv:1805.01978, section 3.4): the k training examples of largest cosine similarity
vote for their class with the weight exp(cosine / temperature).
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from jaxssl import ops
from jaxssl.evaluation.features import check_finite

K, TEMPERATURE = 200, 0.1  # Those of the benchmarks that lightly publishes.


@functools.partial(jax.jit, static_argnames='k')
def _merge(
    query: jax.Array, bank: jax.Array, start: jax.Array, size: jax.Array, best: tuple[jax.Array, jax.Array], k: int
) -> tuple[jax.Array, jax.Array]:
  """Merges the neighbours found so far with those among `bank` [m, d], rows `start`, `start` + 1, … of the whole."""
  cosine = jnp.matmul(query, bank.T, precision=jax.lax.Precision.HIGHEST)
  valid = jnp.arange(bank.shape[0]) < size
  cosine, index = jax.lax.top_k(jnp.where(valid[None, :], cosine, -jnp.inf), min(k, bank.shape[0]))
  # `best` comes first: top_k keeps the earlier of two equal values, so that the lower index wins.
  cosine = jnp.concatenate([best[0], cosine], axis=1)
  index = jnp.concatenate([best[1], index.astype(jnp.int32) + start], axis=1)
  cosine, kept = jax.lax.top_k(cosine, k)
  return cosine, jnp.take_along_axis(index, kept, axis=1)


def _padded(x: np.ndarray, start: int, size: int) -> jax.Array:
  part = np.asarray(x[start:start + size], np.float32)
  return ops.l2_normalize(jnp.pad(part, ((0, size - len(part)), (0, 0))))


def neighbours(
    query: np.ndarray, bank: np.ndarray, k: int, *, query_chunk: int = 1024, bank_chunk: int = 8192
) -> tuple[np.ndarray, np.ndarray]:
  """Finds the k rows of `bank` with the largest cosine similarity to each row of `query`.

  Exact: all pairs are compared, `query_chunk` x `bank_chunk` at a time. Equal similarities: the lower index is first.

  Args:
    query: features [q, d].
    bank: features [n, d].
    k: how many, from 1 to n.
    query_chunk: queries compared at once.
    bank_chunk: rows of the bank compared at once.

  Returns:
    Indices int32 [q, k] into `bank`, most similar first, and their cosine similarities float32 [q, k].

  Raises:
    ValueError: for shapes that do not fit, or k outside [1, n].
    FloatingPointError: if a feature is NaN or infinite.
  """
  if query.ndim != 2 or bank.ndim != 2 or query.shape[1] != bank.shape[1]:
    raise ValueError(f'query and bank must be [q, d] and [n, d], got {list(query.shape)} and {list(bank.shape)}')
  check_finite('queries', query)
  check_finite('examples of the bank', bank)
  if not 1 <= k <= len(bank):
    raise ValueError(f'k must be between 1 and the bank size {len(bank)}, got {k}')
  query_chunk, bank_chunk = min(query_chunk, len(query)), min(bank_chunk, len(bank))
  found = []
  for i in range(0, len(query), query_chunk):
    part = _padded(query, i, query_chunk)
    best = (jnp.full((query_chunk, k), -jnp.inf), jnp.zeros((query_chunk, k), jnp.int32))
    for j in range(0, len(bank), bank_chunk):
      best = _merge(part, _padded(bank, j, bank_chunk), jnp.int32(j), jnp.int32(len(bank) - j), best, k)
    found.append(jax.device_get(best))
  cosine, index = (np.concatenate(parts)[:len(query)] for parts in zip(*found, strict=True))
  return index, cosine


def classify(
    bank: np.ndarray,
    bank_labels: np.ndarray,
    query: np.ndarray,
    *,
    k: int = K,
    temperature: float = TEMPERATURE,
    **chunks: int,
) -> np.ndarray:
  """Predicts the class of each query by the weighted vote of its k nearest neighbours.

  Equal votes: the smallest label wins; equal similarities: the lower index in the bank.

  Args:
    bank: training features [n, d].
    bank_labels: [n] integers.
    query: features [q, d].
    k: neighbours that vote, at most n.
    temperature: of the weights exp(cosine / temperature); large values make the votes equal.
    **chunks: `query_chunk` and `bank_chunk` of `neighbours`.

  Returns:
    Predicted labels [q].

  Raises:
    ValueError: if features and labels differ in length, k is outside [1, n] or `temperature` is not positive.
  """
  if len(bank) != len(bank_labels):
    raise ValueError(f'bank has {len(bank)} rows but bank_labels {len(bank_labels)}')
  if not temperature > 0:
    raise ValueError(f'temperature must be positive, got {temperature}')
  index, cosine = neighbours(query, bank, k, **chunks)
  classes, targets = np.unique(bank_labels, return_inverse=True)
  # Relative to the nearest neighbour, so that a small temperature cannot overflow; the vote is the same.
  weights = np.exp((cosine - cosine[:, :1]).astype(np.float64) / temperature)
  predicted = [_vote(targets[index[i:i + 1024]], weights[i:i + 1024], len(classes)) for i in range(0, len(index), 1024)]
  return classes[np.concatenate(predicted)]


def _vote(targets: np.ndarray, weights: np.ndarray, num_classes: int) -> np.ndarray:
  cells = targets + num_classes * np.arange(len(targets))[:, None]
  votes = np.bincount(cells.ravel(), weights.ravel(), minlength=len(targets) * num_classes)
  return votes.reshape(-1, num_classes).argmax(axis=1)


def accuracy(
    train: np.ndarray, train_labels: np.ndarray, test: np.ndarray, test_labels: np.ndarray, **options
) -> float:
  """Returns the share of test examples that `classify(train, train_labels, test, **options)` gets right."""
  if len(test) != len(test_labels):
    raise ValueError(f'test has {len(test)} rows but test_labels {len(test_labels)}')
  return float(np.mean(classify(train, train_labels, test, **options) == np.asarray(test_labels)))
