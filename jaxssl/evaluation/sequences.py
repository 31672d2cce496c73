"""The protocols for sequences: whole ones by the statistics of their steps, and single steps.

A sequence's features are the mean and the standard deviation of its steps over time, for every encoder alike. What is
predicted is the class, the speaker (the source's group), or the class of speakers whom the classifier has not heard.
"""

import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxssl import ops
from jaxssl.evaluation import linear_probe
from jaxssl.evaluation.features import extract
from jaxssl.evaluation.mfcc import statistics
from jaxssl.evaluation.protocols import figures
from jaxssl.evaluation.table import Row

# (waves [b, n], mask [b, n]) -> (features [b, t, d], which steps are real [b, t]).
EncodeSteps = Callable[[jax.Array, jax.Array], tuple[jax.Array, jax.Array]]
STEPS = 8  # Of each sequence, evenly spread over what is real, for the protocol of single steps.
TASKS = ('class', 'speaker', 'class of an unheard speaker')


class Features(NamedTuple):
  """Of n sequences, as one encoder sees them."""

  whole: np.ndarray  # [n, 2 d]
  steps: np.ndarray  # [n, STEPS, d]


@dataclasses.dataclass(frozen=True)
class Padded:
  """Sequences cut or padded to one length: `inputs[indices]` is a pair, waves [k, length] and mask [k, length]."""

  take: Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]
  count: int

  def __len__(self) -> int:
    return self.count

  def __getitem__(self, indices: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return self.take(indices)


def steps_of(method: Any, state: Any, name: str) -> EncodeSteps:
  """Returns the steps of a method's representation; of a method that has none, the whole sequence is one."""

  def encode(waves, mask):
    if f'{name}_steps' not in method.representations:
      whole = method.represent(state, waves, name, mask)[:, None]
      return whole, jnp.ones(whole.shape[:2], bool)
    steps = method.represent(state, waves, f'{name}_steps')
    return steps, ops.step_mask(mask, steps.shape[1], getattr(method, 'downsample', None))

  return encode


def of_whole(representations: tuple[str, ...]) -> tuple[str, ...]:
  """Returns those of a method's representations that are of whole sequences, not of their steps."""
  return tuple(name for name in representations if not name.endswith('_steps'))


def summarize(encode: EncodeSteps) -> Callable[[tuple[jax.Array, jax.Array]], jax.Array]:
  """Returns the function of (waves, mask) that gives the statistics and STEPS of the steps, [b, (2 + STEPS) d]."""

  @jax.jit
  def summary(inputs):
    features, valid = encode(*inputs)
    valid = valid.at[:, 0].set(True)  # So that no sequence is without a step.
    count = jnp.sum(valid, axis=1)
    chosen = ((jnp.arange(STEPS)[None] + 0.5) / STEPS * count[:, None]).astype(jnp.int32)
    steps = jnp.take_along_axis(features, chosen[..., None], axis=1)
    return jnp.concatenate([statistics(features, valid), steps.reshape(len(steps), -1)], axis=1)

  return summary


def encode_all(encode: EncodeSteps, sequences: Padded, batch_size: int) -> Features:
  """Returns the features of all sequences."""
  return unpack(extract(summarize(encode), sequences, batch_size=batch_size, prepare=lambda pair: pair))


def unpack(found: np.ndarray) -> Features:
  """Returns what `summarize` puts side by side."""
  width = found.shape[1] // (2 + STEPS)
  return Features(found[:, :2 * width], found[:, 2 * width:].reshape(len(found), STEPS, width))


class Labels(NamedTuple):
  """Of the sequences of a training and a test set, one after the other."""

  classes: np.ndarray | None  # [n].
  groups: np.ndarray | None  # [n].
  test: np.ndarray  # bool [n].


def evaluate(
    features: Mapping[tuple[str, str], Features],
    labels: Labels,
    *,
    knn: Mapping[str, Any] | None = None,
    linear: Mapping[str, Any] | None = None,
    steps: bool = False,
    fractions: Sequence[float] = (),
    seed: int = 0,
) -> list[Row]:
  """Runs k-NN and linear probes on the features of sequences, for every task that the labels allow.

  The tasks are TASKS. The last holds out one group after another, the training and the test set taken together, and
  averages: each classifier has seen the classes by all groups but one, and is tested on that one. An encoder that was
  trained on unlabelled sequences of all groups has heard that one too.

  Args:
    features: (kind of features, representation) -> those of the training set followed by those of the test set.
    labels: of the same.
    knn: options of `knn.classify`, or None to leave k-NN out.
    linear: options of `linear_probe.accuracy`, or None to leave linear probes out.
    steps: whether to probe single steps too, by their sequence's labels; not for the last task.
    fractions: shares of the training labels for further linear probes of whole sequences.
    seed: of the held-out examples and the label fractions; recorded in the rows.

  Returns:
    Rows as `protocols.evaluate` makes them; the protocols are 'knn', 'linear' and 'linear_steps'.

  Raises:
    ValueError: if neither classes nor groups are known.
  """
  if labels.classes is None and labels.groups is None:
    raise ValueError('the sequences have neither labels nor groups: k-NN and linear probes need them')
  rows = []
  for task, folds, targets in _tasks(labels):
    sizes = {'num_train': int((~folds[0]).sum()), 'num_test': sum(int(test.sum()) for test in folds),
             'num_classes': len(np.unique(targets)), 'folds': len(folds)}
    for (kind, representation), found in features.items():
      common = {'label': task, 'split': 'test' if len(folds) == 1 else 'held-out group',
                'representation': representation, 'features': kind, 'seed': seed, 'metric': 'accuracy'}
      by_fold = [
          list(_fold(found, targets, test, knn, linear, steps and len(folds) == 1, fractions, seed)) for test in folds]
      for of_folds in zip(*by_fold, strict=True):
        value = float(np.mean([figure['value'] for figure in of_folds]))
        rows.append({'protocol': of_folds[0]['protocol'], **common, 'value': value, **sizes,
                     **{key: each for key, each in of_folds[0].items() if key not in ('protocol', 'value')}})
  return rows


def _tasks(labels: Labels) -> Iterator[tuple[str, list[np.ndarray], np.ndarray]]:
  """Yields each task, its test sets, bool [n], and what is to be predicted, [n]."""
  if labels.classes is not None:
    yield TASKS[0], [labels.test], labels.classes
  if labels.groups is not None:
    yield TASKS[1], [labels.test], labels.groups
  if labels.classes is not None and labels.groups is not None:
    yield TASKS[2], [labels.groups == group for group in np.unique(labels.groups)], labels.classes


def _fold(features, targets, test, knn, linear, steps, fractions, seed) -> Iterator[Row]:
  train_set, test_set = ((features.whole[rows], targets[rows]) for rows in (~test, test))
  yield from figures(train_set, test_set, knn, linear, fractions, seed)
  if steps:
    width = features.steps.shape[-1]
    flat = [(features.steps[rows].reshape(-1, width), np.repeat(targets[rows], STEPS)) for rows in (~test, test)]
    value, l2 = linear_probe.accuracy(*flat[0], *flat[1], **{'seed': seed, **(linear or {})})
    yield {'protocol': 'linear_steps', 'value': value, 'solver': 'lbfgs', 'l2': l2, 'steps': STEPS}
