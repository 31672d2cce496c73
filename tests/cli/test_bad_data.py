"""Runs on bad data, from the command line: to their end without what is broken, or refused before the first step."""

import os
import pathlib
import shutil
import subprocess
import sys

import numpy as np
import pytest

sys.path.insert(0, os.path.dirname(__file__))
sys.path.insert(0, os.path.join(os.path.dirname(os.path.dirname(__file__)), 'data'))
import bad_files
from tiny_config import get_config

from jaxssl.cli.train import train

CONFIG = pathlib.Path(__file__).with_name('tiny_config.py')
ROOT = CONFIG.parents[2]


def config(**overrides):
  made = get_config()
  made.steps, made.batch_size, made.mesh.data, made.evaluation.knn.k = 2, 8, 8, 2
  with made.unlocked():
    made.update_from_flattened_dict(overrides)
  return made


def command(*arguments, **environment):
  """The last lines and the exit status of train.py as its user meets it."""
  path = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get('PYTHONPATH')])])
  environment = {**os.environ, 'XLA_FLAGS': os.environ['QUICK_XLA_FLAGS'], 'JAX_PLATFORMS': 'cpu', 'PYTHONPATH': path,
                 **environment}
  done = subprocess.run(
      [sys.executable, str(ROOT / 'train.py'), '--config', str(CONFIG), *map(str, arguments)], env=environment,
      capture_output=True, timeout=900)
  return done.stdout.decode() + done.stderr.decode(), done.returncode


@pytest.fixture(scope='module')
def images(tmp_path_factory):
  """Two classes with what is odd and what is broken in them, and 30 ordinary images."""
  root = tmp_path_factory.mktemp('images')
  for name in ('<script>', 'b\nb'):
    (root / name).mkdir()
    for i in range(15):
      (root / name / f'good{i}.png').write_bytes(bad_files.encode(bad_files.picture(i), 'PNG'))
    for file, content in (bad_files.fine_images() | bad_files.broken_images()).items():
      (root / name / file).write_bytes(content)
  bad_files.broken_places(root / 'b\nb', '.png')
  return root


@pytest.mark.slow
@pytest.mark.parametrize('engine', ['device', 'host', 'split'])
def test_a_run_on_a_folder_of_odd_and_broken_images_goes_to_its_end(images, tmp_path, engine, capsys, caplog):
  if engine != 'device':
    pytest.importorskip('tensorflow')
  recipe = {'name': 'simclr', 'size': 16}
  made = config(**{'data.source': 'folder', 'data.path': str(images), 'data.engine': engine})
  with made.unlocked():
    made.data.recipe = recipe
  made.evaluation.pictures = engine == 'device'
  train(made, str(tmp_path / 'run'))
  assert 'trained encoder' in capsys.readouterr().out
  assert 'left out:' in caplog.text and r'b\nb/truncated.jpg: ' in caplog.text


def test_the_command_reports_broken_images_and_ends_well(images, tmp_path):
  out, code = command(
      '--workdir', tmp_path / 'run', '--config.steps=2', '--config.batch_size=8', '--config.evaluation.knn.k=2',
      '--config.data.source=folder', f'--config.data.path={images}')
  assert code == 0 and 'Traceback' not in out and 'Error' not in out, out
  for line in (r'  b\nb/truncated.jpg: ', r'  b\nb/pipe.png: is no regular file', '  <script>/empty.png: is no image'):
    assert line in out
  assert (tmp_path / 'run' / 'results.json').exists()


def archives():
  """Name -> (the bytes of an .npz file, a word of the error)."""
  good = np.zeros((40, 8, 8, 1), np.uint8)
  whole = bad_files.npz(images=good)
  return {
      'truncated': (whole[:-100], 'is not an .npz file'),
      'pickled': (bad_files.npz(images=np.array([good, None], object)), 'pickled objects are refused'),
      'bomb': (bad_files.archive([('images.npy', bad_files.npy((10**12, 8, 8)))]), 'it says that its shape is'),
      'NaN': (bad_files.npz(images=np.full((40, 8, 8, 1), np.nan)), r'float images are in \[0, 1\]'),
      'few': (bad_files.npz(images=good[:9]), 'set --config.batch_size=7 or less'),
      'one of each class': (bad_files.npz(images=good, labels=np.arange(40)), "none is left for the split 'test'"),
  }


@pytest.mark.parametrize('name', archives())
def test_a_bad_archive_is_refused_before_the_run(tmp_path, name):
  content, message = archives()[name]
  (tmp_path / 'set.npz').write_bytes(content)
  made = config(**{'data.source': 'npz', 'data.path': str(tmp_path / 'set.npz')})
  with pytest.raises(ValueError, match=message) as error:
    train(made, str(tmp_path / 'run'))
  assert '\n' not in str(error.value) and not (tmp_path / 'run').exists()


def test_the_command_refuses_a_bad_archive_in_one_line(tmp_path):
  content, message = archives()['pickled']
  (tmp_path / 'set.npz').write_bytes(content)
  out, code = command('--workdir', tmp_path / 'run', '--config.data.source=npz',
                      f'--config.data.path={tmp_path / "set.npz"}')
  assert code == 1 and message in out and len(out.strip().splitlines()) == 1, out
  assert out.startswith(f"error: config.data.path='{tmp_path}/set.npz': 'images' cannot be read: ")


@pytest.mark.slow
def test_a_run_on_a_folder_of_odd_and_broken_recordings_goes_to_its_end(tmp_path, capsys, caplog):
  pytest.importorskip('soundfile')
  pytest.importorskip('soxr')
  from jaxssl.cli.workdir import load_config

  for name in ('yes', 'no'):
    (tmp_path / 'set' / name).mkdir(parents=True)
    for i in range(10):
      (tmp_path / 'set' / name / f'good{i}.wav').write_bytes(bad_files.sound(bad_files.sine(4000, 300 + 40 * i)))
    for file, content in (bad_files.fine_sounds() | bad_files.broken_sounds()).items():
      (tmp_path / 'set' / name / file).write_bytes(content)
  made = load_config(str(ROOT / 'configs' / 'cpc_folder_audio.py'))
  made.update_from_flattened_dict({
      'data.path': str(tmp_path / 'set'), 'steps': 1, 'batch_size': 8, 'data.recipe.rate': 8000,
      'evaluation.knn.k': 2, 'evaluation.protocols': ('knn',), 'evaluation.pictures': False,
      'evaluation.batch_size': 16})
  train(made, str(tmp_path / 'run'))
  assert 'MFCC' in capsys.readouterr().out and 'left out:' in caplog.text and 'lying.flac: takes' in caplog.text


@pytest.mark.slow
def test_a_damaged_data_set_is_refused_before_the_run(tmp_path):
  pytest.importorskip('tensorflow_datasets')
  home = pathlib.Path(os.environ.get('TFDS_DATA_DIR', os.path.expanduser('~/tensorflow_datasets')), 'fashion_mnist')
  if not home.is_dir():
    pytest.skip('fashion_mnist is not prepared')
  shutil.copytree(home, tmp_path / 'fashion_mnist')
  (file,) = (tmp_path / 'fashion_mnist').glob('*/*-test.*')
  content = bytearray(file.read_bytes())
  content[len(content) // 2] ^= 1
  file.write_bytes(content)
  made = config(**{'data.source': 'tfds', 'data.name': 'fashion_mnist', 'data.path': str(tmp_path)})
  message = "config.data.name='fashion_mnist/.*': the split 'test' in .* cannot be read; .*corrupted record"
  with pytest.raises(ValueError, match=message):
    train(made, str(tmp_path / 'run'))
  assert not (tmp_path / 'run').exists()


@pytest.mark.slow
def test_a_data_set_that_is_not_there_and_no_network(tmp_path):
  """A proxy where nobody answers stands for it; TFDS tries again for minutes."""
  pytest.importorskip('tensorflow_datasets')
  proxy = {f'{kind}_proxy': 'http://127.0.0.1:9' for kind in ('http', 'https', 'HTTP', 'HTTPS')}
  out, code = command('--workdir', tmp_path / 'run', '--config.data.source=tfds', '--config.data.name=mnist',
                      f'--config.data.path={tmp_path}', **proxy)
  (line,) = [line for line in out.splitlines() if line.startswith('error: ')]
  assert code == 1 and 'Traceback' not in out, out
  assert "config.data.name='mnist' is not prepared in " in line and 'could not be downloaded' in line
