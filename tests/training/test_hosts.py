"""Several processes: what one tells the others, and devices that meet late. With one process, nothing happens."""

import pathlib
import re
import socket
import subprocess
import sys
import textwrap

import pytest

from jaxssl.training import hosts

ROOT = pathlib.Path(__file__).parents[2]
BEGIN = """
  import sys, time
  import jax, numpy as np
  from jaxssl.training import hosts, mesh
  me = int(sys.argv[1])
  mesh.initialize_distributed('127.0.0.1:' + sys.argv[2], 2, me)
  with hosts.together():
"""
TALK = """
    print('only the first prints')
    assert hosts.first(lambda: [jax.process_index(), 'said']) == [0, 'said']
    assert hosts.first(lambda: float(jax.jit(lambda x: x.sum())(np.ones(3)))) == 3  # Needs no other process.
    assert hosts.in_turn(lambda: me) == me
    hosts.agree({'a': 1, 'b': (2, 3)})
    devices = mesh.make_mesh()
    hosts.connect(devices)
    rows = mesh.local_rows(devices, 8)
    with jax.set_mesh(devices):
      from jaxssl.evaluation import extract
      x = np.arange(13 * 4, dtype=np.float32).reshape(13, 2, 2, 1)
      read = []
      class Images:
        __len__ = lambda self: 13
        def __getitem__(self, index):
          read.extend(index)
          return x[index]
      found = extract(jax.jit(lambda x: x.reshape(len(x), -1) + 1), Images(), batch_size=6)  # 6 are 8 on 4 devices.
      np.testing.assert_array_equal(found, x.reshape(13, 4) + 1)
      assert sorted(set(read)) == ([0, 1, 2, 3, 8, 9, 10, 11] if me == 0 else [4, 5, 6, 7, 12]), read
      stop = hosts.Stop(lambda: me == 1 and step > 20, 0)
      with stop:
        for step in range(1, 10000):
          time.sleep(0.01 * (1 + me))
          if stop.after(step):
            break
      hosts.agree({'step': step})
      assert 20 < step < 9999
"""
LATE = """
    devices = mesh.make_mesh()
    hosts.connect(devices)
    batch = mesh.shard_batch(devices, np.ones((2, 3), np.float32))
    w = mesh.replicate(devices, np.ones(3, np.float32))
    if me == 0:
      time.sleep(40)
    total = jax.jit(jax.grad(lambda w, x: (x @ w).mean()))(w, batch)
    assert (np.asarray(total) == 1).all()
    print('met')
"""


def pair(tmp_path, body):
  """Returns the exit statuses and outputs of two processes."""
  with socket.socket() as free:
    free.bind(('127.0.0.1', 0))
    port = str(free.getsockname()[1])
  env = {'JAX_PLATFORMS': 'cpu', 'XLA_FLAGS': '--xla_force_host_platform_device_count=2', 'PYTHONPATH': str(ROOT),
         'JAX_CPU_COLLECTIVES_IMPLEMENTATION': 'gloo', 'PATH': '/usr/bin:/bin'}
  command = [sys.executable, '-c', textwrap.dedent(BEGIN) + textwrap.dedent(body).replace('\n', '\n  ')]
  processes = [subprocess.Popen([*command, str(i), port], env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                                text=True) for i in range(2)]
  try:
    outputs = [process.communicate(timeout=240)[0] for process in processes]
  finally:
    for process in processes:
      process.kill()
  lines = [output.splitlines(True) for output in outputs]  # Without Gloo's, also where its threads mix them.
  return [process.returncode for process in processes], [
      ''.join(line for line in each if not re.search('^.Gloo|connected peer ranks', line)) for each in lines]


def test_processes_talk_share_features_and_stop_together(tmp_path):
  assert pair(tmp_path, TALK) == ([0, 0], ['only the first prints\n', ''])


@pytest.mark.slow
def test_devices_that_met_once_wait_longer_than_gloo_would(tmp_path):
  assert pair(tmp_path, LATE) == ([0, 0], ['met\n', ''])


@pytest.mark.slow
@pytest.mark.parametrize('failure, first, second', [
    ("open('nowhere')", "error: [Errno 2] No such file or directory: 'nowhere'",
     "error: process 0: [Errno 2] No such file or directory: 'nowhere'"),
    ('1 / 0', 'error: ZeroDivisionError: division by zero', 'error: process 0: ZeroDivisionError: division by zero'),
])
def test_an_error_of_the_first_while_the_others_wait_ends_all(tmp_path, failure, first, second):
  statuses, outputs = pair(tmp_path, f'\n    hosts.first(lambda: {failure})\n')
  assert statuses == [1, 1] and outputs[1] == second + '\n', outputs
  assert outputs[0].splitlines()[-1] == first and ('Traceback' in outputs[0]) == ('Zero' in first)


def test_a_single_process_has_nobody_to_wait_for():
  assert hosts.first(lambda: 3) == hosts.in_turn(lambda: 3) == 3
  hosts.agree({'a': object()})
  hosts.meet()
  told = []
  with hosts.together(), hosts.Stop(lambda: bool(told), 0) as stop:
    assert not stop.after(1)
    told.append(1)
    assert stop.after(2)
  with pytest.raises(ZeroDivisionError), hosts.together():
    _ = 1 / 0


def test_a_user_is_told_what_ran_out():
  assert hosts.told(MemoryError('no room for 9 GiB')) == 'out of memory: no room for 9 GiB'
  assert hosts.told(ValueError('steps must be positive')) == 'steps must be positive'
