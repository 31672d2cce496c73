"""The picture of online evaluation, as a PNG file. Needs matplotlib."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from jaxssl.evaluation.online import PROTOCOLS, metric
from jaxssl.evaluation.plots import ACCENT, INK, Path, clean, panels

TITLES = {'knn': 'k-NN', 'linear': 'linear probe'}
BASELINES = {'raw': ('raw pixels', '--'), 'mfcc': ('MFCC', '--'), 'random': ('random encoder', ':')}
PREFIX = 'online_'  # Of all names of metrics that are about it.


def curves(rows: Sequence[Mapping[str, Any]], path: Path) -> bool:
  """Draws the accuracies in the rows of metrics.jsonl over the steps, a panel a protocol, beside the baselines.

  Returns whether there are any.
  """
  found = {protocol: points for protocol in PROTOCOLS if len(points := _points(rows, metric(protocol)))}
  if not found:
    return False
  figure, places = panels(len(found), len(found), 4.2, 3)
  for axes, (protocol, points) in zip(places, found.items(), strict=True):
    clean(axes, f'{TITLES[protocol]}: accuracy')
    axes.plot(*points.T, color=ACCENT, linewidth=1.6, marker='o', markersize=3, label='encoder in training')
    for features, (label, line) in BASELINES.items():
      for _, value in _points(rows, metric(protocol, features))[-1:]:
        axes.axhline(value, color=INK, linewidth=1, linestyle=line, label=label)
    axes.set_ylim(0, 1)
    axes.xaxis.get_major_locator().set_params(integer=True)
    axes.set_xlabel('step', fontsize=8, color=INK)
    axes.legend(fontsize=8, frameon=False)
  figure.savefig(path)
  return True


def without(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
  """Returns the rows without what is about online evaluation."""
  return [{name: value for name, value in row.items() if not name.startswith(PREFIX)} for row in rows]


def _points(rows: Sequence[Mapping[str, Any]], name: str) -> np.ndarray:
  """Returns steps and values [n, 2] of a metric where it is a number."""
  values = [(row['step'], row[name]) for row in rows if isinstance(row.get(name), int | float)]
  points = np.array(values, np.float64).reshape(-1, 2)
  return points[np.isfinite(points[:, 1])]
