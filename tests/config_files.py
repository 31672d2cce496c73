"""The files of configs/: what they say, and the shapes of their batches."""

import importlib.util
import pathlib

import jax
import jax.numpy as jnp

from jaxssl import recipes

CONFIGS = sorted((pathlib.Path(__file__).parents[1] / 'configs').glob('*.py'))


def load(path):
  spec = importlib.util.spec_from_file_location(path.stem, path)
  module = importlib.util.module_from_spec(spec)
  spec.loader.exec_module(module)
  return module.get_config().to_dict()


def host_batch(config, recipe):
  """The shapes of a batch as it comes from the host."""
  b, struct = config['batch_size'], jax.ShapeDtypeStruct
  if isinstance(recipe, recipes.Audio):
    batch = {'inputs': struct((b, recipe.span), jnp.int16), 'mask': struct((b, recipe.span), bool)}
    return {**batch, 'index': struct((b,), jnp.int32), 'group': struct((b,), jnp.int32)}
  names = config['data']['name']
  channels = 1 if 'omniglot' in names or 'fashion' in names or config['data']['recipe']['name'] == 'spectrogram' else 3
  images = lambda size: struct((b, size, size, channels), jnp.uint8)
  inputs = images(recipe.input_size)
  batch = {'inputs': inputs, 'index': struct((b,), jnp.int32)}
  if isinstance(recipe, recipes.Paired):
    return {**batch, 'inputs': (inputs, struct((b, 17), jnp.float32))}
  views = {} if config['data']['engine'] == 'device' else {'views': tuple(images(view.size) for view in recipe.views)}
  return {**batch, **views}
