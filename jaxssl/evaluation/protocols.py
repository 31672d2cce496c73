"""Every kind of features under every protocol: the rows of the results table."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import numpy as np

from jaxssl.evaluation import knn as knn_lib
from jaxssl.evaluation import linear_probe
from jaxssl.evaluation.features import Encode, extract
from jaxssl.evaluation.linear_probe import L2_GRID
from jaxssl.evaluation.subsets import balanced_subset
from jaxssl.evaluation.table import BASELINES, Row

# What rows tell of a recipe, where it is given.
RECORDED = ('optimizer', 'weight_decay', 'layer_decay', 'warmup_epochs', 'batch_norm', 'drop_path', 'mixup', 'cutmix',
            'label_smoothing')


class Labelled(Protocol):
  """A labelled set of images, such as `jaxssl.data.sources.Source`."""

  @property
  def inputs(self) -> Any:
    """n images: an array, or anything with `len()` and `images[index array] -> [k, h, w, c]`."""

  @property
  def labels(self) -> np.ndarray | None:
    """[n] integers."""


def _labels(source: Labelled, name: str) -> np.ndarray:
  if source.labels is None:
    raise ValueError(f'{name} has no labels: k-NN and linear probes need them')
  if len(source.labels) != len(source.inputs):
    raise ValueError(f'{name} has {len(source.inputs)} images but {len(source.labels)} labels')
  return np.asarray(source.labels)


def _common(features: str, label: str, split: str, representation: str, seed: int) -> Row:
  return {'label': label, 'split': split, 'representation': 'inputs' if features in BASELINES else representation,
          'features': features, 'seed': seed, 'metric': 'accuracy'}


def figures(
    train: tuple[np.ndarray, np.ndarray],
    test: tuple[np.ndarray, np.ndarray],
    knn: Mapping[str, Any] | None,
    linear: Mapping[str, Any] | None,
    fractions: Sequence[float],
    seed: int,
) -> list[Row]:
  """Returns protocol, value and the protocol's own keys of k-NN and linear probes on (features, labels) of two sets."""
  found: list[Row] = []
  if knn is not None:
    options = {'k': knn_lib.K, 'temperature': knn_lib.TEMPERATURE, **knn}
    options['k'] = min(options['k'], len(train[0]))
    found.append({'protocol': 'knn', 'value': knn_lib.accuracy(*train, *test, **options), **options})
  for fraction in (1.0, *fractions) if linear is not None else ():
    kept = balanced_subset(train[1], fraction, seed)
    options = {'seed': seed, **(linear or {})}
    chosen = options.get('l2') is None and len(options.get('grid', L2_GRID)) > 1
    value, l2 = linear_probe.accuracy(train[0][kept], train[1][kept], *test, **options)
    found.append({'protocol': 'linear', 'value': value, 'solver': 'lbfgs', 'l2': l2,
                  'l2_chosen': chosen, 'fraction': fraction})
  return found


def evaluate(
    encoders: Mapping[str, Encode],
    train: Labelled,
    test: Labelled,
    *,
    knn: Mapping[str, Any] | None = None,
    linear: Mapping[str, Any] | None = None,
    fractions: Sequence[float] = (),
    batch_size: int = 256,
    label: str = 'class',
    split: str = 'test',
    representation: str = 'h',
    seed: int = 0,
) -> list[Row]:
  """Runs the k-NN and linear-probe protocols on every encoder's features.

  Args:
    encoders: for example {'raw': flatten, 'random': …, 'trained': …}, each a function of images [b, h, w, c] in [0, 1].
    train: the labelled examples to vote and to fit with.
    test: the examples to classify.
    knn: options of `knn.classify` (`k`, at most the size of `train`; `temperature`), or None to leave k-NN out.
    linear: options of `linear_probe.accuracy` (`l2` or `grid`, `validation`), or None to leave linear probes out.
    fractions: shares of the training labels for further linear probes, such as (0.01, 0.1).
    batch_size: images per call of an encoder.
    label: name of what is predicted.
    split: name of what `test` is.
    representation: name of what the encoders return.
    seed: of the held-out examples and the label fractions; recorded in the rows.

  Returns:
    One flat dict a figure: protocol, label, split, representation, features, seed, metric, value, the sizes of the
    sets, and the protocol's own keys.

  Raises:
    ValueError: if a set has no labels.
  """
  labels, test_labels = _labels(train, 'train'), _labels(test, 'test')
  sizes = {'num_train': len(labels), 'num_test': len(test_labels), 'num_classes': len(np.unique(labels))}
  rows: list[Row] = []
  for features, encode in encoders.items():
    train_set = (extract(encode, train.inputs, batch_size=batch_size), labels)
    test_set = (extract(encode, test.inputs, batch_size=batch_size), test_labels)
    common = _common(features, label, split, representation, seed)
    for figure in figures(train_set, test_set, knn, linear, fractions, seed):
      rows.append({'protocol': figure.pop('protocol'), **common, 'value': figure.pop('value'), **sizes, **figure})
  return rows


def evaluate_trained(
    classifiers: Mapping[str, Callable[..., float]],
    train: Labelled,
    test: Labelled,
    *,
    protocol: str,
    epochs: float,
    fractions: Sequence[float] = (1.0,),
    label: str = 'class',
    split: str = 'test',
    representation: str = 'h',
    seed: int = 0,
    **options: Any,
) -> list[Row]:
  """Runs SGD probes or fine-tuning, which train on images instead of features.

  Args:
    classifiers: `sgd_probe.accuracy` or `finetune.accuracy` for each kind of features, bound to its encoder:
      {'random': functools.partial(finetune.accuracy, encoder, variables), 'trained': …}.
    train: the labelled examples to train on.
    test: the examples to classify.
    protocol: 'sgd' or 'finetune', for the rows.
    epochs: passes over the labelled examples.
    fractions: shares of the training labels, a row each.
    label: name of what is predicted.
    split: name of what `test` is.
    representation: name of what the encoders return.
    seed: of the subsets, the order and the augmentation; recorded in the rows.
    **options: passed on: `augment_fn`, and the fields of `sgd_probe.Recipe` or `finetune.Recipe`.

  Returns:
    Rows as `evaluate` makes them, with `epochs`, `fraction` and what is `RECORDED` of the options.
  """
  labels, test_labels = _labels(train, 'train'), _labels(test, 'test')
  sizes = {'num_train': len(labels), 'num_test': len(test_labels), 'num_classes': len(np.unique(labels))}
  recorded = {key: options[key] for key in RECORDED if isinstance(options.get(key), str | float | int)}
  rows: list[Row] = []
  for features, classifier in classifiers.items():
    for fraction in fractions:
      value = classifier(train.inputs, labels, test.inputs, test_labels,
                         epochs=epochs, fraction=fraction, seed=seed, **options)
      rows.append({'protocol': protocol, **_common(features, label, split, representation, seed), 'value': value,
                   **sizes, 'epochs': epochs, 'fraction': fraction, **recorded})
  return rows
