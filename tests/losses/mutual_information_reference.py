"""Estimates of mutual information in float64 NumPy, one pair at a time, and matrices to try them on."""

import itertools
import math

import numpy as np


def matrices(count=60, n=None, scale=(0.1, 1, 5, 20)):
  """Yields random scores [n, n], some with a strong diagonal; of three sizes, since each is compiled anew."""
  rng = np.random.default_rng(0)
  for i in range(count):
    size = n or (2, 5, 8)[i // 3 % 3]
    yield np.float32(scale[i % len(scale)] * (rng.normal(size=(size, size)) + (i % 3) * np.eye(size)))


def joint_and_marginal(scores):
  scores = np.asarray(scores, np.float64)
  pairs = list(itertools.product(range(len(scores)), repeat=2))
  return [scores[i, i] for i in range(len(scores))], [scores[i, j] for i, j in pairs if i != j]


def estimate(name, scores, **settings):
  """The formulas as they stand in the docstrings, in float64 and without log-sum-exp."""
  scores = np.asarray(scores, np.float64)
  n, g = len(scores), np.exp(np.asarray(scores, np.float64))
  joint, marginal = map(np.array, joint_and_marginal(scores))
  alpha = settings.get('alpha', 1.0)
  weights = np.where(np.eye(n, dtype=bool), alpha, (n - alpha) / (n - 1))
  a = np.exp(np.broadcast_to(settings.get('log_baseline', 0.0), (n,)).astype(np.float64))
  if name in ('info_nce', 'alpha_cpc'):
    return np.mean([math.log(n * g[i, i] / sum(weights[i] * g[i])) for i in range(n)])
  if name == 'ml_cpc':
    return np.mean([math.log(n * n * g[i, i] / np.sum(weights * g)) for i in range(n)])
  if name in ('dv', 'mine'):
    return np.mean(joint) - math.log(np.mean(np.exp(marginal)))
  if name == 'nwj':
    return np.mean(joint) - np.mean(np.exp(marginal)) / math.e
  if name == 'js':
    return 1 + np.mean(joint) - np.mean(np.exp(marginal))
  if name == 'jensen_shannon':
    return -np.mean(np.log(1 + np.exp(-joint))) - np.mean(np.log(1 + np.exp(marginal)))
  if name == 'smile':
    return np.mean(joint) - math.log(np.mean(np.exp(np.clip(marginal, -settings['clip'], settings['clip']))))
  others = lambda i, j: np.mean([g[i, k] for k in range(n) if k != j])
  b = {(i, j): a[i] if name == 'tuba' else alpha * others(i, j) + (1 - alpha) * a[i]
       for i, j in itertools.product(range(n), repeat=2)}
  pairs = [(i, j) for i, j in b if i != j]
  return 1 + np.mean([scores[i, i] - math.log(b[i, j]) for i, j in pairs]) - np.mean(
      [g[i, j] / b[i, i] for i, j in pairs])
