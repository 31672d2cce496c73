"""The accuracy of clusters against a vote counted by hand, and its errors."""

import collections

import numpy as np
import pytest

from jaxssl.evaluation.clustering import clustering_accuracy


def by_hand(train_assign, train_labels, test_assign, test_labels):
  label_of = {}
  for cluster in set(train_assign):
    votes = collections.Counter(label for at, label in zip(train_assign, train_labels, strict=True) if at == cluster)
    label_of[cluster] = min(label for label, count in votes.items() if count == max(votes.values()))
  hits = [label_of.get(at) == label for at, label in zip(test_assign, test_labels, strict=True)]
  return sum(hits) / len(hits)


@pytest.mark.parametrize('clusters, classes', [(3, 3), (12, 4), (2, 9), (40, 5)])
def test_against_a_count(clusters, classes):
  rng = np.random.default_rng(clusters)
  for _ in range(20):
    draw = lambda n, size: rng.integers(0, n, size) * 3 - 4  # Neither clusters nor labels need be 0, 1, …
    arguments = draw(clusters, 25), draw(classes, 25), draw(clusters + 2, 30), draw(classes + 1, 30)
    assert clustering_accuracy(*arguments) == pytest.approx(by_hand(*map(list, arguments)))


def test_what_a_cluster_takes_and_what_is_unseen():
  train = np.array([0, 0, 0, 7, 7]), np.array([1, 1, 2, 5, 3])
  assert clustering_accuracy(*train, np.array([0, 0, 7, 7]), np.array([1, 2, 3, 5])) == 0.5, 'of a draw the smallest'
  assert clustering_accuracy(*train, np.array([1, 9, -1]), np.array([1, 5, 1])) == 0, 'nobody is there'
  assert clustering_accuracy(np.arange(4), np.arange(4)[::-1], np.arange(4), np.arange(4)[::-1]) == 1


@pytest.mark.parametrize('change, message', [
    ({'train_labels': np.zeros(2, int)}, r'train_assign and train_labels must hold one .* got shapes \[3\] and \[2\]'),
    ({'test_assign': np.zeros((3, 1), int)}, r'test_assign and test_labels must .* got shapes \[3, 1\] and \[3\]'),
    ({'test_assign': np.zeros(0, int), 'test_labels': np.zeros(0, int)}, r'at least one, got shapes \[0\] and \[0\]'),
])
def test_mistakes_are_named(change, message):
  arguments = dict.fromkeys(('train_assign', 'train_labels', 'test_assign', 'test_labels'), np.zeros(3, int))
  with pytest.raises(ValueError, match=message):
    clustering_accuracy(**{**arguments, **change})
