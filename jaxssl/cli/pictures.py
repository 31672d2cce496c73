"""The pictures of a run and its HTML report."""

import contextlib
import functools
import os
from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict

from jaxssl.build import Source, hears, stream, views
from jaxssl.cli import measure, pictures_audio, pictures_distance, pictures_generative, pictures_samples, runs, workdir
from jaxssl.evaluation import Subset, extract, geometry, knn, plots, plots_online, report
from jaxssl.evaluation.subsets import evenly_spread
from jaxssl.training import logging

QUERIES, NEIGHBOURS, POINTS, BANK = 10, 8, 2000, 20_000  # Images drawn, points on the map, images searched.


def preview(config: ConfigDict, source: Source, directory: str, rows: int = 8) -> str:
  """Draws the first examples of the stream beside their views, as training sees them; returns the PNG's path."""
  os.makedirs(directory, exist_ok=True)
  path = os.path.join(directory, 'preview.png')
  rows = min(rows, len(source))
  recipe, prepare = views(config.to_dict())
  with contextlib.closing(stream(config.to_dict(), source, batch_size=rows)) as batches:
    read = next(batches)
  batch = jax.jit(prepare)(read, jax.random.key(config.seed))
  if hears(recipe):
    pictures_audio.preview(batch, recipe.rate, path)
    return path
  views_made = [np.asarray(view) for view in batch['views']]
  if isinstance(batch['inputs'], tuple):
    signed = getattr(recipe, 'signed', ())
    originals = read['inputs'] if signed else batch['inputs'][0]
    plots.preview([plots.picture(each) for each in originals], views_made, path, signed=signed)
  else:
    size = 96 if recipe.patches is None else 240  # In pixels, of what is drawn of an image.
    plots.preview(np.asarray(batch['inputs']), views_made, path, size=size)
  return path


def draw(run: runs.Run, train: Source, test: Source, path: str) -> dict[str, str]:
  """Draws curves, a map of the test set and nearest neighbours, or what there is to see of audio, in WORKDIR/pictures.

  Returns the files by caption.
  """
  directory = os.path.join(path, 'pictures')
  os.makedirs(directory, exist_ok=True)
  file = functools.partial(os.path.join, directory)
  found = {}
  if rows := logging.read(path):
    plots.loss_curve(rows, file('loss.png'))
    plots.metric_curves(plots_online.without(rows), file('metrics.png'))
    found = {'Loss': file('loss.png'), 'Metrics': file('metrics.png')}
    if plots_online.curves(rows, file('online.png')):
      found['Online evaluation, on held-out examples of the training split'] = file('online.png')
  found |= pictures_distance.draw(run, test, file('distance.png'))
  if run.hears:
    return {**found, **pictures_audio.draw(run, test, file)}
  found |= pictures_generative.draw(run, test, file)
  found |= pictures_samples.animate(path, int(run.state.step), file('training.gif'))
  encode = functools.partial(
      extract, measure.encoders(run)['trained'], batch_size=run.config.evaluation.batch_size)
  shown = evenly_spread(len(test), POINTS)
  features = encode(Subset(test.inputs, shown))
  points, method = plots.project(features, seed=run.config.seed)
  caption = f'{method} of the {run.representations[0]} of test images'
  labels = None if test.labels is None else test.labels[shown]
  plots.embedding_map(points, labels, file('embedding.png'), class_names=test.class_names, title=caption)
  found[caption] = file('embedding.png')
  if _images(test.inputs[shown[:1]]) is not None:
    _draw_neighbours(train, test, shown, features, encode, file('neighbours.png'))
    found['Nearest neighbours among training images'] = file('neighbours.png')
  return found


def _draw_neighbours(train, test, shown, features, encode, path) -> None:
  """Draws a few test images with their nearest training images."""
  bank = evenly_spread(len(train), BANK)
  queries = evenly_spread(len(shown), QUERIES)
  nearest, _ = knn.neighbours(features[queries], encode(Subset(train.inputs, bank)), min(NEIGHBOURS, len(bank)))
  rows = bank[nearest]
  labelled = train.labels is not None and test.labels is not None
  plots.neighbours_sheet(
      _images(test.inputs[shown[queries]]), test.labels[shown[queries]] if labelled else None,
      [_images(train.inputs[row]) for row in rows], train.labels[rows] if labelled else None, path)


def _images(inputs: Any) -> Any:
  """Returns images [n, h, w, c] as they are, of a tuple of views the first that is images; None without any."""
  if not isinstance(inputs, tuple):
    return inputs
  return next((view for view in inputs if view.ndim == 4), None)


def _title(method: str, path: str) -> str:
  """Returns the name of the work directory, and before it that of the method unless the former begins with it."""
  name = os.path.basename(path)
  return name if name.startswith(method) else f'{method}, {name}'


def write_report(run: runs.Run, results: dict, pictures: dict[str, str], path: str) -> None:
  """Writes WORKDIR/report.html."""
  rows = logging.read(path)
  warning = geometry.warning(rows[-1]) if rows and 'embedding_std' in rows[-1] else None
  report.write(
      os.path.join(path, 'report.html'), title=_title(run.config.method.name, path),
      rows=results['rows'],
      config=run.config.to_dict(), pictures=pictures, seconds=results['seconds'],
      images_per_second=results['images_per_second'], facts={'step': int(run.state.step), **workdir.last_start(path)},
      warnings=[warning] if warning else [])
