"""Measures a run on audio by the protocols of its config: the rows of results.json."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxssl import build
from jaxssl.build import Source
from jaxssl.cli.runs import Run
from jaxssl.evaluation import geometry, mfcc, sequences
from jaxssl.evaluation.table import Row

PROTOCOLS = ('knn', 'linear', 'linear_steps')


def measure(run: Run, train: Source, test: Source) -> list[Row]:
  """Returns one row a figure, for all protocols of the config; of clips without any labels, the geometry."""
  options = run.config.evaluation
  found = features(run, train, test)

  def joined(name):
    both = getattr(train, name), getattr(test, name)
    # Of a single class or group there is nothing to tell apart.
    return None if both[0] is None or both[1] is None or len(np.unique(both[0])) < 2 else np.concatenate(both)

  labels = sequences.Labels(joined('labels'), joined('groups'), np.arange(len(train) + len(test)) >= len(train))
  if labels.classes is None and labels.groups is None:
    of_test = lambda each: jnp.asarray(each.whole[len(train):][:geometry.MOST])
    return [row for (kind, name), each in found.items()
            for row in geometry.rows(of_test(each), kind, name, run.config.seed)]
  return sequences.evaluate(
      found, labels, knn=options.knn.to_dict() if 'knn' in options.protocols else None,
      linear=options.linear.to_dict() if {'linear', 'linear_steps'} & {*options.protocols} else None,
      steps='linear_steps' in options.protocols, fractions=options.fractions, seed=run.config.seed)


def check(experiment: build.Experiment, state: Any) -> None:
  """Raises ValueError if what evaluation sees of a clip is too short for MFCC or for the encoder; traces both."""
  recipe, method = experiment.recipe, experiment.method
  shape = (1, recipe.input_length)
  waves, mask = jax.ShapeDtypeStruct(shape, jnp.float32), jax.ShapeDtypeStruct(shape, bool)
  try:
    jax.eval_shape(mfcc.steps(recipe.rate), waves, mask)
    jax.eval_shape(lambda *args: sequences.steps_of(method, args[0], method.representations[0])(*args[1:]),
                   state, waves, mask)
  except ValueError as error:
    raise ValueError(f'config.data.recipe: evaluation sees {recipe.input_length} samples of a clip, too few; '
                     f'set input_seconds: {error}') from error


def features(run: Run, *sources: Source) -> dict[tuple[str, str], sequences.Features]:
  """Returns (kind, representation) -> the features of all clips of the sources, one source after the other."""
  found = {}
  for key, encode in encoders(run).items():
    parts = [sequences.encode_all(encode, clips(run, source), run.config.evaluation.batch_size) for source in sources]
    found[key] = sequences.Features(*(np.concatenate(part) for part in zip(*parts, strict=True)))
  return found


def clips(run: Run, source: Source) -> sequences.Padded:
  """Returns what evaluation sees of a source: clips cut or padded to the recipe's length."""
  return sequences.Padded(build.clips(source, run.experiment.recipe), len(source))


def encoders(run: Run) -> dict[tuple[str, str], sequences.EncodeSteps]:
  """Returns (kind, representation) -> encoder: MFCC, and each representation of the random and the trained encoder."""
  method = run.experiment.method
  learnt = {(kind, name): sequences.steps_of(method, state, name)
            for name in run.representations for kind, state in (('random', run.initial), ('trained', run.state))}
  return {('mfcc', 'inputs'): mfcc.steps(run.experiment.recipe.rate), **learnt}


def summary(run: Run) -> Callable[[Any, Any], jax.Array]:
  """Returns (state, (waves, mask)) -> what `sequences.summarize` gives of the first representation of the config."""
  method, name = run.experiment.method, run.representations[0]
  return lambda state, pair: sequences.summarize(sequences.steps_of(method, state, name))(pair)
