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
  adapt = jax.jit(lambda images: evaluation.adapt(evaluation.to_float(images), recipe, channels))

  def preprocess(images):
    images = jax.tree.map(jnp.asarray, images)
    _check(images, run.meta['batch']['inputs'])
    return adapt(images)

  return Loaded(represent, preprocess)


def _check(images: Any, trained_on: Any) -> None:
  """Raises ValueError for other inputs than a run can see; it was `trained_on` one image, or on a list of views."""
  views = trained_on if isinstance(trained_on, list) else [trained_on]
  given = list(images) if isinstance(images, tuple | list) else [images]
  # Of single images colours are averaged, and grey ones get colours; views are taken as they are.
  more = set() if isinstance(trained_on, list) else {1, 3}
  shapes = [tuple(view['shape'][1:]) for view in views]
  named = ' and '.join(_named(shape, more) for shape in shapes)
  many = f'a tuple of {len(views)} arrays of the same b, ' if isinstance(trained_on, list) else ''
  paired = isinstance(images, tuple | list) == isinstance(trained_on, list) and len(given) == len(views)
  if not paired or len({x.shape[:1] for x in given}) > 1 or not all(
      _fits(x.shape, shape, more) for x, shape in zip(given, shapes, strict=True)):
    found = ' and '.join(str(list(x.shape)) for x in given)
    raise ValueError(f'images must be {many}{named}, none of them 0, got {found}')
  for x, shape in zip(given, shapes, strict=True):
    if len(shape) == 3:
      _check_values(x)


def _fits(found: tuple[int, ...], shape: tuple[int, ...], more: set[int]) -> bool:
  if 0 in found or len(found) != len(shape) + 1:
    return False
  return found[-1] in {shape[-1], *more} if len(shape) == 3 else found[1:] == shape


def _named(shape: tuple[int, ...], more: set[int]) -> str:
  if len(shape) == 3:
    return f'[b, h, w, {" or ".join(map(str, sorted({shape[-1], *more})))}]'
  return f'[b, {", ".join(map(str, shape))}]'


def _check_values(images: jax.Array) -> None:
  """Raises ValueError unless images are uint8, or floats in [0, 1]; of traced ones the type alone is known."""
  if images.dtype == jnp.uint8:
    return
  if not jnp.issubdtype(images.dtype, jnp.floating):
    raise ValueError(f'images must be uint8, or floats in [0, 1], got {images.dtype}')
  if not isinstance(images, jax.core.Tracer) and not 0 <= images.min() <= images.max() <= 1:
    raise ValueError(f'images must be uint8, or floats in [0, 1], got {images.dtype} from {images.min():g} to '
                     f'{images.max():g}')
