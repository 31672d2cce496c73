"""Online evaluation: k-NN and a linear probe of an encoder in training, by a few labelled training examples.

The test set has no part in it: whoever stops a run, picks a checkpoint or sets a hyper-parameter by such a curve has
fitted that choice to its examples, which must not be those of the final table. So a random part of the training split
is drawn, once for the whole run; of each of its classes half is for the classifiers and half is held out to measure.
Only the labels are held out: pretraining may see all of these examples.
"""

import dataclasses
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from jaxssl.evaluation import knn, linear_probe
from jaxssl.evaluation.subsets import balanced_subset, proportional_subset

PROTOCOLS = ('knn', 'linear')
# A curve needs less than the final probe: a tenth of its precision, a fifth of its iterations.
TOLERANCE, ITERATIONS = 1e-2, 100


@dataclasses.dataclass(frozen=True)
class Recipe:
  """When to evaluate, and by how much.

  Attributes:
    every: steps from one evaluation to the next; 0: none.
    examples: of the training split, half of them held out; all where there are fewer.
    protocols: some of `PROTOCOLS`.

  Raises:
    ValueError: for a value out of range.
  """

  every: int = 0
  examples: int = 2048
  protocols: tuple[str, ...] = PROTOCOLS

  def __post_init__(self):
    for name, least in (('every', 0), ('examples', 4)):
      if getattr(self, name) < least:
        raise ValueError(f'{name} must be at least {least}, got {getattr(self, name)}')
    if not self.protocols or not {*self.protocols} <= {*PROTOCOLS}:
      raise ValueError(f'protocols must be one or more of {", ".join(map(repr, PROTOCOLS))}, got {self.protocols!r}')


class Examples(NamedTuple):
  """What the encoder is measured by."""

  rows: np.ndarray  # [n], of the training split.
  labels: np.ndarray  # [n].
  held_out: np.ndarray  # bool [n].


def draw(labels: np.ndarray, count: int, seed: int) -> Examples:
  """Returns `count` random examples of a split with these labels [n], or all; the same for the same seed.

  Every class has its share of them. Half of each class is held out; a class of one example is not.

  Raises:
    ValueError: where nothing is left to hold out, or there are fewer than two classes to tell apart.
  """
  rows = proportional_subset(labels, count, seed)
  chosen = np.asarray(labels)[rows]
  held_out = np.ones(len(rows), bool)
  held_out[balanced_subset(chosen, 0.5, seed)] = False
  classes = len(np.unique(chosen))
  if classes < 2:
    raise ValueError(f'there must be examples of at least two classes, got {len(rows)} of {classes}')
  if not held_out.any():
    raise ValueError(f'no example can be held out, since none of {classes} classes has two among {len(rows)}')
  return Examples(rows, chosen, held_out)


def accuracies(
    features: np.ndarray, examples: Examples, protocols: Sequence[str], *, k: int, temperature: float, l2: float,
) -> dict[str, float]:
  """Returns the accuracy on the held-out examples by protocol.

  Args:
    features: [n, d], of `examples`.
    examples: from `draw`.
    protocols: some of `PROTOCOLS`.
    k: neighbours that vote in k-NN, at most the number of examples that are not held out.
    temperature: of their votes.
    l2: strength of the linear probe's penalty, see `linear_probe.objective`; a fit ends at `TOLERANCE` or after
      `ITERATIONS`.
  """
  held_out, found = examples.held_out, {}
  fitted, measured = ((features[part], examples.labels[part]) for part in (~held_out, held_out))
  if 'knn' in protocols:
    found['knn'] = knn.accuracy(*fitted, *measured, k=min(k, len(fitted[0])), temperature=temperature)
  if 'linear' in protocols:
    probe = linear_probe.fit(*fitted, l2, tolerance=TOLERANCE, max_iterations=ITERATIONS)
    found['linear'] = float(np.mean(linear_probe.predict(probe, measured[0]) == measured[1]))
  return found


def metric(protocol: str, features: str = 'trained') -> str:
  """Returns what a protocol's accuracy is called in the metrics of a run; `features` as in `protocols.evaluate`."""
  return f'online_{protocol}_accuracy' + ('' if features == 'trained' else f'_{features}')
