"""Parts of a set, class by class or evenly spread, and what two sets share."""

from typing import Any

import numpy as np


def balanced_subset(labels: np.ndarray, fraction: float, seed: int = 0) -> np.ndarray:
  """Returns the sorted indices of a share `fraction` of every class, at least one example a class.

  The same seed gives nested subsets: what stands in the 1 % stands in the 10 %. As in SimCLR (arXiv:2002.05709,
  section 4.3), the share is taken class by class.

  Args:
    labels: [n] integers.
    fraction: in (0, 1]; each class keeps `fraction` of its examples, rounded to the nearest number.
    seed: chooses the examples.

  Raises:
    ValueError: if `fraction` is outside (0, 1].
  """
  if not 0 < fraction <= 1:
    raise ValueError(f'fraction must be in (0, 1], got {fraction}')
  order, classes, counts, rank = _ranked(labels, seed)
  kept = np.maximum(np.floor(fraction * counts + 0.5), 1)
  return np.sort(order[rank < kept[classes]])


def proportional_subset(labels: np.ndarray, count: int, seed: int = 0) -> np.ndarray:
  """Returns the sorted indices of `count` examples, or of all; each class has its share of them, to one example.

  The same seed gives nested subsets.

  Args:
    labels: [n] integers.
    count: of the examples.
    seed: chooses them.
  """
  order, classes, counts, rank = _ranked(labels, seed)
  first = np.argsort((rank + 0.5) / counts[classes], kind='stable')[:count]
  return np.sort(order[first])


def evenly_spread(n: int, count: int) -> np.ndarray:
  """Returns at most `count` of n indices, evenly spread from the first to the last; all where n is no more."""
  return np.unique(np.linspace(0, n - 1, min(n, count)).round().astype(int))


def _ranked(labels: np.ndarray, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
  """Returns a random order [n], and in that order the class [n] and the rank within it [n]; third, the class sizes."""
  labels = np.asarray(labels)
  order = np.random.Generator(np.random.Philox(seed)).permutation(len(labels))
  _, classes, counts = np.unique(labels[order], return_inverse=True, return_counts=True)
  by_class = np.argsort(classes, kind='stable')
  starts = np.repeat(np.cumsum(counts) - counts, counts)
  rank = np.empty(len(labels), np.int64)
  rank[by_class] = np.arange(len(labels)) - starts
  return order, classes, counts, rank


def count_shared(images: Any, others: Any) -> int | None:
  """Returns how many of `images` stand pixel for pixel among `others` too, such as test images among pretraining's.

  None where that is not known without decoding them: only arrays [n, h, w, c] of one image shape and type are compared.
  """
  arrays = isinstance(images, np.ndarray) and isinstance(others, np.ndarray)
  if not arrays or images.shape[1:] != others.shape[1:] or images.dtype != others.dtype:
    return None
  known = {image.tobytes() for image in others}
  return sum(image.tobytes() in known for image in images)
