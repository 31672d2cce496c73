"""Redundancy and distillation losses in float64, example by example and dimension by dimension."""

import math

import numpy as np


def standardized(z, epsilon):
  return (z - z.mean(0)) / np.sqrt(z.var(0) + epsilon)


def barlow_twins(z1, z2, weight=0.0051, epsilon=1e-5):
  a, b = standardized(z1, epsilon), standardized(z2, epsilon)
  n, d = a.shape
  total = 0.0
  for i in range(d):
    for j in range(d):
      c = sum(a[k, i] * b[k, j] for k in range(n)) / n
      total += (1 - c) ** 2 if i == j else weight * c**2
  return total


def hinge(z, target=1.0, epsilon=1e-4):
  d = z.shape[1]
  return sum(max(0.0, target - math.sqrt(z[:, j].var(ddof=1) + epsilon)) for j in range(d)) / d


def covariance(z):
  n, d = z.shape
  mean = z.mean(0)
  total = 0.0
  for i in range(d):
    for j in range(d):
      if i != j:
        total += (sum((z[k, i] - mean[i]) * (z[k, j] - mean[j]) for k in range(n)) / (n - 1)) ** 2
  return total / d


def vicreg(z1, z2, invariance=25.0, variance=25.0, covariance_weight=1.0):
  total = invariance * np.mean((z1 - z2) ** 2)
  for z in (z1, z2):
    total += variance * hinge(z) / 2 + covariance_weight * covariance(z)
  return total


def whitened(z, epsilon):
  n, d = z.shape
  centred = z - z.mean(0)
  cov = np.zeros((d, d))
  for row in centred:
    cov += np.outer(row, row) / (n - 1)
  root = np.linalg.cholesky((1 - epsilon) * cov + epsilon * (np.trace(cov) / d + 1e-6) * np.eye(d))
  return np.array([np.linalg.solve(root, row) for row in centred])


def whitened_mse(z1, z2, epsilon=1e-4, normalize=True):
  w1, w2 = whitened(z1, epsilon), whitened(z2, epsilon)
  if not normalize:
    return np.mean((w1 - w2) ** 2)
  return np.mean([2 - 2 * a @ b / np.linalg.norm(a) / np.linalg.norm(b) for a, b in zip(w1, w2, strict=True)])


def sigreg(z, directions):
  n, values = len(z), []
  knots = [3 * k / 16 for k in range(17)]
  for a in directions:
    total = 0.0
    for k, t in enumerate(knots):
      phi = sum(complex(math.cos(t * (a @ x)), math.sin(t * (a @ x))) for x in z) / n
      weight = (1 if k in (0, 16) else 2) * 3 / 16 * math.exp(-t * t / 2)
      total += weight * abs(phi - math.exp(-t * t / 2)) ** 2
    values.append(n * total)
  return np.mean(values)


def cosine(a, b):
  return a @ b / np.linalg.norm(a) / np.linalg.norm(b)


def negative_cosine(z1, z2):
  return -np.mean([cosine(a, b) for a, b in zip(z1, z2, strict=True)])


def softmax(x):
  e = np.exp(x - x.max())
  return e / e.sum()


def soft_cross_entropy(scores, targets, temperature):
  total = 0.0
  for s, q in zip(scores, targets, strict=True):
    total -= sum(q_k * math.log(p_k) for q_k, p_k in zip(q, softmax(s / temperature), strict=True))
  return total / len(scores)


def sinkhorn(scores, epsilon=0.05, iterations=3):
  """As the authors' code: Q [k, n], rows and columns scaled in turn."""
  q = np.exp(scores / epsilon).T
  q /= q.sum()
  k, n = q.shape
  for _ in range(iterations):
    q = q / q.sum(1, keepdims=True) / k
    q = q / q.sum(0, keepdims=True) / n
  return (q * n).T


def koleo(z, epsilon=1e-8):
  z = z / np.linalg.norm(z, axis=1, keepdims=True)
  total = 0.0
  for i in range(len(z)):
    total -= math.log(min(np.linalg.norm(z[i] - z[j]) for j in range(len(z)) if j != i) + epsilon)
  return total / len(z)


def relational(query, target, others, temperature=0.1, target_temperature=0.04):
  similar = lambda z: np.array([[cosine(a, b) for b in others] for a in z])
  targets = [softmax(row / target_temperature) for row in similar(target)]
  return soft_cross_entropy(similar(query), targets, temperature)


def smooth_l1(prediction, target, beta):
  values = []
  for d in np.abs(prediction - target).ravel():
    values.append(d * d / 2 / beta if d < beta else d - beta / 2)
  return np.mean(values)
