import numpy as np
import pytest
from numpy.linalg import svd

from jaxssl.evaluation import pca


def _data(n, p, seed=0):
  """Correlated values with a mean far from zero, whose singular values are all different."""
  rng = np.random.default_rng(seed)
  scales = 0.8 ** np.arange(p)
  rotation, _ = np.linalg.qr(rng.normal(size=(p, p)))
  return (rng.normal(size=(n, p)) * scales @ rotation + 3).astype(np.float32)


def _reference(x, dimensions):
  """Directions and reconstruction of x by the SVD in float64."""
  centred = x.astype(np.float64) - x.mean(axis=0, dtype=np.float64)
  directions = svd(centred, full_matrices=False)[2][:dimensions]
  return directions, centred @ directions.T @ directions + x.mean(axis=0, dtype=np.float64)


@pytest.mark.parametrize('n, p, d', [(50, 12, 4), (50, 12, 12), (9, 30, 5), (9, 30, 8), (12, 12, 3)])
def test_against_the_svd(n, p, d):
  x = _data(n, p)
  found = pca.fit(x, d)
  directions, expected = _reference(x, d)
  assert found.dimensions == d
  np.testing.assert_allclose(np.abs(np.sum(found.components * directions, axis=1)), 1, atol=1e-5)
  np.testing.assert_allclose(found.components @ found.components.T, np.eye(d), atol=1e-5)
  np.testing.assert_allclose(found.decode(found.encode(x)), expected, atol=1e-5)


def test_blocks_make_no_difference(monkeypatch):
  tall, wide = _data(50, 12), _data(9, 30)
  expected = [pca.fit(x, 4) for x in (tall, wide)]
  monkeypatch.setattr(pca, 'BLOCK', 7)
  for x, whole in zip((tall, wide), expected, strict=True):
    found = pca.fit(x, 4)
    np.testing.assert_allclose(found.decode(found.encode(x)), whole.decode(whole.encode(x)), atol=1e-6)


@pytest.mark.parametrize('n, p', [(60, 40), (40, 60)])
def test_subspace_iteration_of_large_data(monkeypatch, n, p):
  x = _data(n, p)
  monkeypatch.setattr(pca, 'EXACT', 20)
  monkeypatch.setattr(pca, 'SPARE', 4)
  found = pca.fit(x, 5)
  assert found.dimensions == 5
  np.testing.assert_allclose(found.decode(found.encode(x)), _reference(x, 5)[1], atol=1e-5)


@pytest.mark.parametrize('n, p, most', [(5, 30, 4), (50, 12, 12), (1, 6, 0)])
def test_no_more_dimensions_than_directions(n, p, most):
  x = _data(n, p)
  found = pca.fit(x, 100)
  assert found.dimensions == most
  np.testing.assert_allclose(found.decode(found.encode(x)), x, atol=1e-5)


def test_values_that_never_change_are_no_direction():
  x = np.concatenate([_data(20, 3), np.full((20, 4), 0.1, np.float32)], axis=1)
  found = pca.fit(x, 7)
  assert found.dimensions == 3
  np.testing.assert_allclose(found.decode(found.encode(x)), x, atol=1e-6)


def test_the_first_are_the_first():
  x = _data(50, 12)
  few, many = pca.fit(x, 3), pca.fit(x, 8)
  np.testing.assert_array_equal(many.first(3).components, few.components)
  assert many.first(20).dimensions == 8


def test_errors():
  with pytest.raises(ValueError, match=r'x must be \[n, p\] and not empty, got shape \[0, 4\]'):
    pca.fit(np.zeros((0, 4)), 2)
  with pytest.raises(ValueError, match='dimensions must be at least 1, got 0'):
    pca.fit(np.zeros((3, 4)), 0)
