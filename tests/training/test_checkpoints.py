"""Checkpoints: what comes back is what was saved, on any number of devices and after a kill."""

import os
import pathlib
import resource
import shutil
import signal
import socket
import subprocess
import sys
import textwrap
import time
from unittest.mock import Mock

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxssl.core import State
from jaxssl.training import mesh as meshes
from jaxssl.training import optimizers
from jaxssl.training.checkpoints import Checkpoints, Damaged

META = {'config': {'seed': 3, 'method': {'name': 'simclr'}}, 'seed': 3}


def make_state(seed=0):
  """A state with every kind of leaf: masked and accumulated optimizer state, bfloat16, typed keys, an empty dict."""
  rng = np.random.default_rng(seed)
  params = {
      'kernel': jnp.asarray(rng.normal(size=(16, 24)), jnp.float32),
      'bias': jnp.asarray(rng.normal(size=5), jnp.bfloat16),
  }
  optimizer = optimizers.lars(lambda count: 0.1 / (1 + count), clip_norm=1.0, accumulate_steps=2)
  stats = {'key': jax.random.key(seed), 'keys': jax.random.split(jax.random.key(seed), 4), 'empty': {}}
  return State(jnp.int32(seed), jnp.int32(-1), params, stats, optimizer.init(params))


def bits(tree):
  raw = lambda leaf: jax.random.key_data(leaf) if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key) else leaf
  return [(str(leaf.dtype), leaf.shape, np.asarray(raw(leaf)).tobytes()) for leaf in jax.tree.leaves(tree)]


def like(state, mesh=None):
  """Shapes of a state, sharded over a mesh or with no sharding at all."""
  shapes = jax.eval_shape(lambda: state)
  if mesh is None:
    return shapes
  return jax.tree.map(
      lambda leaf, sharding: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding),
      shapes, meshes.state_shardings(mesh, shapes, min_size=64))


def test_what_is_saved_comes_back(tmp_path):
  state = make_state(3)
  with Checkpoints(tmp_path / 'a') as checkpoints:
    assert checkpoints.latest_step() is None
    assert checkpoints.save(3, state, META)
    restored, meta = checkpoints.restore(like(state))
  assert meta == META
  assert jax.tree.structure(restored) == jax.tree.structure(state)
  assert bits(restored) == bits(state)


def test_a_checkpoint_under_another_step_is_none(tmp_path, caplog):
  """One that was copied or renamed by hand would keep the steps up to its name from being saved."""
  with Checkpoints(tmp_path) as checkpoints:
    for step in (3, 4):
      checkpoints.save(step, make_state(step), META)
  shutil.copytree(tmp_path / '3', tmp_path / '20')
  with Checkpoints(tmp_path) as checkpoints:
    restored, _ = checkpoints.restore(like(make_state()))
    assert bits(restored) == bits(make_state(4)) and checkpoints.latest_step() == 4
    assert checkpoints.save(5, restored, META)
  assert '20 is damaged: it is that of step 3, renamed or copied' in caplog.text
  assert (tmp_path / '20.damaged').exists()


def test_any_number_of_devices_restores_the_same_bits(tmp_path):
  state, previous = make_state(1), None
  for step, (count, model) in enumerate([(8, 2), (4, 1), (1, 1), (8, 8)], start=1):
    mesh = meshes.make_mesh(model=model, devices=jax.devices()[:count])
    with Checkpoints(tmp_path) as checkpoints:
      if previous is None:
        placed = jax.device_put(state, jax.tree.map(lambda leaf: leaf.sharding, like(state, mesh)))
      else:
        placed, _ = checkpoints.restore(like(state, mesh))
      assert len(placed.params['kernel'].devices()) == count
      assert placed.params['kernel'].addressable_shards[0].data.shape == (16, 24 // model)
      assert bits(placed) == bits(state)
      assert checkpoints.save(step, placed, META)
    previous = placed


def test_a_state_may_be_donated_right_after_the_save(tmp_path):
  step = jax.jit(lambda tree: jax.tree.map(lambda leaf: leaf * 0 - 1, tree), donate_argnums=0)
  state = {'x': jnp.arange(1_000_000, dtype=jnp.float32)}
  with Checkpoints(tmp_path) as checkpoints:
    checkpoints.save(1, state, {})
    for _ in range(3):
      state = step(state)
    restored, _ = checkpoints.restore(like(state))
  np.testing.assert_array_equal(restored['x'], np.arange(1_000_000))


def test_when_to_save_and_what_to_keep(tmp_path):
  state = {'x': jnp.arange(3)}
  with Checkpoints(tmp_path, every=10, keep_last=2, keep_every=40) as checkpoints:
    saved = [step for step in range(1, 100) if checkpoints.save(step, state, {'step': step})]
    assert saved == [10, 20, 30, 40, 50, 60, 70, 80, 90]
    assert checkpoints.save(99, state, {'step': 99}, force=True)
    assert not checkpoints.save(99, state, {}, force=True)
    assert not checkpoints.save(90, state, {}, force=True)
    checkpoints.wait()
    assert checkpoints.all_steps() == [40, 80, 90, 99]
    assert [checkpoints.meta(step) for step in (None, 40)] == [{'step': 99}, {'step': 40}]
  assert sorted(os.listdir(tmp_path)) == ['40', '80', '90', '99']
  with Checkpoints(tmp_path) as checkpoints:
    assert checkpoints.latest_step() == 99


def test_a_reader_beside_the_trainer(tmp_path, monkeypatch, caplog):
  with Checkpoints(tmp_path, keep_last=1) as trainer:
    reader = Checkpoints(tmp_path, read_only=True)
    assert reader.latest_step() is None
    with pytest.raises(FileNotFoundError, match=f'no checkpoint in {tmp_path}'):
      reader.restore({})
    trainer.save(1, {'x': jnp.int32(1)}, {})
    trainer.wait()
    assert reader.latest_step() == 1
    os.mkdir(tmp_path / '2.orbax-checkpoint-tmp')

    def restore(step, args, original=reader._manager.restore):
      """The trainer moves on between the reader's choice and its reading."""
      if step == 1:
        trainer.save(3, {'x': jnp.int32(3)}, {'step': 3})
        trainer.wait()
      return original(step, args=args)

    monkeypatch.setattr(reader._manager, 'restore', restore)
    state, meta = reader.restore({'x': jax.ShapeDtypeStruct((), jnp.int32)})
    assert state['x'] == meta['step'] == 3
    with pytest.raises(ValueError, match='read-only'):
      reader.save(4, {}, {})
    reader.close()
  assert sorted(os.listdir(tmp_path)) == ['2.orbax-checkpoint-tmp', '3']
  assert 'read only' not in caplog.text


@pytest.fixture(scope='module')
def saved(tmp_path_factory):
  directory = tmp_path_factory.mktemp('saved')
  with Checkpoints(directory) as checkpoints:
    checkpoints.save(1, {'x': jnp.zeros((2, 3))}, {})
    checkpoints.save(2, {'x': jnp.zeros((2, 3))}, {})
  return directory


@pytest.mark.parametrize('target, message', [
    ({'x': jax.ShapeDtypeStruct((2, 4), jnp.float32)}, r'/2 cannot be restored.*\(2, 4\)'),
    ({'y': jax.ShapeDtypeStruct((2, 3), jnp.float32)}, '/2 cannot be restored: it was saved by another configuration'),
    ({}, '/2 cannot be restored'),
    ({'x': jax.ShapeDtypeStruct((2, 3), jnp.bfloat16)}, '/2 cannot be restored.* x was saved as float32, not bfloat16'),
])
def test_another_state_is_refused(saved, target, message):
  with Checkpoints(saved) as checkpoints, pytest.raises(ValueError, match=message):
    checkpoints.restore(target)


def test_absent_checkpoints(saved, tmp_path):
  with Checkpoints(saved, read_only=True) as checkpoints:
    with pytest.raises(FileNotFoundError, match=r'step 7 .*choose one of \[1, 2\]'):
      checkpoints.meta(7)
    assert checkpoints.restore({'x': jax.ShapeDtypeStruct((2, 3), jnp.float32)}, 1)[0]['x'].shape == (2, 3)
  with pytest.raises(FileNotFoundError, match='no checkpoints: .*nowhere is not a directory'):
    Checkpoints(tmp_path / 'nowhere', read_only=True)
  assert not (tmp_path / 'nowhere').exists()


def remove(path):
  shutil.rmtree(path) if path.is_dir() else path.unlink()


def empty(path):
  if path.is_dir():
    shutil.rmtree(path)
    path.mkdir()
  else:
    path.write_bytes(b'')


def truncate(path):
  if path.is_file():
    path.write_bytes(path.read_bytes()[:path.stat().st_size // 2])


def flip_a_bit(path):
  if path.is_file():
    damaged = bytearray(path.read_bytes())
    damaged[len(damaged) // 3] ^= 1
    path.write_bytes(damaged)


@pytest.mark.parametrize('damage', [remove, empty, truncate, flip_a_bit])
def test_whatever_is_damaged_the_state_is_one_that_was_saved(tmp_path, caplog, damage):
  states = {step: make_state(step) for step in (1, 2)}
  with Checkpoints(tmp_path / 'whole') as checkpoints:
    for step, state in states.items():
      checkpoints.save(step, state, {'step': step})
  latest = tmp_path / 'whole' / '2'
  noticed = []
  for part in [latest, *sorted(latest.rglob('*'))]:
    run = tmp_path / 'run'
    shutil.rmtree(run, ignore_errors=True)
    shutil.copytree(tmp_path / 'whole', run)
    damage(run / part.relative_to(tmp_path / 'whole'))
    caplog.clear()
    with Checkpoints(run) as checkpoints:
      state, meta = checkpoints.restore(like(states[2]))
      assert bits(state) == bits(states[meta['step']]), part
      assert meta['step'] == 2 or checkpoints.save(2, states[2], {'step': 2}), part
    if meta['step'] == 1 and part != latest:
      noticed.append(str(part.relative_to(latest)))
      (message,) = [record.getMessage() for record in caplog.records if record.name.startswith('jaxssl')]
      assert f'{run}/2 is damaged: ' in message and f'; set aside as {run}/2.damaged, and step 1 is used' in message
    with Checkpoints(run) as checkpoints:
      assert checkpoints.restore(like(states[2]))[1] == {'step': 2}
  assert {'meta/metadata', 'state/manifest.ocdbt', 'state/array_metadatas/process_0'} <= {*noticed}


def test_a_reader_passes_over_what_is_damaged_and_renames_nothing(saved, tmp_path, caplog):
  shutil.copytree(saved, tmp_path, dirs_exist_ok=True)
  shutil.rmtree(tmp_path / '2' / 'state' / 'd')
  target = {'x': jax.ShapeDtypeStruct((2, 3), jnp.float32)}
  with Checkpoints(tmp_path, read_only=True) as checkpoints:
    checkpoints.restore(target)
    assert f'{tmp_path}/2 is damaged: ' in caplog.text and '; step 1 is used instead' in caplog.text
    with pytest.raises(Damaged, match=f'^{tmp_path}/2 is damaged: '):
      checkpoints.restore(target, 2)
    shutil.rmtree(tmp_path / '1' / 'meta')
    with pytest.raises(Damaged, match=f'no checkpoint in {tmp_path} is whole, and nothing was changed.*/2 is.*/1 is'):
      checkpoints.restore(target)
  for _ in range(2):
    with Checkpoints(tmp_path) as checkpoints, pytest.raises(Damaged, match='to start over, move that directory away'):
      checkpoints.restore(target)
  assert sorted(os.listdir(tmp_path)) == ['1', '2']


@pytest.mark.parametrize('error', [
    MemoryError('no room'), PermissionError(13, 'no'), ValueError("PERMISSION_DENIED: no [os_error_code='13']")])
def test_what_is_not_the_fault_of_the_files_is_no_damage(saved, monkeypatch, error):
  with Checkpoints(saved) as checkpoints:
    monkeypatch.setattr(checkpoints._manager, 'restore', Mock(side_effect=error))
    with pytest.raises(OSError, match='/2 cannot be read: '):
      checkpoints.restore({'x': jax.ShapeDtypeStruct((2, 3), jnp.float32)})
  assert sorted(os.listdir(saved)) == ['1', '2']


def test_a_save_that_fails_names_the_last_good_one(tmp_path):
  small = {'x': jnp.zeros(3)}
  large = {'x': jax.random.normal(jax.random.key(0), (1_000_000,))}
  limits = resource.getrlimit(resource.RLIMIT_FSIZE)
  message = f'^{tmp_path}: a checkpoint could not be saved: File too large; the last good checkpoint is 1$'
  with pytest.raises(OSError, match=message), Checkpoints(tmp_path, keep_last=1) as checkpoints:
    checkpoints.save(1, small, {})
    checkpoints.wait()
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, limits[1]))
    try:
      checkpoints.save(2, large, {})
      checkpoints.wait()
    finally:
      resource.setrlimit(resource.RLIMIT_FSIZE, limits)
  with Checkpoints(tmp_path, keep_last=1) as checkpoints:
    assert checkpoints.restore(like(small))[1] == {} and checkpoints.save(2, small, {})
  assert os.listdir(tmp_path) == ['2']


def test_a_flipped_bit_is_noticed(tmp_path):
  rng = np.random.default_rng(0)
  state = {'kernel': jnp.asarray(rng.normal(size=(64, 64)), jnp.float32)}
  with Checkpoints(tmp_path / 'a') as checkpoints:
    checkpoints.save(1, state, META)
  files = [file for file in (tmp_path / 'a' / '1').rglob('*') if file.is_file() and file.stat().st_size > 4096]
  assert files
  silent = 0
  for file in files:
    whole = file.read_bytes()
    for place in rng.integers(0, len(whole), 40):
      file.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1:])
      with Checkpoints(tmp_path / 'a', read_only=True) as checkpoints:
        try:
          silent += bits(checkpoints.restore(like(state))[0]) != bits(state)
        except Damaged as error:
          assert f'{tmp_path}/a/1 is damaged: ' in str(error)
    file.write_bytes(whole)
  assert silent == 0


def test_a_nested_dtype_is_checked(tmp_path):
  state = make_state()
  with Checkpoints(tmp_path) as checkpoints:
    checkpoints.save(1, state, META)
    target = like(state)
    momentum = target.opt_state.acc_grads
    momentum['kernel'] = jax.ShapeDtypeStruct(momentum['kernel'].shape, jnp.float16)
    with pytest.raises(ValueError, match='opt_state.acc_grads.kernel was saved as float32, not float16'):
      checkpoints.restore(target)


@pytest.mark.parametrize('change', [{'every': 0}, {'keep_last': 0}, {'keep_every': -1}])
def test_intervals_are_positive(tmp_path, change):
  name, value = next(iter(change.items()))
  with pytest.raises(ValueError, match=f'{name} must be positive: got {value}'):
    Checkpoints(tmp_path, **change)


ENDLESS = textwrap.dedent("""
  import sys
  import jax.numpy as jnp
  from jaxssl.training.checkpoints import Checkpoints, Damaged
  checkpoints = Checkpoints(sys.argv[1], keep_last=2)
  for step in range(1, 10_000):
    checkpoints.save(step, {'x': jnp.full(4_000_000, step, jnp.int32), 'step': jnp.int32(step)}, {'step': step})
""")


def test_kill_during_a_save(tmp_path):
  environment = {**os.environ, 'XLA_FLAGS': os.environ['QUICK_XLA_FLAGS']}
  process = subprocess.Popen([sys.executable, '-c', ENDLESS, str(tmp_path)], env=environment)
  try:
    deadline = time.time() + 60
    unfinished = lambda: any('tmp' in name for name in os.listdir(tmp_path))
    while True:
      assert process.poll() is None and time.time() < deadline
      if unfinished() and (tmp_path / '3').exists():
        process.send_signal(signal.SIGSTOP)
        time.sleep(0.01)
        if unfinished():
          break
        process.send_signal(signal.SIGCONT)
      time.sleep(0.002)
  finally:
    process.kill()
    process.wait()
  assert any('tmp' in name for name in os.listdir(tmp_path))
  shapes = {'x': jax.ShapeDtypeStruct((4_000_000,), jnp.int32), 'step': jax.ShapeDtypeStruct((), jnp.int32)}
  with Checkpoints(tmp_path, keep_last=2) as checkpoints:
    latest = checkpoints.latest_step()
    assert latest >= 3
    state, meta = checkpoints.restore(shapes)
    assert state['step'] == meta['step'] == latest
    assert (np.asarray(state['x']) == latest).all()
    assert checkpoints.save(latest + 1, state, meta)
  assert max(map(int, os.listdir(tmp_path))) == latest + 1


PAIR = textwrap.dedent("""
  import sys
  import jax, numpy as np
  from jaxssl.training import mesh as meshes
  from jaxssl.training.checkpoints import Checkpoints, Damaged
  meshes.initialize_distributed('127.0.0.1:' + sys.argv[2], 2, int(sys.argv[1]))
  mesh = meshes.make_mesh(data=1, model=4)
  init = lambda: {'w': jax.numpy.arange(64 * 8, dtype=np.float32).reshape(64, 8), 'key': jax.random.key(5)}
  state = jax.jit(init, out_shardings=meshes.state_shardings(mesh, jax.eval_shape(init), min_size=8))()
  assert not state['w'].is_fully_addressable
  with Checkpoints(sys.argv[3]) as checkpoints:
    assert checkpoints.save(1, state, {'seed': 5})
    restored, meta = checkpoints.restore(state)
    shard, same = restored['w'].addressable_shards[0], state['w'].addressable_shards[0]
    np.testing.assert_array_equal(shard.data, same.data)
  print('same')
""")


def test_two_processes_save_what_one_restores(tmp_path):
  with socket.socket() as free:
    free.bind(('127.0.0.1', 0))
    port = str(free.getsockname()[1])
  env = {'JAX_PLATFORMS': 'cpu', 'XLA_FLAGS': '--xla_force_host_platform_device_count=2',
         'JAX_CPU_COLLECTIVES_IMPLEMENTATION': 'gloo', 'PATH': '/usr/bin:/bin',
         'PYTHONPATH': str(pathlib.Path(__file__).parents[2])}
  processes = [
      subprocess.Popen([sys.executable, '-c', PAIR, str(i), port, str(tmp_path)], env=env, text=True,
                       stdout=subprocess.PIPE, stderr=subprocess.STDOUT) for i in range(2)]
  try:
    outputs = [process.communicate(timeout=120)[0] for process in processes]
  finally:
    for process in processes:
      process.kill()
  assert all(output.endswith('same\n') for output in outputs), outputs
  with Checkpoints(tmp_path) as checkpoints:
    target = {'w': jax.ShapeDtypeStruct((64, 8), jnp.float32), 'key': jax.eval_shape(lambda: jax.random.key(0))}
    state, meta = checkpoints.restore(target)
  assert meta == {'seed': 5}
  assert bits(state) == bits({'w': jnp.arange(64 * 8, dtype=jnp.float32).reshape(64, 8), 'key': jax.random.key(5)})
