"""A pretrained encoder in one line: `represent, preprocess = jaxssl.load('runs/default')`."""

import os
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxssl import evaluation
from jaxssl.cli import runs, workdir


class Loaded(NamedTuple):
  """Two functions: `represent(preprocess(images))` are the features."""

  represent: Callable[[Any], jax.Array]  # Images [b, h, w, c] of the encoder's size, float32 -> features [b, d].
  preprocess: Callable[[Any], Any]  # Images [b, h, w, c] of any size, uint8 or floats in [0, 1] -> what it takes.


def load(path: str | os.PathLike, *, step: int | None = None, representation: str | None = None) -> Loaded:
  """Returns the trained encoder of a run, as evaluation uses it.

  Args:
    path: the work directory.
    step: of the checkpoint; None: the last.
    representation: one of the method's `representations`; None: that of `config.evaluation.representation`.

  Returns:
    `(represent, preprocess)`, both of which can be compiled or differentiated as part of a larger function. Of views of
    several modalities, what passes between them is a tuple.

  Raises:
    ValueError: for a directory that holds no run, a step or representation that it has not, or a run on audio, whose
      clips have a length: use `method.represent` with a mask.
  """
  path = os.path.abspath(path)
  workdir.refuse_links(path)
  run = runs.restore(path, step)
  if run.hears:
    raise ValueError(f'path must be a run on images, found one on audio in {path}')
  return of_run(run, representation)


def of_run(run: runs.Run, representation: str | None = None) -> Loaded:
  """Returns the trained encoder of a run on images; `load` has the arguments."""
  name = representation or run.representations[0]
  method, recipe, channels, state = run.experiment.method, run.experiment.recipe, run.channels, run.whole().state
  if name not in method.representations:
    raise ValueError(f'representation must be one of {", ".join(map(repr, method.representations))}, got {name!r}')
  represent = jax.jit(lambda inputs: method.represent(state, inputs, name))
  preprocess = jax.jit(lambda images: evaluation.adapt(evaluation.to_float(images), recipe, channels))
  return Loaded(represent, lambda images: preprocess(jax.tree.map(jnp.asarray, images)))
