"""Principal components: the linear autoencoder that every learnt one is compared with.

An autoencoder with linear layers and squared error can do no better (Baldi and Hornik 1989,
https://doi.org/10.1016/0893-6080(89)90014-2).
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import scipy.linalg

LIMIT = 20_000  # Examples to fit on, at most.
MOST_VALUES = 2**28  # Of all these examples together: a gigabyte.
EXACT = 4096  # Side of the largest matrix whose eigenvectors are computed exactly, in about half a minute.
SWEEPS, SPARE = 8, 16  # Of subspace iteration: passes, and directions beyond those asked for.
BLOCK = 1024  # Rows or columns in float64 at a time.


class PCA(NamedTuple):
  """A mean and orthonormal directions, those of most variance first."""

  mean: jax.Array  # [p]
  components: jax.Array  # [d, p]

  @property
  def dimensions(self) -> int:
    return self.components.shape[0]

  def first(self, dimensions: int) -> 'PCA':
    """Returns the same with the first `dimensions` alone, or all where there are not as many."""
    return PCA(self.mean, self.components[:dimensions])

  def encode(self, x: jax.Array) -> jax.Array:
    """Returns the coordinates [b, d] of x [b, p]."""
    return jnp.matmul(x - self.mean[None], self.components.T, precision=jax.lax.Precision.HIGHEST)

  def decode(self, z: jax.Array) -> jax.Array:
    """Returns x [b, p] of coordinates [b, d]."""
    return jnp.matmul(z, self.components, precision=jax.lax.Precision.HIGHEST) + self.mean[None]


def fit(x: np.ndarray, dimensions: int) -> PCA:
  """Returns the first principal components of x [n, p], float32 of sums in float64.

  As many as asked for, but no more than x has directions in which it varies at all: at most min(n - 1, p). Of more than
  4,096 examples of more than 4,096 values the components are those of subspace iteration (Halko et al. 2011,
  https://arxiv.org/abs/0909.4061, algorithm 4.4), whose error is far below what the sample leaves open.

  Raises:
    ValueError: if x is not [n, p] with n at least 1, or `dimensions` is not positive.
  """
  if x.ndim != 2 or not x.size:
    raise ValueError(f'x must be [n, p] and not empty, got shape {list(x.shape)}')
  if dimensions < 1:
    raise ValueError(f'dimensions must be at least 1, got {dimensions}')
  mean = np.asarray(np.mean(x, axis=0, dtype=np.float64))
  if min(x.shape) > EXACT:
    squares, components = _iterated(x, mean, dimensions)
  elif x.shape[0] < x.shape[1]:
    squares, components = _of_examples(x, mean)
  else:
    squares, components = _of_values(x, mean)
  # What is left of a direction without variance, in sums of float64, is no direction.
  varies = squares > 1e-12 * max(float(squares.max()), np.finfo(np.float64).tiny)
  return PCA(jnp.asarray(mean, jnp.float32), jnp.asarray(components[varies][:dimensions], jnp.float32))


def _blocks(length: int):
  return (slice(start, start + BLOCK) for start in range(0, length, BLOCK))


def _of_values(x: np.ndarray, mean: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
  """Returns the sums of squares along each direction, largest first, and the directions [d, p]; by p by p products."""
  scatter = np.zeros((x.shape[1],) * 2)
  for rows in _blocks(len(x)):
    centred = x[rows] - mean
    scatter += centred.T @ centred
  squares, directions = scipy.linalg.eigh(scatter)
  return squares[::-1], directions[:, ::-1].T


def _of_examples(x: np.ndarray, mean: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
  """Does the same by n by n products, where there are fewer examples than values."""
  gram = np.zeros((len(x),) * 2)
  for columns in _blocks(x.shape[1]):
    centred = x[:, columns] - mean[columns]
    gram += centred @ centred.T
  squares, weights = scipy.linalg.eigh(gram)
  squares, weights = squares[::-1], weights[:, ::-1]
  components = np.empty(x.shape)
  for columns in _blocks(x.shape[1]):
    components[:, columns] = weights.T @ (x[:, columns] - mean[columns])
  return squares, components / np.sqrt(np.maximum(squares, np.finfo(np.float64).tiny))[:, None]


def _iterated(x: np.ndarray, mean: np.ndarray, dimensions: int) -> tuple[np.ndarray, np.ndarray]:
  """Does the same for the first directions alone, by products of x with a few vectors."""
  count = min(dimensions + SPARE, *x.shape)
  directions = np.random.Generator(np.random.Philox(0)).normal(size=(x.shape[1], count))
  for _ in range(SWEEPS):
    directions, _ = np.linalg.qr(_scattered(x, mean, directions))
  squares, mixture = scipy.linalg.eigh(directions.T @ _scattered(x, mean, directions))
  return squares[::-1], (directions @ mixture[:, ::-1]).T


def _scattered(x: np.ndarray, mean: np.ndarray, directions: np.ndarray) -> np.ndarray:
  """Returns the scatter matrix of x times `directions` [p, d]."""
  total = np.zeros(directions.shape)
  for rows in _blocks(len(x)):
    centred = x[rows] - mean
    total += centred.T @ (centred @ directions)
  return total
