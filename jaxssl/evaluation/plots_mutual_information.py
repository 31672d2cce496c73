"""Pictures of estimates of mutual information over training, as PNG files. Needs matplotlib."""

import math
from collections.abc import Mapping

import numpy as np

from jaxssl.evaluation.plots import ACCENT, FAINT, INK, Path, clean, figure_of

SPAN = 200  # Of the moving average over steps, as in ermongroup/smile-mi-estimator, demo.ipynb.


def moving_average(values: np.ndarray, span: int = SPAN) -> np.ndarray:
  """Returns the exponential moving average [n] of values [n], its weights 1 / n at the start."""
  weight, total, averages = 2 / (span + 1), 0.0, np.empty(len(values))
  for i, value in enumerate(values):
    total += weight * (value - total)
    averages[i] = total / (1 - (1 - weight) ** (i + 1))
  return averages


def staircase(
    curves: Mapping[str, np.ndarray], truth: np.ndarray, path: Path, *, ceilings: Mapping[str, float], columns: int = 5
) -> None:
  """Draws estimates [steps] beside the truth [steps], a panel an estimator: thin as they came, bold averaged.

  Dashed where the estimator has a ceiling.
  """
  columns = min(columns, len(curves))
  lines = -(-len(curves) // columns)
  figure = figure_of(2.4 * columns, 2.0 * lines)
  panels = figure.subplots(lines, columns, squeeze=False, sharex=True, sharey=True).ravel()
  steps, every = np.arange(len(truth)), max(1, len(truth) // 1000)
  for axes, (name, curve) in zip(panels, curves.items(), strict=False):
    clean(axes, name)
    axes.plot(steps[::every], curve[::every], color=ACCENT, linewidth=0.4, alpha=0.35)
    axes.plot(steps[::every], moving_average(curve)[::every], color=ACCENT, linewidth=1.4)
    axes.plot(steps, truth, color=INK, linewidth=1.0)
    if math.isfinite(ceilings[name]):
      axes.axhline(ceilings[name], color=INK, linewidth=0.8, linestyle='--')
    axes.set_ylim(0, 1.3 * float(np.max(truth)))
  for axes in panels[len(curves):]:
    axes.set_visible(False)
  figure.supxlabel('step', fontsize=8, color=INK)
  figure.supylabel('nats', fontsize=8, color=INK)
  figure.savefig(path)
