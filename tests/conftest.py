"""Eight simulated CPU devices for every test, set before JAX starts."""

import os

os.environ['XLA_FLAGS'] = os.environ.get('XLA_FLAGS', '') + ' --xla_force_host_platform_device_count=8'
os.environ.setdefault('JAX_PLATFORMS', 'cpu')
os.environ.setdefault('TF_CPP_MIN_LOG_LEVEL', '2')

import jax
import pytest


@pytest.fixture(autouse=True)
def strict_shapes():
  """Broadcasting between ranks is a bug in this code base."""
  with jax.numpy_rank_promotion('raise'):
    yield
