"""The protocols for sequences: statistics over what is real, and every task's folds."""

import jax.numpy as jnp
import numpy as np
import pytest

from jaxssl.evaluation import linear_probe, sequences


def padded(rows, lengths):
  waves = np.asarray(rows, np.float32)
  mask = np.arange(waves.shape[1]) < np.asarray(lengths)[:, None]
  return sequences.Padded(lambda indices: (waves[indices], mask[indices]), len(waves))


def encode(waves, mask):
  """Two features of each pair of samples."""
  pairs = waves.reshape(len(waves), -1, 2)
  return jnp.stack([pairs.sum(axis=2), pairs[..., 0] - pairs[..., 1]], axis=-1), mask[:, 1::2]


def test_features_are_statistics_and_evenly_spread_steps():
  rng = np.random.default_rng(0)
  waves, lengths = rng.normal(size=(5, 40)), [40, 31, 16, 2, 0]
  found = sequences.encode_all(encode, padded(waves, lengths), batch_size=2)
  assert found.whole.shape == (5, 4) and found.steps.shape == (5, sequences.STEPS, 2)
  for i, length in enumerate(lengths):
    pairs = waves[i].reshape(-1, 2)[:max(length // 2, 1)]
    steps = np.stack([pairs.sum(axis=1), pairs[:, 0] - pairs[:, 1]], axis=1)
    np.testing.assert_allclose(found.whole[i], [*steps.mean(axis=0), *steps.std(axis=0)], atol=1e-5)
    chosen = ((np.arange(sequences.STEPS) + 0.5) / sequences.STEPS * len(steps)).astype(int)
    np.testing.assert_allclose(found.steps[i], steps[chosen], atol=1e-6)


def made(n=90, seed=0):
  """Features that tell the class in two dimensions, shifted by the group in two others."""
  rng = np.random.default_rng(seed)
  classes, groups = np.arange(n) % 3, np.arange(n) // 3 % 3
  centres = np.eye(3) * 3
  whole = np.concatenate([centres[classes], centres[groups]], axis=1) + rng.normal(size=(n, 6)) * 0.3
  steps = whole[:, None] + rng.normal(size=(n, sequences.STEPS, 6)) * 0.1
  test = np.arange(n) >= n - 30
  return sequences.Features(whole.astype(np.float32), steps.astype(np.float32)), sequences.Labels(classes, groups, test)


def test_rows_of_all_tasks():
  features, labels = made()
  rows = sequences.evaluate(
      {('mfcc', 'inputs'): features, ('trained', 'z'): features}, labels, knn={'k': 3, 'temperature': 0.1},
      linear={'grid': (1e-2,)}, steps=True, seed=4)
  found = {(row['label'], row['protocol'], row['features']): row for row in rows}
  assert len(rows) == len(found) == 2 * (3 + 3 + 2)
  assert all(row['value'] > 0.9 and row['seed'] == 4 and row['metric'] == 'accuracy' for row in rows)
  unheard = found['class of an unheard speaker', 'linear', 'trained']
  assert unheard['folds'] == 3 and unheard['num_test'] == 90 and unheard['split'] == 'held-out group'
  assert found['class', 'knn', 'mfcc']['num_test'] == 30 and found['class', 'knn', 'mfcc']['representation'] == 'inputs'


def test_unheard_speakers_are_out_of_the_training_set():
  """Each group has the classes in an order of its own, so that the others mislead about it."""
  features, labels = made()
  permuted = (labels.classes + labels.groups) % 3
  rows = sequences.evaluate({('trained', 'z'): sequences.Features(
      features.whole[:, :3], features.steps)}, labels._replace(classes=permuted), linear={'grid': (1e-2,)})
  found = {row['label']: row['value'] for row in rows}
  assert found['class of an unheard speaker'] < 0.1
  expected = np.mean([
      linear_probe.accuracy(features.whole[labels.groups != g, :3], permuted[labels.groups != g],
                            features.whole[labels.groups == g, :3], permuted[labels.groups == g], l2=1e-2)[0]
      for g in range(3)])
  np.testing.assert_allclose(found['class of an unheard speaker'], expected)


def test_only_what_is_known_is_predicted():
  features, labels = made()
  tasks = lambda labels: {row['label'] for row in sequences.evaluate(
      {('trained', 'z'): features}, labels, linear={'grid': (1e-2,)})}
  assert tasks(labels._replace(groups=None)) == {'class'}
  assert tasks(labels._replace(classes=None)) == {'speaker'}
  with pytest.raises(ValueError, match='neither labels nor groups'):
    tasks(labels._replace(classes=None, groups=None))
