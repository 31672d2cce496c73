"""Measures the encoder of a run while it trains: the curves that config.evaluation.online asks for."""

import logging
import math
import time
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict

from jaxssl import evaluation
from jaxssl.build import Source, load_source
from jaxssl.cli import evaluation_options, measure, measure_audio
from jaxssl.cli.runs import Run
from jaxssl.evaluation import mfcc, online, sequences
from jaxssl.training import hosts
from jaxssl.training import logging as metrics

log = logging.getLogger(__name__)
WEIGHTS = 2**24  # Of a linear probe of raw inputs; L-BFGS holds them 20 times. One of more is left out.


def labelled(config: ConfigDict) -> Source | None:
  """Returns the training split that online evaluation draws its examples from; None where there is none to do.

  Raises ValueError where the split does not serve.
  """
  if not evaluation_options.online_recipe(config.evaluation).every:
    return None
  source = load_source(config.to_dict(), 'train')
  draw(config, source)
  return source


def draw(config: ConfigDict, source: Source) -> online.Examples:
  """Returns the examples to measure by: those of the classes or, where there are none, of the groups (speakers)."""
  recipe = evaluation_options.online_recipe(config.evaluation)
  labels = source.groups if source.labels is None else source.labels
  if labels is None:
    raise ValueError(f'config.evaluation.online.every = {recipe.every} needs labels, and {source.name} has none: '
                     'set it to 0')
  try:
    return online.draw(labels, recipe.examples, config.seed)
  except ValueError as error:
    raise ValueError(f'config.evaluation.online, on the training split of {source.name}: {error}') from error


class Online:
  """Measures the state of a run at its steps; all processes have to call it. `seconds` is what that has taken.

  It keeps nothing that a resumed run would not have: the examples follow from the config, the probe is fitted anew each
  time, and whether raw inputs and the random encoder have been measured stands in the metrics.
  """

  def __init__(self, run: Run, source: Source | None, path: str, make_initial: Callable[[], Any]):
    """`source` is from `labelled`; `make_initial()` returns the state before training, which is not kept."""
    self.seconds = 0.0
    self._recipe = evaluation_options.online_recipe(run.config.evaluation)
    if source is None:
      return
    self._run, self._make_initial, self._examples = run, make_initial, draw(run.config, source)
    self._inputs = evaluation.Subset(
        measure_audio.clips(run, source) if run.hears else source.inputs, self._examples.rows)
    self._encode = jax.jit(measure_audio.summary(run) if run.hears else measure.represent(run))
    self._compares = hosts.first(lambda: self._lacks_baselines(path, int(run.state.step)))
    held_out, count = self._examples.held_out.sum(), len(self._examples.rows)
    print(f'Online evaluation every {self._recipe.every:,} steps, on {held_out:,} held-out ones of {count:,} examples '
          'of the training split.')

  def due(self, step: int) -> bool:
    """Returns whether the state after `step` updates is to be measured."""
    return self._recipe.every > 0 and step % self._recipe.every == 0

  def __call__(self, step: int, state: Any) -> dict[str, float]:
    """Returns the accuracies, by their names in the metrics, and the seconds; nothing where the step is not due."""
    if not self.due(step):
      return {}
    began = time.perf_counter()
    found = self._accuracies('trained', lambda inputs: self._encode(state, inputs))
    if self._compares:
      initial = self._make_initial()
      found |= self._accuracies('random', lambda inputs: self._encode(initial, inputs))
      found |= self._accuracies(*self._raw())
      self._compares = False
    seconds = time.perf_counter() - began
    self.seconds += seconds
    return {**found, 'online_seconds': seconds}

  def _lacks_baselines(self, path: str, step: int) -> bool:
    known = {name for row in metrics.read(path) if row['step'] <= step for name in row}
    return not {online.metric(protocol, 'random') for protocol in self._recipe.protocols} <= known

  def _raw(self) -> tuple[str, evaluation.features.Encode]:
    """Returns the baseline that needs no encoder, and what to call it."""
    if self._run.hears:
      return 'mfcc', sequences.summarize(mfcc.steps(self._run.experiment.recipe.rate))
    return 'raw', measure.raw(self._run)

  def _accuracies(self, kind: str, encode: evaluation.features.Encode) -> dict[str, float]:
    """Returns the accuracy of each protocol; NaN, and a warning, where that is no reason to stop the training."""
    options, protocols = self._run.config.evaluation, self._recipe.protocols
    try:
      features = self._features(encode)
    except (FloatingPointError, OSError) as error:
      if isinstance(error, OSError) and jax.process_count() > 1:  # Of a file: the others wait for its features.
        raise
      log.warning('online evaluation of the %s features: %s', kind, error)
      return {online.metric(protocol, kind): math.nan for protocol in protocols}
    if kind == 'raw' and features.shape[1] * len(np.unique(self._examples.labels)) > WEIGHTS:
      protocols = tuple(each for each in protocols if each != 'linear')
    l2 = sorted(options.linear.grid)[len(options.linear.grid) // 2]
    found = hosts.first(lambda: online.accuracies(
        features, self._examples, protocols, k=options.knn.k, temperature=options.knn.temperature, l2=l2))
    return {online.metric(protocol, kind): value for protocol, value in found.items()}

  def _features(self, encode: evaluation.features.Encode) -> np.ndarray:
    size = self._run.config.evaluation.batch_size
    if self._run.hears:
      return sequences.unpack(
          evaluation.extract(encode, self._inputs, batch_size=size, prepare=lambda pair: pair)).whole
    return evaluation.extract(encode, self._inputs, batch_size=size)
