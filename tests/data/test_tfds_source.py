"""Image data sets of TensorFlow Datasets: splits, sizes, what is read from disk, and what is wrong."""

import collections
import os
import sys

import numpy as np
import pytest

sys.path.insert(0, os.path.dirname(__file__))
from bad_files import picture

from jaxssl import data
from jaxssl.data import encoded


@pytest.fixture(scope='module')
def prepared(tmp_path_factory):
  """Small TFDS data sets in a directory: {name: (images, labels) by split}."""
  tfds = pytest.importorskip('tensorflow_datasets')
  tf = pytest.importorskip('tensorflow')
  root, made = tmp_path_factory.mktemp('tfds'), {}

  def prepare(name, splits, shape, file_format='tfrecord'):
    made[name] = {}
    datasets = {}
    for i, (split, labels) in enumerate(splits.items()):
      pixels = [np.asarray(picture(100 * i + j, height=shape[0] or 20 + j, width=24)) for j in range(len(labels))]
      made[name][split] = pixels, labels
      examples = [{'image': image, 'label': label} for image, label in zip(pixels, labels, strict=True)]
      signature = {'image': tf.TensorSpec(shape, tf.uint8), 'label': tf.TensorSpec((), tf.int64)}
      datasets[split] = tf.data.Dataset.from_generator(lambda examples=examples: examples, output_signature=signature)
    features = tfds.features.FeaturesDict({
      'label': tfds.features.ClassLabel(names=['x', 'y']),
      'image': tfds.features.Image(shape=shape, encoding_format='png'),
    })
    options = {'name': name, 'version': '1.0.0', 'data_dir': str(root), 'file_format': file_format}
    tfds.dataset_builders.TfDataBuilder(split_datasets=datasets, features=features, **options).download_and_prepare()

  half = [0, 1] * 5
  prepare('fixed', {'train': half, 'test': [0, 1, 1]}, (20, 24, 3))
  prepare('varied', {'train': half, 'validation': [1, 0], 'test': [-1, -1, -1]}, (None, 24, 3))
  prepare('records', {'train': half, 'unlabelled': [-1] * 4, 'test': [1, 0]}, (None, 24, 3), 'array_record')
  prepare('alone', {'train': half}, (20, 24, 3))
  return str(root), made


def as_bytes(pixels):
  return collections.Counter(np.asarray(image).tobytes() for image in pixels)


def test_tfds_images_of_one_size(prepared):
  root, made = prepared
  train, test = (data.load('tfds', 'fixed', root, split) for split in ('train', 'test'))
  assert train.inputs.shape == (10, 20, 24, 3) and train.inputs.dtype == np.uint8 and train.class_names == ('x', 'y')
  known = {image.tobytes(): label for image, label in zip(*made['fixed']['train'], strict=True)}
  assert [known[image.tobytes()] for image in train.inputs] == train.labels.tolist()
  assert as_bytes(test.inputs) == as_bytes(made['fixed']['test'][0])
  np.testing.assert_array_equal(train.inputs, data.load('tfds', 'fixed', root, 'pretrain').inputs)


def test_tfds_images_of_many_sizes(prepared):
  root, made = prepared
  lazy, fixed = (data.load('tfds', 'varied', root, 'train', size=size) for size in (None, 8))
  assert fixed.inputs.shape == (10, 8, 8, 3)
  assert as_bytes(lazy.inputs.original(i) for i in range(10)) == as_bytes(made['varied']['train'][0])
  for i in range(10):
    np.testing.assert_array_equal(fixed.inputs[i], encoded.decode(lazy.inputs.content(i), 3, 8))


def test_tfds_test_split_falls_back_to_validation(prepared):
  root, made = prepared
  source = data.load('tfds', 'varied', root, 'test')
  assert as_bytes(source.inputs.original(i) for i in range(2)) == as_bytes(made['varied']['validation'][0])
  assert sorted(source.labels) == [0, 1]


def test_tfds_without_a_test_split_holds_out_a_fifth(prepared):
  root, made = prepared
  pretrain, train, test = (data.load('tfds', 'alone', root, split) for split in data.SPLITS)
  assert (len(pretrain), len(train)) == (8, 8) and sorted(test.labels) == [0, 1]
  assert as_bytes([*train.inputs, *test.inputs]) == as_bytes(made['alone']['train'][0])


def test_tfds_unlabelled_images_are_for_pretraining(prepared):
  root, made = prepared
  pretrain, train = (data.load('tfds', 'records', root, split) for split in ('pretrain', 'train'))
  assert pretrain.labels is None and len(pretrain) == 14 and len(train) == 10
  both = made['records']['train'][0] + made['records']['unlabelled'][0]
  assert as_bytes(pretrain.inputs.original(i) for i in range(14)) == as_bytes(both)


def test_tfds_beyond_the_memory_streams_records(prepared, monkeypatch):
  root, made = prepared
  held = data.load('tfds', 'records', root, 'train', size=8)
  monkeypatch.setattr(encoded, 'MEMORY', 100)
  source = data.load('tfds', 'records', root, 'train', size=8)
  assert isinstance(source.inputs, encoded.EncodedImages)
  np.testing.assert_array_equal(source.inputs[:], held.inputs)
  np.testing.assert_array_equal(source.labels, held.labels)
  with pytest.raises(ValueError, match=r"varied.*array_record"):
    data.load('tfds', 'varied', root, 'train')


def test_tfds_wrong_name():
  pytest.importorskip('tensorflow_datasets')
  with pytest.raises(ValueError, match="name='cifar01' is unknown; did you mean 'cifar10'"):
    data.load('tfds', 'cifar01', None, 'train')


def test_tfds_not_prepared_and_no_network(tmp_path, monkeypatch):
  tfds = pytest.importorskip('tensorflow_datasets')

  def fail(self, **kwargs):
    raise ConnectionError('no route')

  monkeypatch.setattr(tfds.core.DatasetBuilder, 'download_and_prepare', fail)
  with pytest.raises(FileNotFoundError, match="name='cifar10' is not prepared in .*ConnectionError: no route"):
    data.load('tfds', 'cifar10', str(tmp_path), 'train')


def test_tfds_missing_names_the_extra(monkeypatch):
  pytest.importorskip('tensorflow')
  monkeypatch.setitem(sys.modules, 'tensorflow_datasets', None)
  with pytest.raises(ImportError, match=r'jaxssl\[data\]'):
    data.load('tfds', 'cifar10', None, 'train')


@pytest.mark.parametrize('name, shape, n', [('cifar10', (32, 32, 3), 10000), ('fashion_mnist', (28, 28, 1), 10000)])
def test_tfds_prepared_data_sets(name, shape, n):
  root = os.environ.get('TFDS_DATA_DIR', os.path.expanduser('~/tensorflow_datasets'))
  if not os.path.isdir(os.path.join(root, name)):
    pytest.skip(f'{name} is not prepared in {root}')
  source = data.load('tfds', name, None, 'test')
  assert source.inputs.shape == (n, *shape) and np.bincount(source.labels).tolist() == [1000] * 10
