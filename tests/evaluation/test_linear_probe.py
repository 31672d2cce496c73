import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

from jaxssl.evaluation import linear_probe


def _data(n, d, num_classes, seed, noise=2.0):
  rng = np.random.default_rng(seed)
  labels = rng.permutation(np.arange(n) % num_classes)
  centres = np.random.default_rng(99).normal(size=(num_classes, d))
  scales = np.logspace(-2, 2, d)  # Badly scaled on purpose.
  return ((centres[labels] + noise * rng.normal(size=(n, d))) * scales + 3 * scales).astype(np.float32), labels


def _loss(x, labels, weight, bias, l2):
  logits = x.astype(np.float64) @ weight + bias
  logits -= logits.max(axis=1, keepdims=True)
  log_probability = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
  return -log_probability[np.arange(len(x)), labels].mean() + 0.5 * l2 * np.sum(weight**2)


@pytest.mark.parametrize('l2', [1e-1, 1e-3, 1e-5])
def test_against_sklearn(l2):
  features, labels = _data(300, 11, 5, 0)
  test, test_labels = _data(500, 11, 5, 1)
  probe = linear_probe.fit(features, labels, l2, tolerance=1e-4)
  scaler = StandardScaler().fit(features.astype(np.float64))
  x = scaler.transform(features.astype(np.float64))
  expected = LogisticRegression(C=1 / (len(x) * l2), tol=1e-10, max_iter=10000).fit(x, labels)
  best = _loss(x, labels, expected.coef_.T, expected.intercept_, l2)
  found = _loss(x, labels, np.asarray(probe.weight, np.float64), np.asarray(probe.bias, np.float64), l2)
  np.testing.assert_allclose(found, best, rtol=1e-5)
  ours = linear_probe.predict(probe, test)
  assert np.mean(ours == expected.predict(scaler.transform(test))) >= 0.996
  assert abs(np.mean(ours == test_labels) - expected.score(scaler.transform(test), test_labels)) <= 0.004


def test_a_path_ends_where_a_single_fit_ends():
  features, labels = _data(120, 6, 3, 0)
  warm = linear_probe.fit_path(features, labels, (1e-1, 1e-2, 1e-3), tolerance=1e-5)[-1]
  cold = linear_probe.fit(features, labels, 1e-3, tolerance=1e-5)
  np.testing.assert_allclose(warm.weight, cold.weight, atol=2e-3)


def test_labels_need_not_be_consecutive():
  features, labels = _data(90, 6, 3, 0, noise=0.1)
  names = np.array([-5, 40, 1000])[labels]
  probe = linear_probe.fit(features, names, 1e-3)
  np.testing.assert_array_equal(linear_probe.predict(probe, features), names)


def test_constant_features_change_nothing():
  features, labels = _data(90, 6, 3, 0)
  test, _ = _data(90, 6, 3, 1)
  widen = lambda x: np.concatenate([x, np.full((len(x), 2), 0.1, np.float32)], axis=1)
  plain = linear_probe.fit(features, labels, 1e-3)
  wide = linear_probe.fit(widen(features), labels, 1e-3)
  shifted = widen(test)
  shifted[:, -1] = 100.0
  np.testing.assert_array_equal(linear_probe.predict(wide, shifted), linear_probe.predict(plain, test))


def test_the_choice_of_l2_is_that_of_a_search_by_hand():
  features, labels = _data(200, 30, 4, 0, noise=4.0)
  grid = (10.0, 1e-1, 1e-5)
  kept = linear_probe.balanced_subset(labels, 0.75, 3)
  held_out = np.setdiff1d(np.arange(len(labels)), kept)
  scores = [
      np.mean(linear_probe.predict(linear_probe.fit(features[kept], labels[kept], l2), features[held_out])
              == labels[held_out]) for l2 in grid
  ]
  assert len(set(scores)) > 1
  chosen = linear_probe.choose_l2(features, labels, grid=grid[::-1], validation=0.25, seed=3)
  assert chosen == grid[int(np.argmax(scores))]


def test_accuracy_is_deterministic_and_names_the_strength():
  train, test = _data(120, 6, 3, 0), _data(60, 6, 3, 1)
  first = linear_probe.accuracy(*train, *test, grid=(1e-1, 1e-3))
  assert first == linear_probe.accuracy(*train, *test, grid=(1e-1, 1e-3))
  assert first[1] in (1e-1, 1e-3)
  expected = np.mean(linear_probe.predict(linear_probe.fit(*train, first[1]), test[0]) == test[1])
  assert first[0] == expected
  assert linear_probe.accuracy(*train, *test, l2=0.05)[1] == 0.05


def test_a_class_outside_the_training_set_is_an_error_of_the_probe():
  features, labels = _data(90, 6, 3, 0, noise=0.1)
  value, _ = linear_probe.accuracy(features, labels, features, np.where(labels == 2, 9, labels), l2=1e-3)
  assert value == pytest.approx(2 / 3)


def test_errors():
  features, labels = _data(30, 6, 3, 0)
  with pytest.raises(ValueError, match='29 labels'):
    linear_probe.fit(features, labels[:-1], 1e-3)
  with pytest.raises(ValueError, match='two classes'):
    linear_probe.fit(features, np.zeros(30, int), 1e-3)
  with pytest.raises(ValueError, match='test_labels 3'):
    linear_probe.accuracy(features, labels, features, labels[:3])


def test_l2_is_chosen_from_the_few_labels_there_are():
  rng = np.random.default_rng(0)
  centres = 4 * np.eye(6)
  two_each = np.concatenate([centres, centres]) + 0.1 * rng.normal(size=(12, 6))
  labels = np.tile(np.arange(6), 2)
  value, l2 = linear_probe.accuracy(two_each, labels, centres, np.arange(6), validation=0.2)
  assert value == 1.0 and l2 in linear_probe.L2_GRID
  assert linear_probe.choose_l2(two_each[:6], labels[:6], grid=(1e-1, 1e-2, 1e-3)) == 1e-2


def test_features_that_are_not_finite_are_refused():
  x, labels = np.eye(4, dtype=np.float32), np.arange(4) % 2
  bad = x.copy()
  bad[1, 1] = np.inf
  with pytest.raises(FloatingPointError, match='1 of 4 training examples'):
    linear_probe.fit(bad, labels, 0.1)
  with pytest.raises(FloatingPointError, match='1 of 4 test examples'):
    linear_probe.accuracy(x, labels, bad, labels, l2=0.1)
  assert linear_probe.choose_l2(x, labels, grid=(0.3,)) == 0.3
