"""The contrastive losses in float64 NumPy, one pair at a time."""

import numpy as np


def nt_xent(z1, z2, temperature):
  z = [unit(row) for row in (*z1, *z2)]
  n, losses = len(z1), []
  for i in range(2 * n):
    positive = z[(i + n) % (2 * n)]
    candidates = [z[k] for k in range(2 * n) if k != i]
    losses.append(cross_entropy(z[i], positive, candidates, temperature))
  return np.mean(losses)


def info_nce(query, key, negatives=None, *, temperature, normalize=True):
  scale = unit if normalize else lambda row: np.asarray(row, np.float64)
  losses = []
  for i in range(len(query)):
    if negatives is None:
      others = [key[j] for j in range(len(key)) if j != i]
    else:
      others = negatives if np.ndim(negatives) == 2 else negatives[i]
    candidates = [scale(row) for row in (key[i], *others)]
    losses.append(cross_entropy(scale(query[i]), candidates[0], candidates, temperature))
  return np.mean(losses)


def symmetric_info_nce(a, b, temperature):
  return (info_nce(a, b, temperature=temperature) + info_nce(b, a, temperature=temperature)) / 2


def siglip(a, b, temperature, bias=-10.0):
  total = 0.0
  for i in range(len(a)):
    for j in range(len(b)):
      logit = unit(a[i]) @ unit(b[j]) / temperature + bias
      total += np.logaddexp(0.0, -logit if i == j else logit)
  return total / len(a)


def accuracy(z1, z2):
  z = [unit(row) for row in (*z1, *z2)]
  n, hits = len(z1), 0
  for i in range(2 * n):
    positive = (i + n) % (2 * n)
    hits += all(z[i] @ z[positive] > z[i] @ z[k] for k in range(2 * n) if k not in (i, positive))
  return hits / (2 * n)


def cross_entropy(anchor, positive, candidates, temperature):
  scores = [anchor @ candidate / temperature for candidate in candidates]
  return np.logaddexp.reduce(scores) - anchor @ positive / temperature


def unit(row):
  row = np.asarray(row, np.float64)
  length = np.sqrt(row @ row)
  return row / length if length else row
