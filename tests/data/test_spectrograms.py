"""Recordings as images: a slow version, tones and clicks, loudness, silence, and the rest of a source."""

import itertools

import numpy as np
import pytest

from jaxssl import data, recipes, spectral
from jaxssl.data import audio

RATE, SIZE = 8000, 16
SETTINGS = recipes.Spectrogram(RATE, 0.8, low=100.0, high=3500.0)
TIME = np.arange(SETTINGS.length) / RATE


def images(*waves, settings=SETTINGS, size=SIZE):
  clips = audio.joined([np.asarray(wave, np.float32) for wave in waves], RATE)
  return data.spectrogram_images(clips, settings, size)


def mel(hertz):
  return 2595 * np.log10(1 + np.asarray(hertz) / 700)


def slow_image(wave, settings, size):
  """One pixel at a time, in float64, by the Fourier sum at each frequency."""
  share = settings.length / size
  window = max(round(2 * share), round(0.025 * settings.rate))
  edges = np.linspace(mel(settings.low), mel(settings.high), size + 2)
  points = spectral.enough_points(window, settings.rate, size, settings.low, settings.high)
  energy = np.zeros((size, size))
  for column in range(size):
    start = round((column + 0.5) * share) - window // 2
    total = np.zeros(points // 2 + 1, complex)
    for n in range(window):
      if 0 <= start + n < min(len(wave), settings.length):
        hann = 0.5 - 0.5 * np.cos(2 * np.pi * n / window)
        total += hann * wave[start + n] * np.exp(-2j * np.pi * n * np.arange(points // 2 + 1) / points)
    for band in range(size):
      for k, value in enumerate(total):
        at = mel(k * settings.rate / points)
        low, middle, high = edges[band:band + 3]
        if low < at < high:
          height = (at - low) / (middle - low) if at <= middle else (high - at) / (high - middle)
          energy[size - 1 - band, column] += height * abs(value) ** 2
  decibels = 10 * np.log10(energy / energy.max() + 1e-30)
  return 255 * np.clip(1 + decibels / settings.dynamic_range, 0, 1)


@pytest.mark.parametrize('length, size', [(700, 7), (1200, 8)])
def test_pixels_are_the_slow_ones(length, size):
  """Of a clip that is cut and of one that is shorter than the image, whose columns are no whole number of samples."""
  settings = recipes.Spectrogram(RATE, 0.1, low=80.0, dynamic_range=50.0, high=4000.0)
  wave = np.random.default_rng(0).normal(size=length) * np.linspace(0, 0.3, length)
  found = images(wave, settings=settings, size=size)
  assert found.shape == (1, size, size, 1) and found.dtype == np.uint8
  expected = slow_image(wave, settings, size)
  assert np.ptp(expected) > 100
  np.testing.assert_allclose(found[0, ..., 0], expected, atol=0.6)  # Half of it by rounding.


def test_a_tone_lights_its_row_and_higher_ones_higher_rows():
  edges = mel([SETTINGS.low, SETTINGS.high])
  centres = np.linspace(*edges, SIZE + 2)[1:-1]
  for band in (1, 7, 14):
    hertz = 700 * (10 ** (centres[band] / 2595) - 1)
    image = images(0.5 * np.sin(2 * np.pi * hertz * TIME))[0, ..., 0]
    assert (image.argmax(axis=0) == SIZE - 1 - band).all()
    far = np.abs(np.arange(SIZE) - (SIZE - 1 - band)) > 2
    assert (image[SIZE - 1 - band] > 240).all() and (image[far, 1:-1] < 150).all()


def test_a_click_lights_its_column():
  for column in (0, 6, 15):
    wave = np.zeros(SETTINGS.length)
    wave[round((column + 0.5) * SETTINGS.length / SIZE)] = 0.5
    image = images(wave)[0, ..., 0]
    assert (image.argmax(axis=1) == column).all()
    assert not image[:, np.abs(np.arange(SIZE) - column) > 1].any()


def test_every_sample_shows():
  """Windows overlap: wherever a click is, some column is lit."""
  clicks = np.eye(SETTINGS.length, dtype=np.float32)[:: SETTINGS.length // 100]
  assert (images(*clicks).max(axis=(1, 2, 3)) == 255).all()


def test_loudness_does_not_show():
  wave = np.random.default_rng(1).normal(size=4000) * 0.02
  quiet, loud = images(wave, 30 * wave).astype(int)
  assert np.abs(quiet - loud).max() <= 1 and np.ptp(quiet) > 100


def test_silence_is_black():
  assert not images(np.zeros(8000)).any()


def test_short_clips_end_in_black_and_long_ones_are_cut():
  wave = np.random.default_rng(2).normal(size=2 * SETTINGS.length).astype(np.float32) * 0.1
  short, whole, long = images(wave[: SETTINGS.length // 2], wave[: SETTINGS.length], wave)[..., 0]
  np.testing.assert_array_equal(whole, long)
  assert not short[:, SIZE // 2 + 1:].any() and short[:, : SIZE // 2].all()
  np.testing.assert_array_equal(short[:, : SIZE // 2 - 1].argmax(axis=0), whole[:, : SIZE // 2 - 1].argmax(axis=0))


def test_chunks_make_no_difference(monkeypatch):
  waves = np.random.default_rng(3).normal(size=(5, 3000)) * 0.1
  at_once = images(*waves)
  monkeypatch.setattr('jaxssl.data.spectrograms.CLIPS', 2)
  np.testing.assert_array_equal(images(*waves), at_once)


@pytest.mark.parametrize('rate, seconds, size', [
    (8000, 1.0, 128), (16000, 3.0, 224), (8000, 0.5, 64), (44100, 1.0, 64)])
def test_no_band_falls_between_two_bins(rate, seconds, size):
  settings = recipes.Spectrogram(rate, seconds)
  window = max(round(2 * settings.length / size), spectral.frame_sizes(rate)[0])
  points = spectral.enough_points(window, rate, size, settings.low)
  assert spectral.mel_filters(rate, points, size, settings.low).any(axis=1).all()
  with pytest.raises(ValueError, match='^bands must be fewer'):
    spectral.mel_filters(rate, points // 64, size, settings.low)


def test_clips_at_another_rate_are_refused():
  with pytest.raises(ValueError, match='their rate is 16000, that of the clips 8000'):
    images(np.zeros(100), settings=recipes.Spectrogram(16000, 1.0))


@pytest.fixture(scope='module')
def source(tmp_path_factory):
  path = str(tmp_path_factory.mktemp('spectrograms') / 'noise.npz')
  wave = np.random.default_rng(0).normal(size=20 * 2000).clip(-3, 3) / 4
  np.savez(path, audio=wave.astype(np.float32), offsets=2000 * np.arange(21), rate=np.array(RATE),
           labels=np.arange(20) % 2, speakers=np.arange(20) % 3)
  return data.load_spectrograms('npz', None, path, 'train', SETTINGS, SIZE), path


def test_labels_and_speakers_are_the_audios(source):
  shown, path = source
  heard = data.load_audio('npz', None, path, 'train', RATE)
  assert len(shown) == len(heard) == len(shown.inputs)
  np.testing.assert_array_equal(shown.labels, heard.labels)
  np.testing.assert_array_equal(shown.groups, heard.groups)
  assert (shown.class_names, shown.group_names) == (heard.class_names, heard.group_names)
  np.testing.assert_array_equal(shown.inputs[3:4], images(heard.inputs.wave(3)))


@pytest.mark.parametrize('engine', ['device', 'host'])
def test_batches_are_those_of_images(source, engine):
  if engine == 'host':
    pytest.importorskip('tensorflow')
  recipe = recipes.spectrogram(SIZE, RATE, 0.8, low=100.0, high=3500.0, area=(1.0, 1.0), ratio=(1.0, 1.0))
  stream = data.batches(source[0], recipe, engine=engine, seed=0, batch_size=4)
  batch = next(itertools.islice(stream, 1))
  stream.close()
  np.testing.assert_array_equal(batch['inputs'], source[0].inputs[batch['index']])
  for view in batch.get('views', ()):
    np.testing.assert_array_equal(view, batch['inputs'])
