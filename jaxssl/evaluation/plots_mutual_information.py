"""Pictures of estimates of mutual information over training, as PNG files. Needs matplotlib."""

import math
from collections.abc import Mapping, Sequence

import numpy as np

from jaxssl.evaluation.mutual_information import Estimate
from jaxssl.evaluation.plots import ACCENT, INK, Path, clean, panels

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
  figure, places = panels(len(curves), columns, 2.4, 2.0, sharex=True, sharey=True)
  steps, every = np.arange(len(truth)), max(1, len(truth) // 1000)
  for axes, (name, curve) in zip(places, curves.items(), strict=True):
    clean(axes, name)
    axes.plot(steps[::every], curve[::every], color=ACCENT, linewidth=0.4, alpha=0.35)
    axes.plot(steps[::every], moving_average(curve)[::every], color=ACCENT, linewidth=1.4)
    axes.plot(steps, truth, color=INK, linewidth=1.0)
    if math.isfinite(ceilings[name]):
      axes.axhline(ceilings[name], color=INK, linewidth=0.8, linestyle='--')
    axes.set_ylim(0, 1.3 * float(np.max(truth)))
  for axes in places[-columns:]:  # Also those above an empty place.
    axes.tick_params(labelbottom=True)
  figure.supxlabel('step', fontsize=8, color=INK)
  figure.supylabel('nats', fontsize=8, color=INK)
  figure.savefig(path)


def held_out_curves(estimates: Sequence[Estimate], path: Path, columns: int = 4) -> None:
  """Draws each estimate on the validation part over the steps, within a standard error, in a panel of its own.

  The ceiling is dashed, where it is near enough to be drawn.
  """
  figure, places = panels(len(estimates), columns, 3.2, 2.6)
  for axes, each in zip(places, estimates, strict=True):
    _held_out(axes, each)
  figure.supxlabel(
      'step. Ring: the critic that was chosen. Black: the estimate on the test part. Dashed: the ceiling, if near',
      fontsize=8, color=INK)
  figure.supylabel('nats, validation part', fontsize=8, color=INK)
  figure.savefig(path)


def _held_out(axes, each: Estimate) -> None:
  clean(axes, each.estimator + (f', at most {each.ceiling:.2f}' if math.isfinite(each.ceiling) else ''))
  nats, error = (float(np.nan_to_num(value)) for value in (each.nats, each.error))
  curve, curve_error = np.nan_to_num(each.curve), np.nan_to_num(each.curve_error)
  axes.fill_between(each.steps, curve - curve_error, curve + curve_error, color=ACCENT, alpha=0.2, linewidth=0)
  axes.plot(each.steps, each.curve, color=ACCENT, linewidth=1.6)
  chosen = each.steps == each.best_step
  axes.plot(each.steps[chosen], each.curve[chosen], 'o', color=ACCENT, markerfacecolor='white', markersize=6)
  axes.errorbar([1.05 * each.steps[-1]], [each.nats], yerr=error, fmt='o', color=INK, markersize=4)
  # A critic that breaks down after the chosen step would flatten all else.
  top = max(nats + error, float(np.max(curve[chosen], initial=0.1)))
  top = max(top, min(1.5 * top, float(np.max(curve))))
  if each.ceiling < 2 * top:
    axes.axhline(each.ceiling, color=INK, linewidth=0.8, linestyle='--')
    top = max(top, each.ceiling)
  axes.set_ylim(min(0, nats) - 0.05 * top, 1.15 * top)
