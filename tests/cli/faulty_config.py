"""tiny_config in a process where something goes wrong: what the environment variable FAULT names."""

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


def slow_loading():
  sources.SOURCES['bundled'] = hang


def slow_evaluation():
  measure.measure = hang


def small_memory():
  """Images in files are read whenever they are used."""
  encoded.MEMORY = 0


def not_finite():
  """The loss of the step in NOT_FINITE is not a number."""
  descend, failing = core.descend, int(os.environ['NOT_FINITE'])

  def broken(loss_fn, optimizer, state):
    def loss(params):
      value, rest = loss_fn(params)
      return jnp.where(state.step == failing - 1, jnp.nan, value), rest
    return descend(loss, optimizer, state)

  core.descend = broken


def long_compilation():
  jax.config.update('jax_enable_compilation_cache', False)


FAULTS = {each.__name__: each for each in (
    slow_loading, slow_evaluation, small_memory, not_finite, long_compilation)}


def get_config():
  if os.environ.get('FAULT'):
    FAULTS[os.environ['FAULT']]()
  return tiny_config.get_config()
