"""The device's half of any recipe: of images, paired views or audio."""

from collections.abc import Callable
from typing import Any

import jax

from jaxssl.augment import audio_engine, engine, paired_engine
from jaxssl.recipes import Audio, Paired, Recipe

ENGINES = ('device', 'host', 'split')
Prepare = Callable[[dict[str, Any], jax.Array], dict[str, Any]]


def prepare(recipe: Recipe | Audio | Paired, engine_name: str = 'device') -> Prepare:
  """Returns `prepare(batch, key) -> batch`, pure, to be compiled with the train step.

  It makes `views` and what evaluation sees, `inputs`, of a batch from the host; what the batch has to bring say the
  modules' own: `engine.prepare` for images, `paired_engine.prepare`, and `audio_engine.prepare`. The engines 'host' and
  'split', where tf.data makes views or a part of them, are for single images alone.
  """
  if engine_name not in ENGINES:
    raise ValueError(f'engine must be one of {", ".join(ENGINES)}, got {engine_name!r}')
  if isinstance(recipe, Recipe):
    return engine.prepare(recipe, engine_name)
  if engine_name != 'device':
    what = 'audio' if isinstance(recipe, Audio) else 'paired views'
    raise ValueError(f"engine must be 'device' for {what}, got {engine_name!r}")
  return audio_engine.prepare(recipe) if isinstance(recipe, Audio) else paired_engine.prepare(recipe)
