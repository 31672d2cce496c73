"""A picture of a sweep as a PNG file: the figure over each swept key. Needs matplotlib."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from jaxssl.evaluation.plots import ACCENT, FAINT, INK, LONGEST_NAME, WRONG, Path, clean, panels

FEW = 6  # Values that come again and are marked each by itself.
DECADE = 10  # Least ratio of the largest to the smallest value that a logarithmic axis is for.


def over_keys(
    settings: Mapping[str, Sequence[Any]], figures: Sequence[float | None], path: Path, *, name: str,
    best: int | None = None, columns: int = 3,
) -> None:
  """Draws the figures [n] of n trials over the values [n] of each key, in a panel of its own.

  Args:
    settings: for each key its n values: numbers, or anything else, which is set side by side.
    figures: None where a trial failed: a cross below.
    path: the PNG to write.
    name: of the figure.
    best: the trial to ring.
    columns: of panels, at most.

  Raises:
    ValueError: if there is no figure.
  """
  drawn = [figure for figure in figures if figure is not None]
  if not drawn or not settings:
    raise ValueError('there is no figure to draw')
  picture, places = panels(len(settings), columns, 4.6 if min(columns, len(settings)) == 1 else 3.6, 3, sharey=True)
  y = np.array([np.nan if figure is None else figure for figure in figures], np.float64)
  for axes, (key, values) in zip(places, settings.items(), strict=True):
    _panel(axes, key, values, y, best)
  repeated = any(len(set(map(repr, values))) < len(values) for values in settings.values())
  words = [*(['line: the mean of trials with the same value'] if repeated else []),
           *(['ring: the best'] if best is not None else []),
           *(['crosses: trials that failed'] if len(drawn) < len(figures) else [])]
  picture.supxlabel('; '.join(words), fontsize=8, color=INK)
  picture.supylabel(name, fontsize=8, color=INK)
  picture.savefig(path)


def _panel(axes, key: str, values: Sequence[Any], y: np.ndarray, best: int | None) -> None:
  clean(axes, key.removeprefix('method.'))
  x = _place(axes, values)
  places, finished = np.unique(x), np.isfinite(y)
  means = [float(np.mean(y[finished & (x == place)])) if np.any(finished & (x == place)) else np.nan
           for place in places]
  if len(places) < len(x):  # Otherwise it would join points that differ in all else.
    axes.plot(places, means, color=FAINT, linewidth=1.6)
  axes.update_datalim(np.stack([places, np.full(len(places), np.nanmean(y))], axis=1))  # Also where all have failed.
  axes.scatter(x[finished], y[finished], s=26, color=ACCENT, linewidths=0, zorder=3)
  if best is not None:
    axes.scatter(x[best], y[best], s=90, facecolors='none', edgecolors=INK, linewidths=1.2, zorder=3)
  axes.scatter(x[~finished], np.zeros((~finished).sum()), marker='x', s=30, color=np.array(WRONG)[None] / 255,
               transform=axes.get_xaxis_transform(), clip_on=False, zorder=3)


def _place(axes, values: Sequence[Any]) -> np.ndarray:
  """Returns where the values [n] stand on the axis, which it scales or labels."""
  if all(isinstance(value, int | float) and not isinstance(value, bool) for value in values):
    x = np.array(values, np.float64)
    if x.min() > 0 and x.max() / x.min() >= DECADE:
      axes.set_xscale('log')
    elif len(np.unique(x)) <= min(FEW, len(x) - 1):
      axes.set_xticks(np.unique(x))
    return x
  names = [str(value) for value in values]
  distinct = sorted(set(names))
  shown = [name if len(name) <= LONGEST_NAME else f'{name[:LONGEST_NAME]}…' for name in distinct]
  axes.set_xticks(range(len(distinct)), shown, parse_math=False,
                  **({'rotation': 30, 'ha': 'right'} if sum(map(len, shown)) > 40 else {}))
  axes.margins(x=0.15)
  return np.array([distinct.index(name) for name in names], np.float64)
