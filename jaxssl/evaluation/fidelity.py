"""How good samples of a generator are: their features beside those of real examples.

Fréchet distance: Heusel et al. 2017, https://arxiv.org/abs/1706.08500. Improved precision and recall: Kynkäänniemi et
al. 2019, https://arxiv.org/abs/1904.06991. Both compare sets of features, of whatever network; figures of different
networks, or of different numbers of samples, cannot be compared with each other.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

from jaxssl.evaluation.features import check_finite
from jaxssl.evaluation.table import NONE, Row

K = 3  # Neighbours: Kynkäänniemi et al.
# Of a squared distance computed from inner products: below this share of the squared norms it is rounding alone.
ROUNDING = 1e-12


def frechet_distance(real: np.ndarray, fake: np.ndarray) -> float:
  """Returns the squared Fréchet distance of two Gaussians, each fitted to features by mean and unbiased covariance.

  `|m1 - m2|^2 + tr(S1 + S2 - 2 (S1 S2)^1/2)`, which is what a figure called FID is. In float64. With S = R^T R the
  trace of the root is the sum of the singular values of R1 R2^T, so that no root of a matrix is taken: where examples
  are no more than the dimensions, it would make large errors of the rounding of zero eigenvalues.

  Args:
    real: features [n, d].
    fake: features [m, d].

  Raises:
    ValueError: unless both are [., d] for the same d, of at least 2 examples.
    FloatingPointError: if a feature is NaN or infinite.
  """
  real, fake = _checked(real, fake, 2)
  (mean1, root1), (mean2, root2) = _fit(real), _fit(fake)
  overlap = np.linalg.svd(root1 @ root2.T, compute_uv=False).sum()
  squared = np.sum((mean1 - mean2)**2) + np.sum(root1**2) + np.sum(root2**2) - 2 * overlap
  return max(0.0, float(squared))


def _fit(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
  """Returns the mean [d] of x [n, d] and R [min(n, d), d], of which R^T R is the covariance."""
  mean = x.mean(axis=0)
  _, root = np.linalg.qr((x - mean) / np.sqrt(len(x) - 1))
  return mean, root


def precision_recall(real: np.ndarray, fake: np.ndarray, k: int = K, block: int = 1024) -> tuple[float, float]:
  """Returns the share of samples that are like real examples, and of real examples that are like samples.

  A feature is like those of a set if it lies in a ball around one of them, whose radius is the distance to the k-th
  nearest other one of that set. The edge belongs to the ball, so that both shares are 1 for a set beside itself.

  Args:
    real: features [n, d].
    fake: features [m, d].
    k: neighbours; more make the balls larger, and both shares with them.
    block: rows of a matrix of distances that are held at once, each of n or m values.

  Raises:
    ValueError: unless both are [., d] for the same d, of more than k examples, and k and block are positive.
    FloatingPointError: if a feature is NaN or infinite.
  """
  for name, value in (('k', k), ('block', block)):
    if value < 1:
      raise ValueError(f'{name} must be positive, got {value}')
  real, fake = _checked(real, fake, k + 1)
  centre = real.mean(axis=0)  # Far from the origin, distances from inner products would lose digits.
  real, fake = real - centre, fake - centre
  real_radii, fake_radii = _radii(real, k, block), _radii(fake, k, block)
  like_real, like_fake = np.zeros(len(fake), bool), np.zeros(len(real), bool)
  for start in range(0, len(real), block):
    rows = slice(start, start + block)
    distances = _squared_distances(real[rows], fake)
    like_real |= (distances <= real_radii[rows, None]).any(axis=0)
    like_fake[rows] = (distances <= fake_radii).any(axis=1)
  return float(like_real.mean()), float(like_fake.mean())


def _radii(x: np.ndarray, k: int, block: int) -> np.ndarray:
  """Returns the squared distance of each of x [n, d] to its k-th nearest other one, [n]."""
  parts = (_squared_distances(x[start:start + block], x) for start in range(0, len(x), block))
  return np.concatenate([np.partition(part, k, axis=1)[:, k] for part in parts])  # Number 0 is itself.


def _squared_distances(x: np.ndarray, y: np.ndarray) -> np.ndarray:
  """Returns |x_i - y_j|^2 for x [n, d] and y [m, d], [n, m]; of equal ones exactly 0."""
  norms = np.sum(x**2, axis=1)[:, None] + np.sum(y**2, axis=1)
  distances = norms - 2 * x @ y.T
  distances[distances <= ROUNDING * norms] = 0
  return distances


def _checked(real: np.ndarray, fake: np.ndarray, least: int) -> tuple[np.ndarray, np.ndarray]:
  real, fake = (np.asarray(x, np.float64) for x in (real, fake))
  if real.ndim != 2 or fake.ndim != 2 or real.shape[1] != fake.shape[1]:
    raise ValueError(f'real and fake must be [n, d] and [m, d], got shapes {list(real.shape)} and {list(fake.shape)}')
  for name, x in (('real', real), ('fake', fake)):
    if len(x) < least:
      raise ValueError(f'{name} must be at least {least} examples, got {len(x)}')
    check_finite(f'{name} examples', x)
  return real, fake


def rows(real: np.ndarray, fake: np.ndarray, features: str, **common: Any) -> list[Row]:
  """Returns the figures of features [m, d] beside those of real examples [n, d], a row each."""
  precision, recall = precision_recall(real, fake)
  figures: Mapping[str, tuple[float, Row]] = {
      'frechet_distance': (frechet_distance(real, fake), {}),
      'precision': (precision, {'k': K}), 'recall': (recall, {'k': K})}
  return [{'protocol': 'samples', 'label': NONE, 'split': 'test', 'representation': NONE, 'features': features,
           'metric': metric, 'value': value, 'num_samples': len(fake), **common, **own}
          for metric, (value, own) in figures.items()]
