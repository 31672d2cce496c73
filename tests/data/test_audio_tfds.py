"""Audio from TFDS: splits, speakers, recordings of many lengths and rates, and what happens when they are wrong."""

import os
import pathlib

import numpy as np
import pytest

from jaxssl import data
from jaxssl.data import audio, encoded

RATE = 8000


def waves(source):
  return [source.inputs.wave(i) for i in range(len(source))]


def assert_same_waves(ones, others):
  assert len(ones) == len(others)
  for one, other in zip(ones, others, strict=True):
    np.testing.assert_array_equal(one, other)


@pytest.fixture(scope='module')
def prepared(tmp_path_factory):
  """Small TFDS data sets in a directory: {name: waves by split}."""
  tfds = pytest.importorskip('tensorflow_datasets')
  tf = pytest.importorskip('tensorflow')
  root, made = tmp_path_factory.mktemp('tfds'), {}

  def prepare(name, counts, file_format='tfrecord', rate=RATE, channels=None, version='1.0.0', **extra):
    made[name], datasets = {}, {}
    shape = (None,) if channels is None else (None, channels)
    for split, n in counts.items():
      made[name][split] = [
        np.random.default_rng(i).integers(-9999, 9999, (300 if i == 3 else 900 + 10 * i, *shape[1:])) for i in range(n)]
      examples = [{'audio': wave, **{key: value(i) for key, (value, _, _) in extra.items()}}
                  for i, wave in enumerate(made[name][split])]
      signature = {'audio': tf.TensorSpec(shape, tf.int64), **{
        key: tf.TensorSpec((), dtype) for key, (_, dtype, _) in extra.items()}}
      datasets[split] = tf.data.Dataset.from_generator(lambda examples=examples: examples, output_signature=signature)
    features = tfds.features.FeaturesDict({
      'audio': tfds.features.Audio(shape=shape, dtype=np.int64, sample_rate=rate),
      **{key: feature for key, (_, _, feature) in extra.items()}})
    options = {'name': name, 'version': version, 'data_dir': str(root), 'file_format': file_format}
    tfds.dataset_builders.TfDataBuilder(split_datasets=datasets, features=features, **options).download_and_prepare()

  label = (lambda i: i % 2, tf.int64, tfds.features.ClassLabel(names=['x', 'y']))
  number = (lambda i: 70 + i % 3, tf.int64, np.int64)
  text = (lambda i: f'{i % 10}_{"ab"[i // 10 % 2]}_{i % 7}.wav', tf.string, tfds.features.Text())
  prepare('plain', {'train': 10, 'test': 4}, label=label)
  prepare('speakers', {'dev': 2, 'train_b': 4, 'train_a': 12}, 'array_record', speaker_id=number)
  prepare('stereo', {'train': 10}, channels=2, rate=16000)
  digit = (lambda i: i % 10, tf.int64, tfds.features.ClassLabel(num_classes=10))
  version = str(tfds.builder('spoken_digit', data_dir=str(root)).version)  # TFDS looks for its own.
  prepare('spoken_digit', {'train': 40}, label=digit, version=version, **{'audio/filename': text})
  prepare('unrated', {'train': 2}, rate=None)
  prepare('untrained', {'dev': 2})
  return str(root), made


def known(made):
  """Wave -> its number, of the waves that are long enough."""
  return {(wave / 32768).astype(np.float32).tobytes(): i for i, wave in enumerate(made) if len(wave) >= 400}


def test_tfds_with_splits(prepared):
  root, made = prepared
  train, test = (data.load_audio('tfds', 'plain', root, split, RATE) for split in ('train', 'test'))
  numbers = known(made['plain']['train'])
  found = [numbers[wave.tobytes()] for wave in waves(train)]
  assert sorted(found) == [0, 1, 2, 4, 5, 6, 7, 8, 9] and [i % 2 for i in found] == train.labels.tolist()
  assert train.class_names == ('x', 'y') and train.groups is None and train.inputs.rate == RATE
  assert len(test) == 3 and len(train.skipped) == 1 and 'is too short: 0.037 s' in train.skipped[0][1]


def test_tfds_speakers_are_groups_and_all_in_both_parts(prepared):
  root, made = prepared
  pretrain, train, test = (data.load_audio('tfds', 'speakers', root, split, RATE) for split in data.SPLITS)
  numbers = known(made['speakers']['train_a'])
  assert_same_waves(waves(pretrain), waves(train))
  assert sorted(numbers[wave.tobytes()] for wave in waves(train) + waves(test)) == sorted(numbers.values())
  for source in (train, test):
    assert source.group_names == ('70', '71', '72') and source.labels is None
    assert [numbers[wave.tobytes()] % 3 for wave in waves(source)] == source.groups.tolist()
  assert np.bincount(test.groups).tolist() == [1, 1, 1]


def test_tfds_beyond_the_memory_streams_records(prepared, monkeypatch):
  root, _ = prepared
  held = data.load_audio('tfds', 'speakers', root, 'train', RATE)
  monkeypatch.setattr(encoded, 'MEMORY', 3000)
  source = data.load_audio('tfds', 'speakers', root, 'train', RATE)
  assert source.inputs.decoded
  assert_same_waves(waves(source), waves(held))
  with pytest.raises(ValueError, match='plain.*too large.*array_record'):
    data.load_audio('tfds', 'plain', root, 'train', RATE)


def test_tfds_stereo_of_another_rate(prepared):
  soxr = pytest.importorskip('soxr')
  root, made = prepared
  source = data.load_audio('tfds', 'stereo', root, 'train', RATE)
  expected = sorted(
    (audio.to_int16(soxr.resample((wave.mean(1) / 32768).astype(np.float32), 16000, RATE)) for wave in
     made['stereo']['train'] if len(wave) >= 800), key=len)
  assert len(source) + len(data.load_audio('tfds', 'stereo', root, 'test', RATE)) == len(expected)
  for wave in waves(source):
    (match,) = [each for each in expected if len(each) == len(wave)]
    np.testing.assert_allclose(wave * 32768, match, atol=1)


def test_spoken_digit_splits_by_take(prepared):
  root, made = prepared
  train, test = (data.load_audio('tfds', 'spoken_digit', root, split, RATE) for split in ('train', 'test'))
  numbers = known(made['spoken_digit']['train'])
  for source, is_test in ((train, False), (test, True)):
    found = [numbers[wave.tobytes()] for wave in waves(source)]
    assert found and all((i % 7 < 5) == is_test for i in found)
    assert source.labels.tolist() == [i % 10 for i in found]
    assert source.groups.tolist() == [i // 10 % 2 for i in found] and source.group_names == ('a', 'b')
  assert len(train) + len(test) == len(numbers)


def test_tfds_errors(prepared):
  root, _ = prepared
  with pytest.raises(ValueError, match="'unrated' does not tell the sample rate"):
    data.load_audio('tfds', 'unrated', root, 'train', RATE)
  with pytest.raises(ValueError, match="untrained.* has no split 'train', only 'dev'"):
    data.load_audio('tfds', 'untrained', root, 'train', RATE)
  with pytest.raises(ValueError, match="name='spoken_digits' is unknown; did you mean 'spoken_digit'"):
    data.load_audio('tfds', 'spoken_digits', root, 'train', RATE)


def test_tfds_images_are_no_audio():
  tfds = pytest.importorskip('tensorflow_datasets')
  from jaxssl.data import audio_tfds

  with pytest.raises(ValueError, match="'cifar10' has no audio; its features are "):
    audio_tfds._open(tfds, 'cifar10', tfds.builder('cifar10'), RATE)


def test_the_real_spoken_digits():
  root = os.environ.get('TFDS_DATA_DIR', os.path.expanduser('~/tensorflow_datasets'))
  if not (pathlib.Path(root) / 'spoken_digit').is_dir():
    pytest.skip(f'spoken_digit is not prepared in {root}')
  pytest.importorskip('tensorflow_datasets')
  train, test = (data.load_audio('tfds', 'spoken_digit', None, split, RATE) for split in ('train', 'test'))
  assert np.bincount(train.labels).tolist() == [270] * 10 and np.bincount(test.labels).tolist() == [30] * 10
  assert np.bincount(train.groups).tolist() == [450] * 6 and np.bincount(test.groups).tolist() == [50] * 6
