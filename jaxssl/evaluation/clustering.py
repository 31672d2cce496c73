"""How well clusters that were found without labels stand for classes."""

import numpy as np


def clustering_accuracy(
    train_assign: np.ndarray, train_labels: np.ndarray, test_assign: np.ndarray, test_labels: np.ndarray
) -> float:
  """Returns the accuracy on test examples of a classifier that knows nothing but the cluster of an example.

  Each cluster takes the label that most of its training examples have, of several the smallest. A test example in a
  cluster that no training example is in counts as an error.

  Args:
    train_assign: [n] integers, the clusters of the training examples.
    train_labels: [n] integers.
    test_assign: [m] integers, the clusters of the test examples.
    test_labels: [m] integers.

  Returns:
    A fraction. The adversarial autoencoder's paper (Makhzani et al. 2015, https://arxiv.org/abs/1511.05644) gives the
    error, 1 less the accuracy, with the label of the most confident example for each cluster instead of a vote.

  Raises:
    ValueError: naming the argument that is not as long as its counterpart, or empty.
  """
  pairs = {'train': (train_assign, train_labels), 'test': (test_assign, test_labels)}
  for name, (assign, labels) in pairs.items():
    if np.ndim(assign) != 1 or np.shape(assign) != np.shape(labels) or not len(assign):
      raise ValueError(
          f'{name}_assign and {name}_labels must hold one integer for each example, at least one, got shapes '
          f'{list(np.shape(assign))} and {list(np.shape(labels))}')
  clusters, of_train = np.unique(train_assign, return_inverse=True)
  classes, label_of_train = np.unique(train_labels, return_inverse=True)
  votes = np.zeros((len(clusters), len(classes)), np.int64)
  np.add.at(votes, (of_train, label_of_train), 1)
  place = np.minimum(np.searchsorted(clusters, test_assign), len(clusters) - 1)
  known = clusters[place] == test_assign
  return float(np.mean(known & (classes[votes.argmax(axis=1)][place] == test_labels)))
