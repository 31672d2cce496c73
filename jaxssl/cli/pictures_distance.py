"""The picture of how well what lies k steps ahead is predicted."""

import contextlib

import jax
import numpy as np

from jaxssl.build import Source, stream
from jaxssl.cli import runs
from jaxssl.evaluation import plots
from jaxssl.evaluation.features import to_float, with_channels
from jaxssl.training import mesh

BATCHES = 8  # Of test examples, that the values are the mean of.


def draw(run: runs.Run, test: Source, path: str) -> dict[str, str]:
  """Draws the metrics of a method's `evaluate` that are numbered by distance; returns the file by its caption."""
  values = by_distance(run, test) if hasattr(run.experiment.method, 'evaluate') else {}
  if not values:
    return {}
  titles = {'bound': 'test bound, nats'}
  plots.by_distance({titles.get(name, f'test {name}'): value for name, value in values.items()}, path)
  return {f'By the distance of what is predicted, on test {run.examples}': path}


def by_distance(run: runs.Run, test: Source) -> dict[str, list[float]]:
  """Returns the metrics of the method's `evaluate` that are numbered by distance, on test examples."""
  method, config = run.experiment.method, run.config.to_dict()
  size = min(run.config.batch_size, len(test))
  devices = mesh.ambient()
  size -= size % (devices.size if devices else 1)  # Which share it.
  if size < 2:
    return {}

  @jax.jit
  def evaluate(state, batch, key):
    if not run.hears:  # The set may have other channels than the one that the run trained on.
      seen = {name: batch[name] for name in ('inputs', 'views') if name in batch}
      batch |= jax.tree.map(lambda x: with_channels(to_float(x), run.channels), seen)
    return method.evaluate(state, run.experiment.prepare(batch, key), key)

  key = jax.random.key(run.config.seed)
  with contextlib.closing(stream(config, test, batch_size=size)) as batches:
    rows = [jax.device_get(evaluate(run.state, next(batches), jax.random.fold_in(key, i))) for i in range(BATCHES)]
  values: dict[str, list[float]] = {}
  numbered = [metric for metric in rows[0] if metric.rpartition('_')[2].isdecimal()]
  for metric in sorted(numbered, key=lambda metric: int(metric.rpartition('_')[2])):
    values.setdefault(metric.rpartition('_')[0], []).append(float(np.mean([row[metric] for row in rows])))
  return values
