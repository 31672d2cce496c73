"""Disks that are full or read-only, files that are damaged, data that vanish: one clear line, and nothing is lost."""

import contextlib
import hashlib
import json
import os
import resource
import shutil
import signal
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

sys.path.insert(0, os.path.dirname(__file__))
from processes import command, digest, finish, logged, rows_of, saved, wait_for

pytestmark = pytest.mark.slow


@pytest.fixture(scope='module')
def whole(tmp_path_factory):
  """A run that was never disturbed, and its checksum."""
  path = tmp_path_factory.mktemp('whole')
  return path, digest(finish(command('--workdir', path)))


@pytest.fixture
def copy(whole, tmp_path):
  path = tmp_path / 'run'
  shutil.copytree(whole[0], path)
  return path


def contents(path):
  """Returns the SHA-256 of every file under a directory, by its path."""
  return {str(file.relative_to(path)): hashlib.sha256(file.read_bytes()).hexdigest()
          for file in path.rglob('*') if file.is_file()}


def line_with(out, text):
  (line,) = [line for line in out.splitlines() if text in line]
  return line


# Damaged checkpoints.


def truncate(step):
  file = max((file for file in step.rglob('*') if file.is_file()), key=lambda file: file.stat().st_size)
  file.write_bytes(file.read_bytes()[:file.stat().st_size // 2])


def flip_a_bit(step):
  file = max((file for file in step.rglob('*') if file.is_file()), key=lambda file: file.stat().st_size)
  damaged = bytearray(file.read_bytes())
  damaged[len(damaged) // 2] ^= 1
  file.write_bytes(damaged)


def lose_a_file(step):
  (step / 'meta' / 'metadata').unlink()


def flip_a_bit_of_the_meta(step):
  file = step / 'meta' / 'metadata'
  file.write_text(file.read_text().replace('"seed": 1', '"seed": 3'))


def empty_the_state(step):
  shutil.rmtree(step / 'state')
  (step / 'state').mkdir()


def empty(step):
  shutil.rmtree(step)
  step.mkdir()


@pytest.mark.parametrize('damage', [
    truncate, flip_a_bit, lose_a_file, flip_a_bit_of_the_meta, empty_the_state, empty])
def test_a_damaged_checkpoint_is_set_aside_and_made_again(copy, whole, damage):
  latest = copy / 'checkpoints' / '12'
  damage(latest)
  before = contents(latest)
  out = finish(command('--workdir', copy))
  line = line_with(out, 'is damaged')
  assert f'{latest} is damaged: ' in line
  assert line.endswith(f'; set aside as {latest}.damaged, and step 8 is used instead')
  assert 'Resuming from step 8.' in out and digest(out) == whole[1]
  assert contents(copy / 'checkpoints' / '12.damaged') == before and saved(copy) == [8, 12]


def test_eval_uses_the_checkpoint_before_and_changes_nothing(copy):
  truncate(copy / 'checkpoints' / '12')
  before = contents(copy / 'checkpoints')
  out = finish(command('--workdir', copy, script='eval.py'))
  assert line_with(out, 'is damaged').endswith('; step 8 is used instead') and 'Evaluating step 8' in out
  out = finish(command('--workdir', copy, '--step=12', script='eval.py'), 1)
  assert line_with(out, 'is damaged').startswith(f'error: {copy}/checkpoints/12 is damaged: ')
  assert contents(copy / 'checkpoints') == before


def test_where_all_are_damaged_nothing_is_changed(copy):
  for step in (8, 12):
    truncate(copy / 'checkpoints' / str(step))
  before = contents(copy / 'checkpoints')
  for script in ('train.py', 'train.py', 'eval.py'):
    line = line_with(finish(command('--workdir', copy, script=script), 1), 'error: ')
    assert f'no checkpoint in {copy}/checkpoints is whole, and nothing was changed there; to start over, move' in line
    assert contents(copy / 'checkpoints') == before


def test_other_files_that_are_damaged_are_set_aside(copy, whole):
  names = ('config.json', 'environment.json', 'results.json', 'metrics.jsonl')
  kept = {name: json.loads((copy / name).read_text()) for name in names[:3]}
  for name in names[:3]:
    (copy / name).write_text((copy / name).read_text()[:-20])
  assert 'is damaged' in (out := finish(command('--workdir', copy, script='eval.py'), 1))
  assert 'the train command of this run writes it anew' in line_with(out, 'config.json')
  shutil.rmtree(copy / 'checkpoints' / '12')  # So that it trains, too.
  rows = (copy / 'metrics.jsonl').read_text().splitlines()
  (copy / 'metrics.jsonl').write_text('\n'.join([rows[0], rows[1][:10], *rows[2:], '']))
  out = finish(command('--workdir', copy))
  for name in names:
    assert 'is damaged' in line_with(out, name), out
  assert digest(out) == whole[1]
  assert json.loads((copy / 'config.json').read_text()) == kept['config.json']
  assert [row['value'] for row in rows_of(copy)] == [
      row['value'] for row in kept['results.json']['rows']]
  assert len(json.loads((copy / 'environment.json').read_text())) == 1
  assert logged(copy) == [1, 4, 6, 8, 10, 12]
  assert all((copy / f'{name}.damaged').exists() for name in names)


# Disks.


def limit_files(process, size):
  """No file of a process grows beyond `size` bytes any more: what a full disk is, but for the words."""
  resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (size, size))


def test_a_checkpoint_that_cannot_be_written(tmp_path, whole):
  process = command('--workdir', tmp_path, '--config.steps=1000000')
  wait_for(lambda: len(saved(tmp_path)) > 1, process)
  limit_files(process, 1500)
  out = finish(process, 1)
  (*_, step) = saved(tmp_path)
  line = line_with(out, 'error: ')
  assert ': File too large' in line
  if 'a checkpoint' in line:
    assert line.startswith(f'error: {tmp_path}/checkpoints: a checkpoint could not be saved: '), line
    assert line.endswith(f'; the last good checkpoint is {step}'), line


@contextlib.contextmanager
def mounted(*arguments):
  """Mounts, where that is allowed."""
  if subprocess.run(['mount', *arguments], capture_output=True).returncode:
    pytest.skip('mounting is not allowed here')
  try:
    yield
  finally:
    subprocess.run(['umount', arguments[-1]], check=True)


@pytest.mark.parametrize('room', [0, 20_000])
def test_a_full_disk_and_the_same_command_once_there_is_room(tmp_path, room):
  steps = '--config.steps=300', '--config.checkpoint.every=20'
  undisturbed = digest(finish(command('--workdir', tmp_path / 'whole', *steps)))
  disk = tmp_path / 'disk'
  disk.mkdir()
  with mounted('-t', 'tmpfs', '-o', 'size=16m', 'tmpfs', str(disk)):
    path = disk / 'run'
    process = command('--workdir', path, *steps)
    wait_for(lambda: len(saved(path)) > 1, process)
    process.send_signal(signal.SIGSTOP)
    free = os.statvfs(disk)
    (disk / 'ballast').write_bytes(bytes(max(0, free.f_bavail * free.f_bsize - room)))
    process.send_signal(signal.SIGCONT)
    line = line_with(finish(process, 1), 'error: ')
    print(line)
    assert str(path) in line and 'No space left on device' in line
    before = saved(path)
    assert before and before[-1] < 300
    line = line_with(finish(command('--workdir', path, *steps), 1), 'error: ')  # It is still full.
    print(line)
    assert str(path) in line and 'No space left on device' in line and saved(path)[-1] >= before[-1]
    (disk / 'ballast').unlink()
    out = finish(command('--workdir', path, *steps))
    assert digest(out) == undisturbed
    assert not [file for file in path.rglob('*') if 'tmp' in file.name]
    assert logged(path) == sorted(set(logged(path)))


def test_a_read_only_work_directory(copy):
  with mounted('--bind', str(copy), str(copy)):
    subprocess.run(['mount', '-o', 'remount,ro,bind', str(copy)], check=True)
    line = line_with(finish(command('--workdir', copy), 1), 'error: ')
    assert str(copy) in line and 'Read-only file system' in line
    line = line_with(finish(command('--workdir', copy, script='eval.py'), 1), 'error: ')
    assert f'{copy}/results.json cannot be written: Read-only file system' in line


def test_results_that_cannot_be_written_are_printed(copy):
  (copy / 'results.json').unlink()
  (copy / 'results.json').mkdir()
  out = finish(command('--workdir', copy, script='eval.py'), 1)
  assert f'error: {copy}/results.json cannot be written: Is a directory' in out and 'trained encoder' in out


def test_pictures_that_cannot_be_drawn_lose_no_results(copy, whole):
  (copy / 'results.json').unlink()
  (copy / 'pictures').write_text('in the way')
  out = finish(command('--workdir', copy, '--config.evaluation.pictures=True'))
  assert f'{copy}/pictures or the report cannot be written: File exists' in line_with(out, 'cannot be')
  assert digest(out) == whole[1] and (copy / 'results.json').exists() and 'trained encoder' in out


def test_metrics_that_cannot_be_written(copy):
  shutil.rmtree(copy / 'checkpoints' / '12')
  (copy / 'metrics.csv').unlink()
  (copy / 'metrics.csv').mkdir()
  out = finish(command('--workdir', copy), 1)
  assert f'error: {copy}/metrics.csv cannot be written: Is a directory' in out
  assert saved(copy) == [8]


# Data.


def images(folder):
  rng = np.random.default_rng(0)
  folder.mkdir()
  for i in range(60):
    Image.fromarray(rng.integers(0, 256, (20, 20), np.uint8)).save(folder / f'{i}.png')


def from_folder(folder, engine):
  return ('--config.data.source=folder', f'--config.data.path={folder}', f'--config.data.engine={engine}',
          '--config.steps=300', '--config.checkpoint.every=1000', "--config.evaluation.protocols=('knn',)")


@pytest.mark.parametrize('engine', ['device', 'host'])
def test_images_that_vanish_while_they_are_read(tmp_path, engine):
  folder = tmp_path / 'images'
  images(folder)
  options = from_folder(folder, engine)
  undisturbed = digest(finish(command('--workdir', tmp_path / 'whole', *options, fault='small_memory')))
  path = tmp_path / 'run'
  process = command('--workdir', path, *options, fault='small_memory')
  wait_for(lambda: max(logged(path), default=0) > 20, process)
  folder.rename(tmp_path / 'elsewhere')
  line = line_with(finish(process, 1), 'error: ')
  print(line)
  (step,) = saved(path)
  assert f'{folder}/' in line and '.png' in line and 'No such file' in line
  assert line.endswith(f'; step {step} is saved, and the same command goes on from there') and step >= 20
  line = line_with(finish(command('--workdir', path, *options, fault='small_memory'), 1), 'error: ')
  assert f"config.data.path='{folder}': there is no such folder" in line
  (tmp_path / 'elsewhere').rename(folder)
  out = finish(command('--workdir', path, *options, fault='small_memory'))
  assert f'Resuming from step {step}.' in out and digest(out) == undisturbed


def test_other_data_of_the_same_size_are_refused(tmp_path):
  rng, file = np.random.default_rng(0), tmp_path / 'data.npz'
  first, second = (rng.integers(0, 256, (60, 20, 20, 1), np.uint8) for _ in range(2))
  options = ('--config.data.source=npz', f'--config.data.path={file}', '--config.steps=2000')
  np.savez(file, images=first)
  undisturbed = digest(finish(command('--workdir', tmp_path / 'whole', *options)))
  path = tmp_path / 'run'
  process = command('--workdir', path, *options)
  wait_for(lambda: saved(path), process)
  np.savez(file, images=second)  # It is in memory, so that the run goes on.
  wait_for(lambda: max(saved(path)) > 20, process)
  process.send_signal(signal.SIGTERM)
  assert 'goes on from there' in finish(process)
  line = line_with(finish(command('--workdir', path, *options), 1), 'error: ')
  assert 'the data are not those that the run began with: there are as many examples, but not the same' in line
  np.savez(file, images=first)
  assert digest(finish(command('--workdir', path, *options))) == undisturbed


def test_records_that_can_no_longer_be_read(tmp_path):
  tfds = pytest.importorskip('tensorflow_datasets')
  tf = pytest.importorskip('tensorflow')
  rng = np.random.default_rng(0)
  examples = [{'image': image} for image in rng.integers(0, 256, (400, 20, 20, 3), np.uint8)]
  dataset = tf.data.Dataset.from_generator(
      lambda: examples, output_signature={'image': tf.TensorSpec((20, 20, 3), tf.uint8)})
  features = tfds.features.FeaturesDict({'image': tfds.features.Image(shape=(20, 20, 3), encoding_format='png')})
  tfds.dataset_builders.TfDataBuilder(
      name='records', version='1.0.0', data_dir=str(tmp_path / 'tfds'), file_format='array_record',
      split_datasets={'train': dataset}, features=features).download_and_prepare()
  options = ('--config.data.source=tfds', '--config.data.name=records', f'--config.data.path={tmp_path / "tfds"}',
             '--config.steps=400', '--config.checkpoint.every=1000')
  undisturbed = digest(finish(command('--workdir', tmp_path / 'whole', *options, fault='small_memory')))
  path = tmp_path / 'run'
  process = command('--workdir', path, *options, fault='small_memory')
  wait_for(lambda: max(logged(path), default=0) > 20, process)
  (file,) = (tmp_path / 'tfds').rglob('*.array_record*')
  sound = file.read_bytes()
  with open(file, 'r+b') as opened:  # In place: the process has it open.
    opened.write(bytes(len(sound)))
  line = line_with(finish(process, 1), 'error: ')
  print(line)
  assert 'the data can no longer be read' in line and line.endswith('and the same command goes on from there')
  file.write_bytes(sound)
  assert digest(finish(command('--workdir', path, *options, fault='small_memory'))) == undisturbed
