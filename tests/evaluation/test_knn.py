import numpy as np
import pytest
from sklearn.neighbors import KNeighborsClassifier

from jaxssl.evaluation import knn


def _blobs(n, d, num_classes, seed):
  rng = np.random.default_rng(seed)
  labels = rng.integers(0, num_classes, n)
  centres = np.random.default_rng(99).normal(size=(num_classes, d))
  return (centres[labels] + 1.5 * rng.normal(size=(n, d))).astype(np.float32), labels


def _cosine(query, bank):
  query, bank = np.asarray(query, np.float64), np.asarray(bank, np.float64)
  return (query / np.linalg.norm(query, axis=1, keepdims=True)) @ (bank / np.linalg.norm(bank, axis=1, keepdims=True)).T


def _reference(bank, labels, query, k, temperature):
  cosine = _cosine(query, bank)
  votes = np.zeros((len(query), labels.max() + 1))
  for i, row in enumerate(cosine):
    for j in np.argsort(-row, kind='stable')[:k]:
      votes[i, labels[j]] += np.exp(row[j] / temperature)
  return votes.argmax(axis=1)


@pytest.mark.parametrize('k, temperature', [(1, 0.1), (7, 0.1), (50, 0.07), (203, 0.5)])
def test_against_float64_and_sklearn(k, temperature):
  bank, labels = _blobs(203, 5, 4, 0)
  query, _ = _blobs(61, 5, 4, 1)
  found = knn.classify(bank, labels, query, k=k, temperature=temperature, query_chunk=17, bank_chunk=31)
  np.testing.assert_array_equal(found, _reference(bank, labels, query, k, temperature))
  sklearn = KNeighborsClassifier(k, metric='cosine', weights=lambda distance: np.exp((1 - distance) / temperature))
  np.testing.assert_array_equal(found, sklearn.fit(bank, labels).predict(query))


@pytest.mark.parametrize('query_chunk, bank_chunk', [(1, 1), (7, 3), (8, 64), (100, 1000)])
def test_chunks_do_not_change_the_neighbours(query_chunk, bank_chunk):
  bank, _ = _blobs(101, 6, 3, 0)
  query, _ = _blobs(23, 6, 3, 1)
  index, cosine = knn.neighbours(query, bank, 9, query_chunk=query_chunk, bank_chunk=bank_chunk)
  expected = _cosine(query, bank)
  np.testing.assert_array_equal(index, np.argsort(-expected, axis=1, kind='stable')[:, :9])
  np.testing.assert_allclose(cosine, np.take_along_axis(expected, index, axis=1), atol=1e-6)


def test_small_differences_in_cosine_are_seen():
  # Neighbours at 1e-4 radians from each other: low-precision products would shuffle them.
  angle = np.arange(64)[::-1] * 1e-3 + 0.7
  bank = np.stack([np.cos(angle), np.sin(angle)], axis=1)
  index, _ = knn.neighbours(np.array([[1.0, 0.0]]), bank, 64, bank_chunk=10)
  np.testing.assert_array_equal(index[0], np.arange(64)[::-1])


def test_ties_go_to_the_lower_index_then_the_smaller_label():
  bank = np.tile(np.array([[1.0, 2.0]]), (10, 1))
  index, _ = knn.neighbours(bank[:3], bank, 4, bank_chunk=3)
  np.testing.assert_array_equal(index, np.tile(np.arange(4), (3, 1)))
  labels = np.array([7, 7, 3, 3, 5, 5, 5, 5, 5, 5])
  np.testing.assert_array_equal(knn.classify(bank, labels, bank[:1], k=4), [3])


def test_near_neighbours_outvote_many_far_ones():
  bank = np.array([[1.0, 0.0]] + [[0.5, 0.5]] * 3)
  query = np.array([[1.0, 0.05]])
  labels = np.array([-4, 1000, 1000, 1000])
  assert knn.classify(bank, labels, query, k=4, temperature=0.1)[0] == -4
  assert knn.classify(bank, labels, query, k=4, temperature=10.0)[0] == 1000
  assert knn.classify(bank, labels, query, k=4, temperature=1e-4)[0] == -4


def test_accuracy():
  bank, labels = _blobs(50, 5, 4, 0)
  assert knn.accuracy(bank, labels, bank, labels, k=1) == 1
  wrong = labels.copy()
  wrong[:10] += 1
  assert knn.accuracy(bank, labels, bank, wrong, k=1) == 0.8


def test_a_zero_row_is_harmless():
  bank, labels = _blobs(20, 5, 2, 0)
  bank[3] = 0
  index, cosine = knn.neighbours(bank, bank, 20)
  assert np.isfinite(cosine).all()
  assert (np.sort(index, axis=1) == np.arange(20)).all()


def test_errors():
  bank, labels = _blobs(20, 5, 2, 0)
  with pytest.raises(ValueError, match='k must be between 1 and the bank size 20, got 21'):
    knn.classify(bank, labels, bank, k=21)
  with pytest.raises(ValueError, match='got 0'):
    knn.neighbours(bank, bank, 0)
  with pytest.raises(ValueError, match='20 rows but bank_labels 19'):
    knn.classify(bank, labels[:-1], bank, k=3)
  with pytest.raises(ValueError, match='temperature must be positive, got 0'):
    knn.classify(bank, labels, bank, k=3, temperature=0)
  with pytest.raises(ValueError, match=r'\[20, 4\] and \[20, 5\]'):
    knn.neighbours(bank[:, :4], bank, 3)
  with pytest.raises(ValueError, match='20 rows but test_labels 3'):
    knn.accuracy(bank, labels, bank, labels[:3], k=3)


def test_features_that_are_not_finite_are_refused():
  good, bad = np.ones((4, 2), np.float32), np.array([[0, np.nan], [1, 1]], np.float32)
  with pytest.raises(FloatingPointError, match='the features of 1 of 2 queries are not finite'):
    knn.neighbours(bad, good, 1)
  with pytest.raises(FloatingPointError, match='1 of 2 examples of the bank'):
    knn.neighbours(good, bad, 1)
