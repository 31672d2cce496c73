"""The pictures of a run on audio: spectrograms of views, and of test clips beside z and c, and a map."""

import dataclasses
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from jaxssl import build
from jaxssl.build import Source
from jaxssl.cli import measure_audio, runs
from jaxssl.evaluation import mfcc, plots, plots_audio
from jaxssl.evaluation.subsets import evenly_spread

CLIPS, POINTS = 6, 2000  # Clips drawn, points on the map.


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
  name = next(iter(steps))
  shown = evenly_spread(len(test), POINTS)
  few = dataclasses.replace(test, inputs=test.inputs.take(shown))
  points, method = plots.project(measure_audio.features(run, few)[('trained', name)].whole, seed=run.config.seed)
  for label, labels, names in (('class', test.labels, test.class_names), ('speaker', test.groups, test.group_names)):
    if labels is not None:
      caption = f'{method} of the {name} of test clips, by {label}'
      plots.embedding_map(points, labels[shown], file(f'embedding_{label}.png'), class_names=names, title=caption)
      found[caption] = file(f'embedding_{label}.png')
  return found


def _draw_sequences(run: runs.Run, test: Source, steps, path: str) -> None:
  """Draws a few test clips, of different classes where these are known."""
  order = np.arange(len(test)) if test.labels is None else np.unique(test.labels, return_index=True)[1]
  chosen = order[evenly_spread(len(order), CLIPS)]
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
