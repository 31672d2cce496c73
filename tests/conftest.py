"""Eight simulated CPU devices for every test, set before JAX starts."""

import atexit
import os
import shutil
import subprocess
import sys
import tempfile

DEVICES = '--xla_force_host_platform_device_count=8'
# Most of the time goes into compiling. Without these emitters XLA takes less than half of it; an XLA that does not know
# the flag would end the process. QUICK_XLA_FLAGS is for the workers, and for commands that a test starts.
QUICK = '--xla_cpu_use_fusion_emitters=false'
if 'QUICK_XLA_FLAGS' not in os.environ:
  tried = subprocess.run(
      [sys.executable, '-c', 'import jax; jax.devices()'], capture_output=True,
      env={**os.environ, 'XLA_FLAGS': QUICK, 'JAX_PLATFORMS': 'cpu'})
  os.environ['QUICK_XLA_FLAGS'] = QUICK if tried.returncode == 0 else ''
if DEVICES not in os.environ.get('XLA_FLAGS', ''):
  os.environ['XLA_FLAGS'] = f'{os.environ.get("XLA_FLAGS", "")} {DEVICES} {os.environ["QUICK_XLA_FLAGS"]}'
# And nothing is compiled twice, also not by another worker or by a command that a test starts.
if 'JAX_COMPILATION_CACHE_DIR' not in os.environ:
  os.environ['JAX_COMPILATION_CACHE_DIR'] = tempfile.mkdtemp(prefix='jaxssl-tests-')
  atexit.register(shutil.rmtree, os.environ['JAX_COMPILATION_CACHE_DIR'], ignore_errors=True)
os.environ.setdefault('JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS', '0.2')
# Nor are most optimisations waited for; see `optimized`.
os.environ.setdefault('JAX_DISABLE_MOST_OPTIMIZATIONS', '1')
os.environ.setdefault('JAX_PLATFORMS', 'cpu')
os.environ.setdefault('TF_CPP_MIN_LOG_LEVEL', '2')

import jax  # noqa: E402
import pytest  # noqa: E402


@pytest.fixture(autouse=True)
def strict_shapes():
  """Broadcasting between ranks is a bug in this code base."""
  with jax.numpy_rank_promotion('raise'):
    yield


@pytest.fixture
def optimized():
  """Compiles as users do, for tests whose tolerance is the rounding of optimised code; `jax.jit` wants the options."""
  jax.config.update('jax_disable_most_optimizations', False)
  yield {'xla_cpu_use_fusion_emitters': True} if os.environ['QUICK_XLA_FLAGS'] else None
  jax.config.update('jax_disable_most_optimizations', os.environ['JAX_DISABLE_MOST_OPTIMIZATIONS'] == '1')
