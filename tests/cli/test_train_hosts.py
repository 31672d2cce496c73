"""Runs of several processes on this machine: the same as one process, one stop, one end, and one work directory."""

import functools
import itertools
import os
import pathlib
import re
import shutil
import signal
import socket
import subprocess
import sys
import time

import jax
import numpy as np
import pytest
from PIL import Image

from jaxssl.cli import runs, workdir
from jaxssl.cli.eval import evaluate
from jaxssl.cli.train import train
from jaxssl.training import logging
from jaxssl.training import mesh as meshes
from jaxssl.training.checkpoints import checksum

sys.path.insert(0, os.path.dirname(__file__))
from processes import rows_of
from tiny_config import get_config

CONFIG = pathlib.Path(__file__).with_name('tiny_config.py')
ROOT = CONFIG.parents[2]
ALL_DEVICES = '--config.mesh.data=-1'
ENDLESS = ('--config.steps=1000000', '--config.checkpoint.every=1000000')


def without_gloo(output):
  """Leaves out what Gloo prints, also where its threads mix their lines."""
  return ''.join(line for line in output.splitlines(True) if not re.search('^.Gloo|connected peer ranks', line))


class Processes:
  """`count` processes of one command, of two simulated devices each; `own` are the further arguments of each.

  `folders` are the directories in which they start.
  """

  def __init__(self, tmp_path, count, *arguments, own=None, script='train.py', config=CONFIG, devices=2, folders=None):
    with socket.socket() as free:
      free.bind(('127.0.0.1', 0))
      port = free.getsockname()[1]
    environment = {
        **os.environ,
        'XLA_FLAGS': f'--xla_force_host_platform_device_count={devices} {os.environ["QUICK_XLA_FLAGS"]}',
        'JAX_PLATFORMS': 'cpu', 'JAX_CPU_COLLECTIVES_IMPLEMENTATION': 'gloo', 'PYTHONPATH': str(ROOT)}
    shared = ['--config', config] if script == 'train.py' else []
    self.files = [tmp_path / f'{script}.{port}.{i}' for i in range(count)]
    self.processes = []
    for i, file in enumerate(self.files):
      command = [sys.executable, ROOT / script, *shared, '--coordinator', f'127.0.0.1:{port}', '--num_processes', count,
                 '--process_id', i, *arguments, *(own[i] if own else ())]
      with open(file, 'w') as out:
        self.processes.append(subprocess.Popen(
            list(map(str, command)), env=environment, cwd=folders and folders[i], stdout=out, stderr=subprocess.STDOUT))

  def __enter__(self):
    return self

  def __exit__(self, *exception):
    for process in self.processes:
      process.kill()
      process.wait()

  def outputs(self):
    return [without_gloo(file.read_text()) for file in self.files]

  def wait_for(self, condition, seconds=240):
    end = time.time() + seconds
    while not condition():
      assert all(process.poll() is None for process in self.processes), self.outputs()
      assert time.time() < end, self.outputs()
      time.sleep(0.05)

  def end(self, seconds=240):
    """Returns the exit statuses and outputs."""
    end = time.time() + seconds
    try:
      statuses = [process.wait(max(end - time.time(), 0.1)) for process in self.processes]
    except subprocess.TimeoutExpired:
      raise AssertionError(self.outputs()) from None
    return statuses, self.outputs()


def config(**overrides):
  made = get_config()
  made.mesh.data = -1
  with made.unlocked():
    made.update_from_flattened_dict(overrides)
  return made


@pytest.fixture
def devices(monkeypatch):
  """Returns a function that leaves so many of the simulated devices to the commands."""
  make = meshes.make_mesh
  return lambda count: monkeypatch.setattr(
      meshes, 'make_mesh', functools.partial(make, devices=jax.devices()[:count]))


def state_of(path):
  return runs.restore(str(path)).state


def assert_same_run(path, other, accuracy=3 / 1210):
  """The same loss curve, parameters and results, to rounding.

  A few examples may change their neighbours. Seen over 12 steps: losses that differ by 8e-6 of themselves, gradient
  norms by 6e-5; and parameters, which are of the order of 1 and move by 0.01, by 6e-5: where rounding moves an
  activation across the kink of a ReLU, a gradient jumps. Momentum, which holds such gradients, is left out.
  """
  for ours, theirs in zip(logging.read(path), logging.read(other), strict=True):
    assert ours['step'] == theirs['step'] and ours['loss'] == pytest.approx(theirs['loss'], rel=1e-4)
    assert ours['gradient_norm'] == pytest.approx(theirs['gradient_norm'], rel=1e-3)
  ours, theirs = (state_of(each)._replace(opt_state=None) for each in (path, other))
  jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, rtol=0, atol=5e-4), ours, theirs)
  rows = [rows_of(each) for each in (path, other)]
  for ours, theirs in zip(*rows, strict=True):
    assert ours.pop('value') == pytest.approx(theirs.pop('value'), rel=2e-3, abs=accuracy) and ours == theirs


def test_two_processes_equal_one_and_only_the_first_prints_and_writes(tmp_path, devices):
  with Processes(tmp_path, 2, ALL_DEVICES, '--workdir', tmp_path / 'two') as pair:
    devices(4)
    train(config(), str(tmp_path / 'one'))
    statuses, outputs = pair.end()
  assert statuses == [0, 0], outputs
  assert_same_run(tmp_path / 'two', tmp_path / 'one')
  assert outputs[1] == ''
  digest = checksum(state_of(tmp_path / 'two'))
  for text in ('on 4 cpu devices', 'Compiling', 'Evaluating step 12', f'SHA-256 {digest}', 'trained encoder'):
    assert outputs[0].count(text) == 1, outputs[0]
  assert len((tmp_path / 'two' / 'evaluations.jsonl').read_text().splitlines()) == 3
  (start,) = workdir.read_json(tmp_path / 'two' / 'environment.json')
  assert (start['devices'], start['processes']) == (4, 2)


@pytest.mark.slow
def test_four_processes_equal_one_which_goes_on_from_their_checkpoint(tmp_path, devices, capsys):
  with Processes(tmp_path, 4, ALL_DEVICES, '--workdir', tmp_path / 'four') as four:
    train(config(), str(tmp_path / 'one'))
    statuses, outputs = four.end(500)
  assert statuses == [0] * 4, outputs
  assert outputs[1:] == [''] * 3
  assert_same_run(tmp_path / 'four', tmp_path / 'one')
  shutil.rmtree(tmp_path / 'four' / 'checkpoints' / '12')
  devices(1)
  train(config(), str(tmp_path / 'four'))
  assert 'Resuming from step 8.\nThe checkpoint is of 8 devices; going on with 1 device:' in capsys.readouterr().out
  assert_same_run(tmp_path / 'four', tmp_path / 'one')


# A VAE with every protocol and picture, whose parameters are split over two devices; judged by a small network.
GENERATIVE = f"""
import functools, sys
sys.path.insert(0, {os.path.dirname(__file__)!r})
from tiny_config import get_config as tiny
from jaxssl.evaluation import feature_network
from jaxssl.training import mesh
feature_network.WIDTHS, feature_network.BATCH_SIZE = (4, 4, 8), 8
mesh.state_shardings = functools.partial(mesh.state_shardings, min_size=64)

def get_config():
  made = tiny()
  with made.unlocked():
    made.data.recipe.views = 1
    made.mesh.model = 2
    made.method = {{
        'name': 'vae', 'latent_size': 5, 'encoder': {{'name': 'mlp_encoder', 'features': (8,)}},
        'decoder': {{'name': 'mlp_decoder', 'features': (8,)}},
        'optimizer': {{'name': 'adamw', 'learning_rate': {{'name': 'constant', 'base': 0.01, 'scaling': 'none'}}}}}}
    made.evaluation.update({{
        'protocols': ('knn', 'linear', 'reconstruction', 'samples'), 'pictures': True, 'batch_size': 250,
        'reconstruction': {{'samples': 2}}, 'samples': {{'count': 50, 'steps': 2}}}})
  return made
"""


@pytest.mark.slow
def test_samples_pictures_and_split_parameters_over_processes_equal_those_of_one(tmp_path):
  file = tmp_path / 'generative.py'
  file.write_text(GENERATIVE)
  for count in (2, 1):
    run = tmp_path / f'{count}'
    with Processes(tmp_path, count, ALL_DEVICES, '--workdir', run, config=file, devices=4 // count) as processes:
      statuses, outputs = processes.end(500)
    assert statuses == [0] * count, outputs
  assert_same_run(tmp_path / '2', tmp_path / '1')
  for count in (2, 1):
    with Processes(tmp_path, count, '--workdir', tmp_path / f'{count}', '--embed', tmp_path / f'{count}.npz',
                   '--config.evaluation.protocols=("reconstruction",)', script='eval.py', devices=4 // count
                   ) as processes:
      statuses, outputs = processes.end(500)
    assert statuses == [0] * count and outputs[1:] == [''] * (count - 1), outputs
  names = [{str(file.relative_to(tmp_path / run)) for file in (tmp_path / run).rglob('*.png')} for run in '21']
  assert names[0] == names[1] and {'samples/0.png', 'samples/12.png', 'pictures/samples.png'} <= names[0]
  ours, theirs = (np.load(tmp_path / f'{count}.npz') for count in (2, 1))
  np.testing.assert_allclose(ours['test_features'], theirs['test_features'], rtol=1e-3, atol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize('number', [signal.SIGTERM, signal.SIGINT])
def test_a_signal_to_one_process_stops_all_after_the_same_step(tmp_path, number):
  run = tmp_path / 'run'
  with Processes(tmp_path, 2, ALL_DEVICES, '--workdir', run, *ENDLESS) as pair:
    pair.wait_for(lambda: len(logging.read(run)) > 2)
    pair.processes[1].send_signal(number)
    statuses, outputs = pair.end()
  assert statuses == [0, 0], outputs
  (step,) = [int(path.name) for path in (run / 'checkpoints').iterdir()]
  assert f'Stopped at step {step} of 1000000' in outputs[0] and f'{number.name}: stopping' in outputs[1]
  assert int(state_of(run).step) == step


@pytest.mark.slow
@pytest.mark.parametrize('told', [0, 1])
def test_a_signal_before_the_first_step_ends_all_and_says_what_it_means(tmp_path, told):
  with Processes(tmp_path, 2, '--workdir', tmp_path / 'run', ALL_DEVICES) as run:
    run.wait_for(lambda: 'Compiling' in run.outputs()[0])
    run.processes[told].send_signal(signal.SIGTERM)
    codes, outputs = run.end()
  assert codes == [0, 0], outputs
  assert all('no step has been taken; the same command starts again.' in output for output in outputs), outputs


@pytest.mark.slow
@pytest.mark.parametrize('own, shared, message', [
    ([(), ('--config.batch_size=32',)], [], r'process 1 differs from process 0: config.batch_size is 32, not 16'),
    ([(), ('--config.data.source=folder', '--config.data.path=nowhere')], [], 'process 1 differs from process 0: '
     r"config.data.path is 'nowhere', not ''; config.data.source is 'folder', not 'bundled'"),
    ([('--workdir', '{}/a'), ('--workdir', '{}/b')], [], r'--workdir .*/b: process 1 does not see there what process 0 '
     'writes; it must be a directory that all hosts share'),
    ([(), ()], ['--config.method.optimizer.learning_rate.base=1e30', '--config.checkpoint.every=1'],
     r'the loss or its gradient was not finite at step \d+'),
    ([(), ()], ['--config.mesh.data=3'], 'mesh.data=3 times mesh.model=1 is 3, but there are 4 devices'),
])
def test_an_error_in_one_process_ends_all_with_one_line(tmp_path, own, shared, message):
  run = tmp_path / 'run'
  own = [[argument.format(tmp_path) for argument in each] for each in own]
  with Processes(tmp_path, 2, ALL_DEVICES, '--workdir', run, *shared, own=own) as pair:
    statuses, outputs = pair.end()
  assert statuses == [1, 1], outputs
  for output in outputs:
    (line,) = [line for line in output.splitlines() if line.startswith('error: ')]
    assert re.search(message, line), line
    assert 'Traceback' not in output


@pytest.mark.slow
def test_a_locked_work_directory_ends_all(tmp_path):
  run = tmp_path / 'run'
  run.mkdir()
  with workdir.locked(str(run)), Processes(tmp_path, 2, ALL_DEVICES, '--workdir', run) as pair:
    statuses, outputs = pair.end()
  assert statuses == [1, 1], outputs
  assert all('another process is training there' in output for output in outputs)


@pytest.mark.slow
def test_data_that_vanish_for_one_process_end_all(tmp_path):
  folders, run = [tmp_path / name for name in 'ab'], tmp_path / 'run'
  for i, folder in itertools.product(range(64), folders):
    file = folder / 'data' / f'{i % 2}' / f'{i}.png'
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((20, 20), i, np.uint8)).save(file)
  arguments = ['--config.data.source=folder', '--config.data.path=data', '--config.data.engine=split',
               '--config.data.recipe.size=14', *ENDLESS]
  with Processes(tmp_path, 2, ALL_DEVICES, '--workdir', run, *arguments, folders=folders) as pair:
    pair.wait_for(lambda: len(logging.read(run)) > 2)
    shutil.rmtree(folders[1])
    began = time.time()
    statuses, outputs = pair.end()
  assert statuses == [1, 1] and time.time() - began < 60, outputs
  assert 'error: process 1: ' in outputs[0] and 'Traceback' not in outputs[0]


@pytest.mark.slow
@pytest.mark.parametrize('victim', [0, 1])
def test_a_killed_process_ends_the_other(tmp_path, victim):
  run = tmp_path / 'run'
  with Processes(tmp_path, 2, ALL_DEVICES, '--workdir', run, *ENDLESS) as pair:
    pair.wait_for(lambda: len(logging.read(run)) > 2)
    pair.processes[victim].kill()
    began = time.time()
    statuses, outputs = pair.end()
  assert statuses[1 - victim] != 0, outputs
  assert time.time() - began < 150


@pytest.fixture(scope='module')
def whole(tmp_path_factory):
  """A run on eight devices, whole, and a copy of it as it was after step 4 of 12."""
  path = tmp_path_factory.mktemp('restored')
  with jax.numpy_rank_promotion('raise'):
    train(config(**{'checkpoint.keep_last': 3}), str(path / 'whole'))
    shutil.copytree(path / 'whole', path / 'half')
    for step in ('8', '12'):
      shutil.rmtree(path / 'half' / 'checkpoints' / step)
  return path


@pytest.mark.slow
@pytest.mark.parametrize('count, model, message', [
    (1, 1, 'going on with 1 device: 16 examples a device instead of 2; the same up to rounding.'),
    (2, 1, 'going on with 2 devices: 8 examples a device instead of 2; the same up to rounding.'),
    (4, 2, 'going on with 4 devices, 2 to each copy of the parameters: 4 examples a device instead of 2;'),
])
def test_a_run_goes_on_with_other_devices(whole, tmp_path, devices, monkeypatch, capsys, count, model, message):
  monkeypatch.setattr(meshes, 'state_shardings', functools.partial(meshes.state_shardings, min_size=64))
  shutil.copytree(whole / 'half', tmp_path / 'run')
  devices(count)
  train(config(**{'mesh.model': model}), str(tmp_path / 'run'))
  out = capsys.readouterr().out
  assert f'Resuming from step 4.\nThe checkpoint is of 8 devices; {message}' in out
  assert_same_run(tmp_path / 'run', whole / 'whole')
  evaluated = [row['value'] for row in rows_of(tmp_path / 'run')]
  devices(8 // count)
  evaluate(workdir.read_config(str(tmp_path / 'run')), str(tmp_path / 'run'))
  again = [row['value'] for row in rows_of(tmp_path / 'run')]
  assert again == pytest.approx(evaluated, abs=3 / 1210)
  if model > 1:  # And back.
    shutil.rmtree(tmp_path / 'run' / 'checkpoints' / '12')
    devices(2)
    train(config(), str(tmp_path / 'run'))
    assert 'is of 4 devices, 2 to each copy of the parameters; going on with' in capsys.readouterr().out
    assert_same_run(tmp_path / 'run', whole / 'whole')


@pytest.mark.slow
def test_two_processes_go_on_from_the_checkpoint_of_one(whole, tmp_path):
  shutil.copytree(whole / 'half', tmp_path / 'run')
  with Processes(tmp_path, 2, ALL_DEVICES, '--workdir', tmp_path / 'run') as pair:
    statuses, outputs = pair.end()
  assert statuses == [0, 0] and outputs[1] == '', outputs
  assert 'The checkpoint is of 8 devices; going on with 4 devices: 4 examples a device instead of 2;' in outputs[0]
  assert_same_run(tmp_path / 'run', whole / 'whole')
