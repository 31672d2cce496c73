"""A small autoencoder, in a process where something goes wrong: what the environment variable FAULT names."""

import os
import time

import jax
import jax.numpy as jnp
import tiny_config

from jaxssl import core
from jaxssl.cli import measure
from jaxssl.data import encoded, sources


def hang(*arguments, **options):
  print('hanging', flush=True)
  time.sleep(600)


def slow_loading(config):
  sources.SOURCES['bundled'] = hang


def slow_evaluation(config):
  measure.measure = hang


def small_memory(config):
  """Images in files are read whenever they are used."""
  encoded.MEMORY = 0


def not_finite(config):
  """The loss of the step in NOT_FINITE is not a number."""
  descend, failing = core.descend, int(os.environ['NOT_FINITE'])

  def broken(loss_fn, optimizer, state):
    def loss(params):
      value, rest = loss_fn(params)
      return jnp.where(state.step == failing - 1, jnp.nan, value), rest
    return descend(loss, optimizer, state)

  core.descend = broken


def long_compilation(config):
  jax.config.update('jax_enable_compilation_cache', False)
  config.method.encoder.features = config.method.decoder.features = (8,) * 50


FAULTS = {each.__name__: each for each in (
    slow_loading, slow_evaluation, small_memory, not_finite, long_compilation)}


def get_config():
  config = tiny_config.get_config()
  with config.unlocked():
    config.data.recipe = {'name': 'crop_flip', 'size': 14, 'views': 1}
    config.method = {
        'name': 'autoencoder', 'code_size': 8,
        'encoder': {'name': 'mlp_encoder', 'features': (16,)}, 'decoder': {'name': 'mlp_decoder', 'features': (16,)},
        'optimizer': {'name': 'adamw', 'learning_rate': {'name': 'step_decay', 'base': 0.05, 'scaling': 'none'}}}
  if os.environ.get('FAULT'):
    FAULTS[os.environ['FAULT']](config)
  return config
