import dataclasses

import jax
import numpy as np
import pytest

from jaxssl.evaluation import evaluate, extract, flatten, knn, linear_probe
from jaxssl.evaluation.subsets import balanced_subset


@dataclasses.dataclass(frozen=True)
class _Source:
  inputs: np.ndarray
  labels: np.ndarray | None


def _source(n, seed):
  rng = np.random.default_rng(seed)
  labels = np.arange(n) % 3
  centres = np.random.default_rng(9).integers(0, 256, (3, 4, 4, 1))
  noise = rng.normal(size=(n, 4, 4, 1)) * 120
  return _Source(np.clip(centres[labels] + noise, 0, 255).astype(np.uint8), labels)


@jax.jit
def _sums(x):
  return flatten(x)[:, :5] ** 2


def test_rows_hold_every_encoder_under_every_protocol():
  train, test = _source(60, 0), _source(33, 1)
  rows = evaluate({'raw': flatten, 'trained': _sums}, train, test, knn={'k': 5, 'temperature': 0.2},
                  linear={'grid': (1e-1, 1e-2)}, fractions=(0.25,), batch_size=16, representation='c', seed=7)
  assert [(row['features'], row['protocol'], row.get('fraction')) for row in rows] == [
      ('raw', 'knn', None), ('raw', 'linear', 1.0), ('raw', 'linear', 0.25),
      ('trained', 'knn', None), ('trained', 'linear', 1.0), ('trained', 'linear', 0.25)]
  a, b = extract(_sums, train.inputs), extract(_sums, test.inputs)
  assert rows[3] == {
      'protocol': 'knn', 'label': 'class', 'split': 'test', 'representation': 'c', 'features': 'trained', 'seed': 7,
      'metric': 'accuracy', 'value': knn.accuracy(a, train.labels, b, test.labels, k=5, temperature=0.2),
      'num_train': 60, 'num_test': 33, 'num_classes': 3, 'k': 5, 'temperature': 0.2}
  kept = balanced_subset(train.labels, 0.25, 7)
  expected = linear_probe.accuracy(a[kept], train.labels[kept], b, test.labels, grid=(1e-1, 1e-2), seed=7)
  assert (rows[5]['value'], rows[5]['l2']) == expected
  assert rows[5]['l2_chosen'] is True
  assert rows[0]['representation'] == 'inputs'


def test_protocols_can_be_left_out_and_k_fits_the_set():
  train, test = _source(9, 0), _source(6, 1)
  rows = evaluate({'raw': flatten}, train, test, knn={'k': 200})
  assert [(row['protocol'], row['k']) for row in rows] == [('knn', 9)]
  rows = evaluate({'raw': flatten}, train, test, linear={'l2': 0.1})
  assert [(row['protocol'], row['l2'], row['l2_chosen']) for row in rows] == [('linear', 0.1, False)]


def test_errors():
  train = _source(9, 0)
  with pytest.raises(ValueError, match='test has no labels'):
    evaluate({'raw': flatten}, train, _Source(train.inputs, None), knn={})
  with pytest.raises(ValueError, match='train has 9 images but 3 labels'):
    evaluate({'raw': flatten}, _Source(train.inputs, train.labels[:3]), train, knn={})
