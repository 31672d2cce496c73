"""Eight simulated CPU devices for every test, set before JAX starts."""

import atexit
import os
import shutil
import tempfile

os.environ['XLA_FLAGS'] = os.environ.get('XLA_FLAGS', '') + ' --xla_force_host_platform_device_count=8'
# Most of the time goes into compiling: nothing is compiled twice, also not by another worker or by a command that a
# test starts.
if 'JAX_COMPILATION_CACHE_DIR' not in os.environ:
  os.environ['JAX_COMPILATION_CACHE_DIR'] = tempfile.mkdtemp(prefix='jaxssl-tests-')
  atexit.register(shutil.rmtree, os.environ['JAX_COMPILATION_CACHE_DIR'], ignore_errors=True)
os.environ.setdefault('JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS', '0.2')
# And in half the time; see `optimized`.
os.environ.setdefault('JAX_DISABLE_MOST_OPTIMIZATIONS', '1')
os.environ.setdefault('JAX_PLATFORMS', 'cpu')
os.environ.setdefault('TF_CPP_MIN_LOG_LEVEL', '2')

import jax
import pytest


@pytest.fixture(autouse=True)
def strict_shapes():
  """Broadcasting between ranks is a bug in this code base."""
  with jax.numpy_rank_promotion('raise'):
    yield


@pytest.fixture
def optimized():
  """Compiles as users do, for tests whose tolerance is the rounding of optimised code."""
  jax.config.update('jax_disable_most_optimizations', False)
  yield
  jax.config.update('jax_disable_most_optimizations', os.environ['JAX_DISABLE_MOST_OPTIMIZATIONS'] == '1')
