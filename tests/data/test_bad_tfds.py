"""TFDS data sets that are damaged, incomplete, empty or not there: refused, in one line that names them."""

import json
import os
import pathlib
import shutil
import sys

import numpy as np
import pytest

sys.path.insert(0, os.path.dirname(__file__))
import bad_files

from jaxssl import data
from jaxssl.data import encoded, tfds_source

tfds = pytest.importorskip('tensorflow_datasets')
tf = pytest.importorskip('tensorflow')
RATE = bad_files.RATE
FORMATS = ('tfrecord', 'array_record')


def load(kind, name, root, split='train', size=8):
  if kind == 'audio':
    return data.load_audio('tfds', name, str(root), split, RATE)
  return data.load('tfds', name, str(root), split, size=size)


@pytest.fixture(scope='module')
def prepared(tmp_path_factory):
  """A directory of small TFDS data sets: images and audio, in both formats, in several files each."""
  root = tmp_path_factory.mktemp('tfds')

  def prepare(name, file_format, examples, signature, features):
    datasets = {split: tf.data.Dataset.from_generator(lambda n=n: iter(examples[:n]), output_signature=signature)
                for split, n in (('train', len(examples)), ('test', 4))}
    tfds.dataset_builders.TfDataBuilder(
      name=name, version='1.0.0', data_dir=str(root), file_format=file_format, split_datasets=datasets,
      features=tfds.features.FeaturesDict(features)).download_and_prepare()

  label = tfds.features.ClassLabel(names=['x', 'y'])
  for file_format in FORMATS:
    prepare(f'images_{file_format}', file_format,
            [{'image': np.asarray(bad_files.picture(i)), 'label': i % 2} for i in range(20)],
            {'image': tf.TensorSpec((None, None, 3), tf.uint8), 'label': tf.TensorSpec((), tf.int64)},
            {'image': tfds.features.Image(shape=(None, None, 3), encoding_format='png'), 'label': label})
    prepare(f'audio_{file_format}', file_format,
            [{'audio': np.arange(4000) + i, 'label': i % 2} for i in range(20)],
            {'audio': tf.TensorSpec((None,), tf.int64), 'label': tf.TensorSpec((), tf.int64)},
            {'audio': tfds.features.Audio(shape=(None,), dtype=np.int64, sample_rate=RATE), 'label': label})
  return root


def copied(prepared, tmp_path, name):
  """A copy of a data set: the directory of data sets, and that of its files."""
  shutil.copytree(prepared / name, tmp_path / name)
  return tmp_path, tmp_path / name / '1.0.0'


def flip(file, share):
  content = bytearray(file.read_bytes())
  content[int(share * len(content))] ^= 1
  file.write_bytes(bytes(content))


CASES = [(kind, file_format) for kind in ('images', 'audio') for file_format in FORMATS]


@pytest.mark.parametrize('kind, file_format', CASES)
def test_the_sets_are_read_when_nothing_is_done_to_them(prepared, kind, file_format):
  assert len(load(kind, f'{kind}_{file_format}', prepared)) == 20


@pytest.mark.parametrize('share', [0.5, *(pytest.param(share, marks=pytest.mark.slow) for share in (0.001, 0.7))])
@pytest.mark.parametrize('kind, file_format', CASES)
def test_a_wrong_bit_in_a_file_of_records(prepared, tmp_path, kind, file_format, share):
  name = f'{kind}_{file_format}'
  root, files = copied(prepared, tmp_path, name)
  (file,) = files.glob('*-train.*')
  flip(file, share)
  try:
    found = load(kind, name, root)
  except ValueError as error:
    assert str(error).startswith(f"name='{name}/1.0.0': the split 'train' in {files} cannot be read; prepare it again")
    assert '\n' not in str(error) and '{{' not in str(error)
  else:
    assert file_format == 'array_record' and share == 0.7, 'there it has filling between the records and their index'
    whole = load(kind, name, prepared)
    for i in range(20):
      np.testing.assert_array_equal(*(
        each.inputs.wave(i) if kind == 'audio' else each.inputs[i] for each in (found, whole)))


@pytest.mark.parametrize('damage', ['truncated', *(
  pytest.param(damage, marks=pytest.mark.slow) for damage in ('missing', 'empty'))])
@pytest.mark.parametrize('kind, file_format', CASES)
def test_a_file_of_records_is_not_whole(prepared, tmp_path, kind, file_format, damage):
  name = f'{kind}_{file_format}'
  root, files = copied(prepared, tmp_path, name)
  (file,) = files.glob('*-train.*')
  if damage == 'missing':
    file.unlink()
  else:
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2] if damage == 'truncated' else b'')
  with pytest.raises(ValueError, match=f"name='{name}/1.0.0': the split 'train' in .* cannot be read; prepare it"):
    load(kind, name, root)


@pytest.mark.parametrize('file_format', FORMATS)
def test_an_image_in_a_whole_record_is_damaged(prepared, tmp_path, file_format, monkeypatch):
  """Which TFDS does not notice, as it copies files as they are: found at the start, where images are resized."""
  def decode(*arguments):
    raise OSError('image file is truncated')

  monkeypatch.setattr(encoded, 'decode', decode)
  message = "the split 'train' in .* cannot be read; .*OSError: image 0 cannot be decoded: image file is truncated"
  with pytest.raises(ValueError, match=message):
    load('images', f'images_{file_format}', prepared)


@pytest.mark.parametrize('kind, file_format', CASES)
def test_a_split_is_empty(prepared, tmp_path, kind, file_format):
  name = f'{kind}_{file_format}'
  root, files = copied(prepared, tmp_path, name)
  info = json.loads((files / 'dataset_info.json').read_text())
  for split in info['splits']:
    split['shardLengths'] = ['0'] if split['name'] == 'test' else split['shardLengths']
  (files / 'dataset_info.json').write_text(json.dumps(info))
  with pytest.raises(ValueError, match=f"name='{name}/1.0.0': the split 'test' in .* is empty"):
    load(kind, name, root, 'test')


@pytest.mark.parametrize('file', ['dataset_info.json', 'features.json'])
@pytest.mark.parametrize('content', ['', '{', '[]', '{"splits": 3}', '{"pythonClassName": "os.system"}'])
def test_what_describes_the_set_is_damaged(prepared, tmp_path, file, content):
  root, files = copied(prepared, tmp_path, 'images_tfrecord')
  (files / file).write_text(content)
  with pytest.raises((ValueError, FileNotFoundError), match="name='images_tfrecord.*' ") as error:
    load('images', 'images_tfrecord', root)
  assert '\n' not in str(error.value)


@pytest.mark.parametrize('name', [
  'huggingface:mnist', 'kaggle:mnist', 'someone:mnist', '../mnist', '/mnist', 'mnist/data_dir=x', 'mnist:latest',
  'm nist', 'mnist\n', '<script>', ' ',
])
def test_a_name_that_is_none_is_not_looked_up(tmp_path, name, monkeypatch):
  """For some of these TFDS would fetch code and run it."""
  monkeypatch.setattr(tfds, 'builder', None)
  with pytest.raises(ValueError, match="is not the name of a TFDS data set, such as 'cifar10' or 'cifar10:3.0.2'"):
    load('images', name, tmp_path)


def test_names_with_a_version_and_a_config_are_names():
  for name in ('mnist', 'cifar10:3.0.2', 'cifar10:3.*.*', 'imagenet2012_subset/1pct:5.0.0', 'cifar10_1/v4'):
    assert tfds_source.NAME.fullmatch(name)


def test_a_version_that_is_not_there(prepared):
  with pytest.raises(ValueError, match="name='cifar10:9.9.9' cannot be opened: AssertionError"):
    load('images', 'cifar10:9.9.9', prepared)


@pytest.mark.slow
@pytest.mark.parametrize('kind, name', [('images', 'fashion_mnist'), ('audio', 'spoken_digit')])
def test_a_real_set_with_a_wrong_bit(tmp_path, kind, name):
  home = pathlib.Path(os.environ.get('TFDS_DATA_DIR', os.path.expanduser('~/tensorflow_datasets')), name)
  if not home.is_dir():
    pytest.skip(f'{name} is not prepared')
  shutil.copytree(home, tmp_path / name)
  (file,) = (tmp_path / name).glob('*/*-train.*')
  flip(file, 0.5)
  with pytest.raises(ValueError, match=f"name='{name}/.*': the split 'train' in .* cannot be read; .*corrupted record"):
    load(kind, name, tmp_path)
