"""Recordings that are odd, damaged or lie about themselves, by every loader that reads sound files."""

import os
import sys

import numpy as np
import pytest

sys.path.insert(0, os.path.dirname(__file__))
import bad_files

from jaxssl import data, recipes
from jaxssl.data import audio, encoded
from jaxssl.data import folder as folder_of_images

pytest.importorskip('soundfile')
pytest.importorskip('soxr')
RATE = bad_files.RATE


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
  """Fine and broken recordings in train/, one in test/: (the folder, name -> a word of the reason)."""
  root = tmp_path_factory.mktemp('sounds')
  for part, sounds in (('train', bad_files.fine_sounds() | bad_files.broken_sounds()),
                       ('test', {'a.wav': bad_files.sound(bad_files.sine())})):
    (root / part).mkdir()
    for name, content in sounds.items():
      (root / part / name).write_bytes(content)
  words = {name: '' for name in bad_files.broken_sounds()} | bad_files.broken_places(root / 'train', '.wav')
  return root, words | {
    'truncated.wav': 'is cut short: its header says 8000 bytes of samples, there are 4000', 'silent.wav': 'too short',
    'empty.wav': 'Format not recognised', 'nan.wav': 'NaN', 'infinite.wav': 'NaN or infinite',
    'slow.wav': 'a rate of 1 Hz is too far from 8,000 Hz', 'too_fast.wav': 'a rate of 2,000,000,000 Hz is too far',
    'lying.wav': 'is cut short: its header says 4000000 bytes of samples, there are 8000',
    'lying.flac': 'takes 256.0 GiB, more than the'}


@pytest.mark.parametrize('memory', [encoded.MEMORY, 1000])
def test_a_folder_reports_what_is_broken_and_reads_what_is_odd(folder, memory, caplog, monkeypatch):
  folder_of_images.warn_once.cache_clear()  # What one has reported, the other reports again.
  root, words = folder
  monkeypatch.setattr(encoded, 'MEMORY', memory)
  source = data.load_audio('folder', None, str(root), 'train', RATE)
  skipped = dict(source.skipped)
  assert {f'train/{name}' for name in words} == set(skipped)
  assert {f'train/{name}' for name in bad_files.fine_sounds()} == set(source.files)
  for name, word in words.items():
    why = skipped[f'train/{name}']
    assert word in why and why and '\n' not in why and str(root) not in why
    assert f'  train/{name}: {why}\n' in caplog.text + '\n'
  for i, file in enumerate(source.files):
    wave = source.inputs.wave(i)
    if file != 'train/fast.flac':
      np.testing.assert_allclose(wave, bad_files.sine(), atol=0.02)
    np.testing.assert_array_equal(source.inputs.window(i, 100, 300), np.round(wave[100:400] * 32768))


def test_spectrograms_leave_out_the_same(folder):
  root, words = folder
  source = data.load_spectrograms('folder', None, str(root), 'train', recipes.Spectrogram(RATE, 0.5), 16)
  assert len(source) == len(bad_files.fine_sounds()) and len(source.skipped) == len(words)
  assert source.inputs.shape == (len(source), 16, 16, 1)


def test_rates_within_a_hundredfold_are_resampled():
  assert len(audio.resample(bad_files.sine(), 100_000, 8000)) == 320
  assert len(audio.resample(bad_files.sine(50), 80, 8000)) == 5000
  with pytest.raises(ValueError, match='a rate of 79 Hz is too far from 8,000 Hz'):
    audio.resample(bad_files.sine(50), 79, 8000)


def test_the_smallest_folders(tmp_path):
  with pytest.raises(ValueError, match='holds no recording'):
    data.load_audio('folder', None, str(tmp_path), 'train', RATE)
  for name, count in (('many', 5), ('one', 1)):
    (tmp_path / name).mkdir()
    for i in range(count):
      (tmp_path / name / f'{i}.wav').write_bytes(bad_files.sound(bad_files.sine(1000 + i)))
  train, test = (data.load_audio('folder', None, str(tmp_path), split, RATE) for split in ('train', 'test'))
  assert np.bincount(train.labels).tolist() == [4, 1] and test.labels.tolist() == [0]
