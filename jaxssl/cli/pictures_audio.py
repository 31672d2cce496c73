"""The pictures of a run on audio: spectrograms of views, of test clips beside z and c, accuracy by distance, a map."""

import contextlib
import dataclasses
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from jaxssl import build
from jaxssl.build import Source, stream
from jaxssl.cli import measure_audio, runs
from jaxssl.evaluation import mfcc, plots, plots_audio

CLIPS, POINTS, BATCHES = 6, 2000, 8  # Clips drawn, points on the map, batches that accuracies are the mean of.


def preview(batch: runs.Batch, rate: int, path: str) -> None:
  """Draws the spectrograms of a prepared batch's inputs and views, a row an example."""
  inputs = {'original': batch['inputs'], **{f'view {i + 1}': view for i, view in enumerate(batch['views'])}}
  whole = {name: mfcc.spectra(waves, jnp.ones(waves.shape, bool), rate) for name, waves in inputs.items()}
  spectra = [each[i] for i in range(len(batch['inputs'])) for each in whole.values()]
  titles = [f'{i + 1}: {name}' for i in range(len(batch['inputs'])) for name in whole]
  plots_audio.sequences_sheet(spectra, {}, titles, mfcc.HOP_SECONDS, path, columns=len(inputs))


def draw(run: runs.Run, test: Source, file: Callable[[str], str]) -> dict[str, str]:
  """Draws what can be seen of a test set; returns the files by caption."""
  found = {}
  steps = {name: encode for (kind, name), encode in measure_audio.encoders(run).items() if kind == 'trained'}
  _draw_sequences(run, test, steps, file('sequences.png'))
  found['Test clips: log-mel spectrum, and the principal components of the steps as colours'] = file('sequences.png')
  if hasattr(run.experiment.method, 'evaluate'):
    values = by_distance(run, test)
    if values:
      values = {'bound, nats' if name == 'bound' else name: value for name, value in values.items()}
      plots_audio.by_distance(values, file('distance.png'))
      found['By the distance of what is predicted, on test clips'] = file('distance.png')
  name = next(iter(steps))
  shown = np.unique(np.linspace(0, len(test) - 1, min(len(test), POINTS)).round().astype(int))
  few = dataclasses.replace(test, inputs=test.inputs.take(shown))
  points, method = plots.project(measure_audio.features(run, few)[('trained', name)].whole, seed=run.config.seed)
  for label, labels, names in (('class', test.labels, test.class_names), ('speaker', test.groups, test.group_names)):
    if labels is not None:
      caption = f'{method} of the {name} of test clips, by {label}'
      plots.embedding_map(points, labels[shown], file(f'embedding_{label}.png'), class_names=names, title=caption)
      found[caption] = file(f'embedding_{label}.png')
  return found


def by_distance(run: runs.Run, test: Source) -> dict[str, list[float]]:
  """Returns the metrics of the method's `evaluate` that are numbered by distance, on windows of test clips."""
  method, config = run.experiment.method, run.config.to_dict()
  size = min(run.config.batch_size, len(test))
  size -= size % jax.device_count()  # Which share it.
  if size < 2:
    return {}

  @jax.jit
  def evaluate(state, batch, key):
    return method.evaluate(state, run.experiment.prepare(batch, key), key)

  key = jax.random.key(run.config.seed)
  with contextlib.closing(stream(config, test, batch_size=size)) as batches:
    rows = [jax.device_get(evaluate(run.state, next(batches), jax.random.fold_in(key, i))) for i in range(BATCHES)]
  values: dict[str, list[float]] = {}
  for metric in sorted(rows[0], key=lambda metric: int(metric.rpartition('_')[2])):
    values.setdefault(metric.rpartition('_')[0], []).append(float(np.mean([row[metric] for row in rows])))
  return values


def _draw_sequences(run: runs.Run, test: Source, steps, path: str) -> None:
  """Draws a few test clips, of different classes where these are known."""
  order = np.arange(len(test)) if test.labels is None else np.unique(test.labels, return_index=True)[1]
  chosen = order[np.unique(np.linspace(0, len(order) - 1, min(len(order), CLIPS)).round().astype(int))]
  recipe = run.experiment.recipe
  waves, mask = map(jnp.asarray, build.clips(test, recipe)(chosen))
  bands = {}
  for name, encode in steps.items():
    found, valid = (np.asarray(each) for each in jax.jit(encode)(waves, mask))
    bands[name] = [each[:max(int(real.sum()), 1)] for each, real in zip(found, valid, strict=True)]
  plots_audio.sequences_sheet(
      mfcc.spectra(waves, mask, recipe.rate), bands, _titles(test, chosen), mfcc.HOP_SECONDS, path)


def _titles(test: Source, chosen: np.ndarray) -> list[str]:
  known = [(test.labels, test.class_names), (test.groups, test.group_names)]
  return [', '.join(names[labels[i]] for labels, names in known if labels is not None) or f'clip {i}' for i in chosen]
