"""Online evaluation: which examples are drawn, and that k-NN and probe are those of the final evaluation."""

import numpy as np
import pytest

from jaxssl.evaluation import knn, linear_probe, online, plots_online
from jaxssl.evaluation.subsets import proportional_subset

LABELS = np.random.default_rng(0).permutation(np.repeat([2, 4, 7, 9], [1, 10, 40, 149]))


@pytest.mark.parametrize('count', [3, 20, 57, 200, 999])
def test_every_class_gives_its_share_to_one_example(count):
  rows = proportional_subset(LABELS, count, seed=3)
  assert len(rows) == min(count, 200) and (np.diff(rows) > 0).all()
  for label in (2, 4, 7, 9):
    share = list(LABELS).count(label) * len(rows) / 200
    assert abs(list(LABELS[rows]).count(label) - share) <= 1
  np.testing.assert_array_equal(rows, proportional_subset(LABELS, count, seed=3))
  assert set(proportional_subset(LABELS, 3, seed=3)) <= set(rows)
  assert count > 100 or set(rows) != set(proportional_subset(LABELS, count, seed=4))


def test_half_of_each_class_is_held_out_and_none_of_a_single_example():
  examples = online.draw(LABELS, 200, seed=1)
  np.testing.assert_array_equal(examples.labels, LABELS[examples.rows])
  held_out = [np.sum(examples.labels[examples.held_out] == label) for label in (2, 4, 7, 9)]
  assert held_out == [0, 5, 20, 74]
  again = online.draw(LABELS, 200, seed=1)
  np.testing.assert_array_equal(examples.held_out, again.held_out)
  assert not np.array_equal(examples.held_out, online.draw(LABELS, 200, seed=2).held_out)


@pytest.mark.parametrize('labels, message', [
    (np.zeros(9), 'at least two classes, got 9 of 1'), (np.arange(9), 'none of 9 classes has two among 9')])
def test_what_cannot_be_measured_is_said(labels, message):
  with pytest.raises(ValueError, match=message):
    online.draw(labels, 10, 0)


def test_accuracies_are_those_of_the_final_protocols_on_the_two_halves():
  rng = np.random.default_rng(0)
  examples = online.draw(LABELS, 120, seed=0)
  centres = rng.normal(size=(10, 10))
  features = (centres[examples.labels] + 0.9 * rng.normal(size=(120, 10))).astype(np.float32)
  fit, held_out = ~examples.held_out, examples.held_out
  found = online.accuracies(features, examples, ('knn', 'linear'), k=500, temperature=0.2, l2=1e-2)
  unit = features / np.linalg.norm(features, axis=1, keepdims=True)
  weights = np.exp(unit[held_out] @ unit[fit].T / 0.2)
  votes = np.stack([weights[:, examples.labels[fit] == label].sum(axis=1) for label in (2, 4, 7, 9)], axis=1)
  expected = np.mean(np.array([2, 4, 7, 9])[votes.argmax(axis=1)] == examples.labels[held_out])
  assert found['knn'] == expected == knn.accuracy(
      features[fit], examples.labels[fit], features[held_out], examples.labels[held_out], k=fit.sum(), temperature=0.2)
  exact, _ = linear_probe.accuracy(
      features[fit], examples.labels[fit], features[held_out], examples.labels[held_out], l2=1e-2)
  assert found['linear'] == pytest.approx(exact, abs=1 / held_out.sum())
  assert online.accuracies(features, examples, ('knn',), k=5, temperature=0.2, l2=1.0).keys() == {'knn'}


def test_held_out_labels_teach_nothing():
  examples = online.draw(LABELS, 120, seed=0)
  features = np.eye(10, dtype=np.float32)[examples.labels]
  options = {'k': 1, 'temperature': 0.1, 'l2': 1e-2}
  assert set(online.accuracies(features, examples, online.PROTOCOLS, **options).values()) == {1.0}
  other = examples._replace(labels=np.where(examples.held_out, 2, examples.labels))
  assert set(online.accuracies(features, other, online.PROTOCOLS, **options).values()) == {0.0}


@pytest.mark.parametrize('options, message', [
    ({'every': -1}, 'every must be at least 0, got -1'), ({'examples': 3}, 'examples must be at least 4, got 3'),
    ({'protocols': ()}, r"protocols must be one or more of 'knn', 'linear', got \(\)"),
    ({'protocols': ('knn', 'sgd')}, r"got \('knn', 'sgd'\)")])
def test_values_out_of_range_are_named(options, message):
  with pytest.raises(ValueError, match=message):
    online.Recipe(**options)


def test_curves_are_drawn_where_there_are_any(tmp_path):
  rows = [{'step': step, 'loss': 1.0, 'online_knn_accuracy': step / 10} for step in (2, 4, 6)]
  rows[0] |= {'online_knn_accuracy_raw': 0.3, 'online_knn_accuracy_random': float('nan')}
  assert plots_online.curves(rows, tmp_path / 'online.png') and (tmp_path / 'online.png').stat().st_size > 5000
  plain = plots_online.without(rows)
  assert plain == [{'step': step, 'loss': 1.0} for step in (2, 4, 6)]
  assert not plots_online.curves(plain, tmp_path / 'none.png') and not (tmp_path / 'none.png').exists()
