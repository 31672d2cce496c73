"""A pretrained encoder in one line: `represent, preprocess = jaxssl.load('runs/default')`."""

import os
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

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

  @jax.jit
  def represent(inputs):
    for x in jax.tree.leaves(inputs):
      if not jnp.issubdtype(x.dtype, jnp.floating):
        raise ValueError(f'inputs must be what preprocess returns, in float32, got {x.dtype}')
    return method.represent(state, inputs, name)

  adapt = jax.jit(lambda images: evaluation.adapt(evaluation.to_float(images), recipe, channels))

  def preprocess(images):
    return adapt(_checked(images, run.meta['batch']['inputs']))

  return Loaded(represent, preprocess)


def _checked(images: Any, trained_on: Any) -> Any:
  """Returns images, or a tuple of views, as arrays; raises ValueError for others than a run can see.

  `trained_on` describes what it saw of an example: an image, or a list of views.
  """
  several = isinstance(trained_on, list)
  try:
    given = tuple(map(_array, images)) if isinstance(images, tuple | list) else (_array(images),)
  except (TypeError, ValueError):  # Of rows of several lengths.
    raise ValueError(f'images must be {"a tuple of arrays" if several else "an array"}, got {type(images)}') from None
  # Of single images colours are averaged, and grey ones get colours; views are taken as they are.
  more = set() if several else {1, 3}
  shapes = [tuple(view['shape'][1:]) for view in (trained_on if several else [trained_on])]
  paired = isinstance(images, tuple | list) == several and len(given) == len(shapes)
  if not paired or len({x.shape[:1] for x in given}) > 1 or not all(
      _fits(x.shape, shape, more) for x, shape in zip(given, shapes, strict=True)):
    many = f'a tuple of {len(shapes)} arrays of the same b, ' if several else ''
    named, found = (' and '.join(each) for each in (
        [_named(shape, more) for shape in shapes], [str(list(x.shape)) for x in given]))
    raise ValueError(f'images must be {many}{named}, none of them 0, got {found}')
  for x, shape in zip(given, shapes, strict=True):
    _check_values(x, len(shape) == 3)
  return given if several else given[0]


def _array(x: Any) -> Any:
  """Returns an array of JAX, traced ones too, as it is, anything else as an array of NumPy."""
  return x if isinstance(x, jax.Array) else np.asarray(x)


def _fits(found: tuple[int, ...], shape: tuple[int, ...], more: set[int]) -> bool:
  if 0 in found or len(found) != len(shape) + 1:
    return False
  return found[-1] in {shape[-1], *more} if len(shape) == 3 else found[1:] == shape


def _named(shape: tuple[int, ...], more: set[int]) -> str:
  if len(shape) == 3:
    return f'[b, h, w, {" or ".join(map(str, sorted({shape[-1], *more})))}]'
  return f'[b, {", ".join(map(str, shape))}]'


def _check_values(x: Any, is_image: bool) -> None:
  """Raises ValueError unless images are uint8, or floats in [0, 1], and others finite; traced values are not known."""
  if is_image and x.dtype != jnp.uint8 and not jnp.issubdtype(x.dtype, jnp.floating):
    raise ValueError(f'images must be uint8, or floats in [0, 1], got {x.dtype}')
  if isinstance(x, jax.core.Tracer) or not jnp.issubdtype(x.dtype, jnp.floating):
    return
  low, high = np.min(x), np.max(x)
  if is_image and not 0 <= low <= high <= 1:
    raise ValueError(f'images must be uint8, or floats in [0, 1], got {x.dtype} from {low:g} to {high:g}')
  if not np.isfinite([low, high]).all():
    raise ValueError(f'images must be finite, got {x.dtype} from {low:g} to {high:g}')
