"""Fréchet distance, precision and recall of sets of features: closed forms, edge cases, a slow reference."""

import numpy as np
import pytest

from jaxssl.evaluation import fidelity

RNG = np.random.default_rng(0)


def with_moments(mean, covariance, n):
  """n points whose mean and unbiased covariance are exactly these."""
  x = np.random.default_rng(n).normal(size=(n, len(mean)))
  x -= x.mean(axis=0)
  x = np.linalg.solve(np.linalg.cholesky(np.cov(x, rowvar=False)), x.T).T
  return x @ np.linalg.cholesky(covariance).T + mean


def positive(d):
  root = RNG.normal(size=(d, d))
  return root @ root.T + 0.1 * np.eye(d)


def square_root(matrix):
  values, vectors = np.linalg.eigh(matrix)
  return vectors * np.sqrt(np.maximum(values, 0)) @ vectors.T


def test_frechet_distance_of_diagonal_gaussians():
  mean1, mean2, std1, std2 = np.array([1.0, -2, 3]), np.array([0.0, 5, 3]), np.array([1.0, 2, 3]), np.array([2.0, 2, 7])
  real, fake = with_moments(mean1, np.diag(std1**2), 40), with_moments(mean2, np.diag(std2**2), 55)
  expected = np.sum((mean1 - mean2)**2) + np.sum((std1 - std2)**2)
  np.testing.assert_allclose(fidelity.frechet_distance(real, fake), expected, rtol=1e-10)


def test_frechet_distance_of_gaussians_that_do_not_commute():
  mean1, mean2, s1, s2 = np.arange(6.0), np.ones(6), positive(6), positive(6)
  root = square_root(s1)
  expected = np.sum((mean1 - mean2)**2) + np.trace(s1 + s2 - 2 * square_root(root @ s2 @ root))
  found = fidelity.frechet_distance(with_moments(mean1, s1, 60), with_moments(mean2, s2, 90))
  np.testing.assert_allclose(found, expected, rtol=1e-9)


def test_frechet_distance_of_fewer_examples_than_dimensions():
  real, fake = RNG.normal(size=(7, 30)), RNG.normal(size=(5, 30)) + 0.5
  s1, s2 = np.cov(real, rowvar=False), np.cov(fake, rowvar=False)
  root = square_root(s1)
  expected = np.sum((real.mean(0) - fake.mean(0))**2) + np.trace(s1 + s2 - 2 * square_root(root @ s2 @ root))
  np.testing.assert_allclose(fidelity.frechet_distance(real, fake), expected, rtol=1e-5)
  flat = np.concatenate([real, np.zeros((7, 3))], axis=1), np.concatenate([fake, np.zeros((5, 3))], axis=1)
  np.testing.assert_allclose(fidelity.frechet_distance(*flat), fidelity.frechet_distance(real, fake), rtol=1e-10)


@pytest.mark.parametrize('shape', [(50, 4), (6, 20), (2, 1)])
def test_equal_sets(shape):
  x = (1000 + RNG.normal(size=shape)).astype(np.float32)
  assert fidelity.frechet_distance(x, x) < 1e-9 * np.var(x.astype(float), axis=0).sum()
  np.testing.assert_allclose(fidelity.frechet_distance(x, x[::-1] + 2), 4 * shape[1], rtol=1e-6)
  assert fidelity.precision_recall(x, x[::-1], k=1) == (1, 1)


def test_samples_of_one_mode_are_precise_and_cover_little():
  modes = np.repeat(np.eye(10), 30, axis=0) * 100
  real = modes + RNG.normal(size=(300, 10))
  fake = np.repeat(np.eye(10)[:1] * 100, 300, axis=0) + 0.5 * RNG.normal(size=(300, 10))
  precision, recall = fidelity.precision_recall(real, fake)
  assert precision == 1 and recall <= 0.1
  assert fidelity.precision_recall(fake, real) == (recall, precision)
  assert fidelity.precision_recall(real, fake + 1000) == (0, 0)


def slowly(real, fake, k):
  """One pair at a time, by differences."""
  distance = lambda a, b: float(np.sqrt(np.sum((a - b)**2)))
  radius = lambda x, i: sorted(distance(x[i], x[j]) for j in range(len(x)) if j != i)[k - 1]
  inside = lambda point, x: any(distance(point, x[i]) <= radius(x, i) for i in range(len(x)))
  return np.mean([inside(y, real) for y in fake]), np.mean([inside(x, fake) for x in real])


@pytest.mark.parametrize('k, block', [(1, 7), (3, 1), (3, 1024), (5, 13)])
def test_precision_and_recall_against_a_slow_reference(k, block):
  rng = np.random.default_rng(k)
  real, fake = rng.normal(size=(40, 4)), 0.5 * rng.normal(size=(26, 4)) + np.repeat([0.5, 2], 13)[:, None]
  found = fidelity.precision_recall(real, fake, k=k, block=block)
  np.testing.assert_allclose(found, slowly(real, fake, k), rtol=1e-12)
  assert 0 < found[0] < 1 and 0 < found[1] < 1


def test_examples_that_stand_there_many_times():
  """Their balls are points, which belong to themselves all the same, wherever the origin is."""
  real = np.repeat(RNG.normal(size=(3, 64)).astype(np.float32) + 300, 5, axis=0)
  assert fidelity.precision_recall(real, real[::5].repeat(4, axis=0)) == (1, 1)
  assert fidelity.precision_recall(real, real[:5]) == (1, 1 / 3)
  assert fidelity.precision_recall(real, real + 1e-2) == (0, 0)


def test_rows():
  real, fake = RNG.normal(size=(30, 2)), RNG.normal(size=(20, 2))
  rows = fidelity.rows(real, fake, 'trained', seed=3, num_test=30)
  assert [row['metric'] for row in rows] == ['frechet_distance', 'precision', 'recall']
  assert [row['value'] for row in rows] == [
      fidelity.frechet_distance(real, fake), *fidelity.precision_recall(real, fake, k=3)]
  common = {'protocol': 'samples', 'features': 'trained', 'seed': 3, 'num_test': 30, 'num_samples': 20}
  assert all(common.items() <= row.items() for row in rows) and [row.get('k') for row in rows] == [None, 3, 3]


X = np.zeros((9, 3))


@pytest.mark.parametrize('call, error, message', [
    (lambda: fidelity.frechet_distance(X, X[:, :2]), ValueError, r'real and fake must be .* \[9, 3\] and \[9, 2\]'),
    (lambda: fidelity.precision_recall(X[0], X), ValueError, r'got shapes \[3\] and \[9, 3\]'),
    (lambda: fidelity.frechet_distance(X, X[:1]), ValueError, 'fake must be at least 2 examples, got 1'),
    (lambda: fidelity.precision_recall(X[:3], X), ValueError, 'real must be at least 4 examples, got 3'),
    (lambda: fidelity.precision_recall(X, X, k=0), ValueError, 'k must be positive, got 0'),
    (lambda: fidelity.precision_recall(X, X, block=0), ValueError, 'block must be positive, got 0'),
    (lambda: fidelity.frechet_distance(X, X + np.array([0, np.nan, 0])), FloatingPointError,
     'the features of 9 of 9 fake examples are not finite'),
])
def test_what_cannot_be_compared_is_refused(call, error, message):
  with pytest.raises(error, match=message):
    call()
