"""The device's half of any recipe: of images, paired views or audio."""

from collections.abc import Callable
from typing import Any

import jax

from jaxssl.augment import audio_engine, paired_engine
from jaxssl.augment import engine as image_engine
from jaxssl.recipes import ENGINES, Audio, Paired, Recipe

Prepare = Callable[[dict[str, Any], jax.Array], dict[str, Any]]


def prepare(recipe: Recipe | Audio | Paired, engine: str = 'device') -> Prepare:
  """Returns `prepare(batch, key) -> batch`, pure, to be compiled with the train step.

  It makes `views`, and `inputs`, which evaluation sees, of a batch from the host. What that batch must hold is written
  in `engine.prepare` for images, in `paired_engine.prepare` and in `audio_engine.prepare`. With the engines 'host' and
  'split' tf.data makes the views or a part of them; they are for single images alone.

  Raises:
    ValueError: for an unknown engine, or one that is not for this kind of recipe.
  """
  if engine not in ENGINES:
    raise ValueError(f'engine must be one of {", ".join(ENGINES)}, got {engine!r}')
  if isinstance(recipe, Recipe):
    return image_engine.prepare(recipe, engine)
  if engine != 'device':
    what = 'audio' if isinstance(recipe, Audio) else 'paired views'
    raise ValueError(f"engine must be 'device' for {what}, got {engine!r}")
  return audio_engine.prepare(recipe) if isinstance(recipe, Audio) else paired_engine.prepare(recipe)
