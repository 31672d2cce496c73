"""The train command as its user meets it: files, table, resume, refusal, signals, a loss that is not finite."""

import json
import os
import pathlib
import re
import shutil
import signal
import subprocess
import sys
import time

import jax
import numpy as np
import pytest

from jaxssl.build import build
from jaxssl.cli import export, runs, workdir
from jaxssl.cli.train import _enter, train
from jaxssl.training import logging
from jaxssl.training.checkpoints import checksum

sys.path.insert(0, os.path.dirname(__file__))
from tiny_config import get_config

CONFIG = pathlib.Path(__file__).with_name('tiny_config.py')
ROOT = CONFIG.parents[2]


def command(*arguments, script='train.py'):
  environment = {**os.environ, 'XLA_FLAGS': os.environ['QUICK_XLA_FLAGS'], 'JAX_PLATFORMS': 'cpu',
                 'PYTHONPATH': str(ROOT)}
  return subprocess.Popen(
      [sys.executable, str(ROOT / script), *map(str, arguments)], env=environment, text=True,
      stdout=subprocess.PIPE, stderr=subprocess.STDOUT)


def config(**overrides):
  made = get_config()
  made.mesh.data = 8  # As many as the tests simulate.
  with made.unlocked():
    made.update_from_flattened_dict(overrides)
  return made


def state_of(path):
  return jax.tree.map(np.asarray, runs.restore(str(path)).state)


def wait_for(condition, process, seconds=600):
  end = time.time() + seconds
  while not condition():
    assert process.poll() is None, process.communicate()[0]
    assert time.time() < end, 'nothing happened'
    time.sleep(0.02)


@pytest.fixture(scope='module')
def finished(tmp_path_factory):
  path = tmp_path_factory.mktemp('finished')
  with jax.numpy_rank_promotion('raise'):
    train(config(), str(path))
  return path


def test_run_leaves_its_files_and_its_table(finished, capsys):
  results = json.loads((finished / 'results.json').read_text())
  assert {row['features'] for row in results['rows']} == {'raw', 'random', 'trained'}
  assert all(0 <= row['value'] <= 1 and row['protocol'] == 'knn' and row['k'] == 5 for row in results['rows'])
  assert results['seconds'] > 0 and results['images_per_second'] > 0
  rows = logging.read(finished)
  assert [row['step'] for row in rows] == [1, 2, 4, 6, 8, 10, 12]
  assert {'loss', 'contrastive_accuracy', 'learning_rate', 'gradient_norm', 'images_per_second', 'data_wait_fraction',
          'embedding_std', 'effective_rank', 'alignment', 'uniformity'} <= set(rows[-1])
  (start,) = workdir.read_json(finished / 'environment.json')
  assert start['seed'] == 1 and start['devices'] == 8 and start['versions']['jax'] == jax.__version__
  assert workdir.read_config(str(finished)).to_dict() == config().to_dict()
  train(config(), str(finished))
  assert 'finished, at step 12' in (out := capsys.readouterr().out) and 'trained encoder' in out


def test_work_directory_refuses_another_config_and_stays_as_it_was(finished):
  before = {path: path.stat().st_mtime_ns for path in finished.rglob('*')}
  other = config(**{'method.temperature': 0.5, 'steps': 20, 'logging.every': 5})
  with pytest.raises(ValueError, match=r'(?s)another config.*method.temperature = 0.5.*0.2.*steps = 20.*12') as error:
    train(other, str(finished))
  assert 'logging' not in str(error.value)
  assert before == {path: path.stat().st_mtime_ns for path in finished.rglob('*')}


def test_a_new_evaluation_that_is_killed_leaves_no_old_results(finished, tmp_path):
  copy = tmp_path / 'copy'
  shutil.copytree(finished, copy)
  assert _enter(str(copy), config(), 'omniglot'), 'all is there'
  other = config(**{'evaluation.knn.k': 7})
  for _ in range(2):
    assert not _enter(str(copy), other, 'omniglot')
  assert len((copy / 'evaluations.jsonl').read_text().splitlines()) == 3, 'what was measured is still known'


def test_kill_and_resume_equals_the_uninterrupted_run_bit_for_bit(tmp_path):
  whole, killed = tmp_path / 'whole', tmp_path / 'killed'
  process = command('--config', CONFIG, '--workdir', whole)
  assert process.wait() == 0, process.communicate()[0]
  process = command('--config', CONFIG, '--workdir', killed)
  wait_for(lambda: (killed / 'checkpoints' / '8').is_dir(), process)
  process.kill()
  process.wait()
  steps_before = [int(path.name) for path in (killed / 'checkpoints').iterdir() if path.name.isdigit()]
  assert max(steps_before) < 12
  process = command('--config', CONFIG, '--workdir', killed)
  out = process.communicate()[0]
  assert process.returncode == 0, out
  assert f'SHA-256 {checksum(state_of(whole))}' in out
  jax.tree.map(np.testing.assert_array_equal, state_of(whole), state_of(killed))
  assert [row['loss'] for row in logging.read(whole) if row['step'] > 8] == [
      row['loss'] for row in logging.read(killed) if row['step'] > 8]


@pytest.mark.parametrize('number', [signal.SIGTERM, signal.SIGINT])
def test_signal_saves_and_exits_clean(tmp_path, number):
  process = command(
      '--config', CONFIG, '--workdir', tmp_path, '--config.steps=1000000', '--config.checkpoint.every=1000000')
  wait_for(lambda: len(logging.read(tmp_path)) > 2, process)
  process.send_signal(number)
  out = process.communicate()[0]
  assert process.returncode == 0 and 'goes on from there' in out, out
  (step,) = [int(path.name) for path in (tmp_path / 'checkpoints').iterdir()]
  assert f'Stopped at step {step}' in out and int(state_of(tmp_path).step) == step


def test_loss_that_is_not_finite_stops_the_run_and_names_the_last_good_checkpoint(tmp_path):
  broken = config(**{'method.optimizer.learning_rate.base': 1e30, 'checkpoint.every': 1})
  with pytest.raises(FloatingPointError, match=r'not finite at step \d+: loss = .*the last good checkpoint is \d+'):
    train(broken, str(tmp_path))
  assert int(state_of(tmp_path).failed_step) == -1


def test_another_run_can_start_from_the_encoder(finished, tmp_path):
  train(config(**{'init_from': str(finished), 'steps': 1, 'seed': 5, 'method.optimizer.learning_rate.base': 0.0}),
        str(tmp_path))
  donor, state = state_of(finished), state_of(tmp_path)
  jax.tree.map(np.testing.assert_array_equal, donor.params['encoder'], state.params['encoder'])
  assert not np.array_equal(donor.params['head']['linear1']['kernel'], state.params['head']['linear1']['kernel'])


def test_the_momentum_encoder_starts_there_too_in_buffers_of_its_own(finished):
  made = config()
  with made.unlocked():
    made.method = {**made.method.to_dict(), 'name': 'moco', 'objective': 'info_nce', 'queue_size': 16}
    del made.method['chunks']
  experiment = build(made.to_dict(), 100)
  views = (np.zeros((16, 14, 14, 1), np.float32),) * 2
  fresh = jax.jit(experiment.method.init)(jax.random.key(1), {'views': views})
  state = runs.start_from(fresh, str(finished), experiment)
  donor = state_of(finished).params['encoder']
  encoders = state.params['encoder'], state.stats['target']['params']['encoder']
  for encoder in encoders:
    jax.tree.map(np.testing.assert_array_equal, donor, encoder)
  pointers = [leaf.unsafe_buffer_pointer() for leaf in jax.tree.leaves(encoders)]
  assert len(set(pointers)) == len(pointers), 'each is donated'


def test_a_run_starts_from_weights_in_a_file(finished, tmp_path):
  file = str(tmp_path / 'encoder.safetensors')
  export.write(str(finished), file)
  experiment = build(config().to_dict(), 100)
  views = (np.zeros((16, 14, 14, 1), np.float32),) * 2
  state = runs.start_from(experiment.method.init(jax.random.key(1), {'views': views}), file, experiment)
  of_encoder = lambda state: (state.params['encoder'], state.stats['batch_stats']['encoder'])
  jax.tree.map(np.testing.assert_array_equal, of_encoder(state_of(finished)), of_encoder(state))


def test_a_wrong_start_is_refused_before_the_run(finished, tmp_path):
  export.write(str(finished), str(tmp_path / 'encoder.safetensors'))
  file = str(tmp_path / 'encoder.safetensors')
  for made, message in (
      (config(**{'init_from': str(finished), 'method.encoder.widths': (4,)}), 'its encoder differs in shape'),
      (config(**{'init_from': file, 'method.encoder.widths': (4,)}), r"encoder.safetensors': .*of shape .*\(8,\)"),
      (config(init_from='/nowhere'), "init_from = '/nowhere'"),
      (config(init_from='/nowhere.safetensors'), "init_from = '/nowhere.safetensors'")):
    with pytest.raises(ValueError, match=message):
      train(made, str(tmp_path / 'run'))
    assert not (tmp_path / 'run').exists()


@pytest.mark.parametrize('overrides,message', [
    ({'finetune.layer_deca': 0.65}, 'evaluation.finetune.layer_deca does not exist; the keys are: epochs, .*mix'),
    ({'finetune.layer_decay': 0.65}, "config.evaluation.finetune.layer_decay must be None without optimizer='adamw'"),
    ({'finetune.drop_path': 0.1}, 'config.evaluation.finetune.drop_path must be None .*ResNet'),
    ({'sgd.optimizer': 'adamw'}, "config.evaluation.sgd.optimizer must be one of 'sgd', 'lars', got 'adamw'"),
])
def test_a_wrong_recipe_of_a_classifier_is_refused_before_the_run(tmp_path, overrides, message):
  made = config(**{'evaluation.protocols': ('sgd', 'finetune'), **{f'evaluation.{k}': v for k, v in overrides.items()}})
  with pytest.raises(ValueError, match=message):
    train(made, str(tmp_path / 'run'))
  assert not (tmp_path / 'run').exists()


@pytest.mark.parametrize('arguments,message', [
    (['--config.method.temprature=3'],
     r"error: --config.method.temprature: no such config key: 'temprature'; did you mean \"temperature\""),
    (['--workdir='], 'error: --workdir needs the path of a directory'),
    (['--config.data.name=cifar10'], "'cifar10' is unknown. The choices are .*; data sets of TFDS have source='tfds'"),
    (['--config.data.source=tdfs'], "'tdfs'.*did you mean 'tfds'"),
    (['--config.method.encoder.name=resnet19'], r"config.method.encoder.name.*'resnet19'.*did you mean 'resnet18'"),
    (['--config.batch_size=100000'], r'config.batch_size = 100000 is more than the 3630'),
    (['--config.evaluation.knn.k=0'], 'config.evaluation.knn.k is out of range: got 0'),
    (['--config.evaluation.protocols=("knm",)'], "config.evaluation.protocols must be among knn.*'knm'"),
    (['--config.logging.every=0'], 'config.logging.every must be at least 1, got 0'),
    (['--config.mesh.data=3'], 'mesh.data=3 times mesh.model=1 is 3, but there are 1 devices'),
    (['--config.steps=0'], 'config.steps must be at least 1, got 0'),
    (['--workdr=x'], 'workdr.*Did you mean: workdir'),
    (['tpyo'], "unknown argument 'tpyo'"),
    (['--config.method.chunks=5'], r'chunks must divide the 32 rows of the batch'),
    (['--config.method.head.features=()'], r'config.method does not suit the data: features must hold'),
    (['--config.data.source=folder', '--config.data.path=nowhere'], "config.data.path='nowhere': there is no such"),
    (['--config=nowhere.py'], '--config=nowhere.py: there is no such file'),
    (['--config'], '--config needs the path of a file'),
    (['--config', '--config.steps=2'], '--config needs the path of a file'),
    ([f'--config={CONFIG}:8'], r'tiny_config.py:8: get_config\(\) takes 0 positional arguments but 1 was given'),
    ([f'--config={ROOT / "eval.py"}'], r'eval.py: a config file defines get_config\(\)'),
    (['--config.evaluation.finetune.cutmx=1'], "no such config key: 'cutmx'; did you mean \"cutmix\""),
    (['--config.evaluation.finetune.layer_decay=.5', '--config.evaluation.protocols=("finetune",)'],
     "config.evaluation.finetune.layer_decay must be None without optimizer='adamw', got 0.5"),
])
def test_bad_input_gets_one_line(tmp_path, arguments, message):
  process = command('--config', CONFIG, '--workdir', tmp_path / 'run', *arguments)
  out = process.communicate()[0]
  assert process.returncode == 1
  assert 'Traceback' not in out
  assert re.search(message, out, re.DOTALL | re.IGNORECASE), out
  assert not (tmp_path / 'run').exists(), 'nothing is written for a run that cannot start'


def test_what_the_checkpoint_was_trained_on_cannot_change(finished, tmp_path):
  copy = tmp_path / 'copy'
  shutil.copytree(finished, copy)
  (copy / 'config.json').unlink()
  with pytest.raises(ValueError, match=r'(?s)another config.*method.temperature = 0.5'):
    train(config(**{'method.temperature': 0.5}), str(copy))
  assert not (copy / 'config.json').exists()
  rng = np.random.default_rng(0)
  path = str(tmp_path / 'data.npz')
  settings = {'data.source': 'npz', 'data.path': path, 'data.recipe.size': 8, 'steps': 2, 'evaluation.knn.k': 1}
  labels = np.arange(60) % 2
  np.savez(path, images=rng.integers(0, 256, (60, 8, 8, 1), np.uint8), labels=labels)
  train(config(**settings), str(tmp_path / 'run'))
  np.savez(path, images=rng.integers(0, 256, (50, 8, 8, 1), np.uint8), labels=labels[:50])
  with pytest.raises(ValueError, match='examples were 48 and are now 40'):
    train(config(**settings), str(tmp_path / 'run'))
  np.savez(path, images=rng.integers(0, 256, (60, 8, 8, 1), np.uint8), labels=labels)
  with pytest.raises(ValueError, match='there are as many examples, but not the same. Bring them back'):
    train(config(**settings), str(tmp_path / 'run'))


def test_one_work_directory_takes_one_trainer(tmp_path):
  with workdir.locked(str(tmp_path)), pytest.raises(ValueError, match='another process is training there'):
    train(config(), str(tmp_path))


def test_two_signals_stop_at_once(tmp_path):
  process = command(
      '--config', CONFIG, '--workdir', tmp_path, '--config.steps=1000000', '--config.checkpoint.every=1000000')
  wait_for(lambda: len(logging.read(tmp_path)) > 2, process)
  process.send_signal(signal.SIGINT)
  out = ''
  while 'once more stops at once' not in out:
    out += process.stdout.readline()
  process.send_signal(signal.SIGINT)
  out += process.communicate()[0]
  assert process.returncode in (0, 130) and 'Fatal' not in out and 'Traceback' not in out, out


def test_help_lists_flags_and_keys(tmp_path):
  out = command('--config', CONFIG, '--help').communicate()[0]
  for text in ('--workdir: ', '--preview: ', '--config.method.temperature=0.2', "--config.data.source='bundled'"):
    assert text in out
  assert 'Traceback' not in out


def test_preview_needs_no_full_batch(tmp_path, capsys):
  path = str(tmp_path / 'few.npz')
  np.savez(path, images=np.random.default_rng(0).integers(0, 256, (6, 12, 12, 3), np.uint8))
  train(config(**{'data.source': 'npz', 'data.path': path}), str(tmp_path / 'run'), preview=True)
  assert capsys.readouterr().out.strip() == str(tmp_path / 'run' / 'preview.png')
  assert [file.name for file in (tmp_path / 'run').iterdir()] == ['preview.png']
  with pytest.raises(ValueError, match='set --config.batch_size=5 or less'):
    train(config(**{'data.source': 'npz', 'data.path': path}), str(tmp_path / 'run'))
