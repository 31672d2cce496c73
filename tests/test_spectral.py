"""Log-mel spectra and MFCC against a slow NumPy version and closed forms."""

import jax.numpy as jnp
import numpy as np
import pytest

from jaxssl import spectral

RATE = 8000


def slow_log_mel(wave, rate, bands):
  """One frame and one band at a time, in float64."""
  length, hop, points = round(0.025 * rate), round(0.01 * rate), 1
  while points < length:
    points *= 2
  mel = lambda f: 2595 * np.log10(1 + f / 700)
  edges = [mel(rate / 2) * i / (bands + 1) for i in range(bands + 2)]
  rows = []
  for start in range(0, len(wave) - length + 1, hop):
    window = [0.5 - 0.5 * np.cos(2 * np.pi * n / length) for n in range(length)]
    power = np.abs(np.fft.fft(wave[start : start + length] * window, points)) ** 2
    row = []
    for low, middle, high in zip(edges, edges[1:], edges[2:], strict=False):
      total = 0.0
      for k in range(points // 2 + 1):
        m = mel(k * rate / points)
        if low < m < high:
          total += power[k] * ((m - low) / (middle - low) if m <= middle else (high - m) / (high - middle))
      row.append(np.log(total + spectral.FLOOR))
    rows.append(row)
  return np.array(rows)


@pytest.mark.parametrize('rate, bands', [(8000, 40), (16000, 23)])
def test_log_mel_is_the_slow_one(rate, bands):
  wave = np.random.default_rng(0).normal(size=(2, rate // 10)) * 0.1
  actual = spectral.log_mel(jnp.asarray(wave, jnp.float32), rate, bands)
  assert actual.shape == (2, 8, bands) and actual.dtype == jnp.float32
  for one, other in zip(actual, wave, strict=True):
    np.testing.assert_allclose(one, slow_log_mel(other, rate, bands), atol=2e-3)


def test_a_sine_lies_in_its_band():
  for frequency in (300, 1000, 3000):
    wave = np.sin(2 * np.pi * frequency * np.arange(RATE) / RATE)
    mel = 2595 * np.log10(1 + np.array([frequency, RATE / 2]) / 700)
    band = np.argmax(np.asarray(spectral.log_mel(jnp.asarray(wave), RATE)).mean(0))
    assert abs(band - (mel[0] / mel[1] * 41 - 1)) < 1


def test_mfcc_is_the_cosine_transform():
  wave = jnp.asarray(np.random.default_rng(0).normal(size=2000), jnp.float32)
  log_mel = np.asarray(spectral.log_mel(wave, RATE), np.float64)
  n = np.arange(40)
  expected = np.stack([
    np.sqrt((1 if k == 0 else 2) / 40) * (log_mel * np.cos(np.pi * k * (n + 0.5) / 40)).sum(1) for k in range(13)], 1)
  np.testing.assert_allclose(spectral.mfcc(wave, RATE), expected, atol=2e-3)
  whole = spectral.mfcc(wave, RATE, coefficients=40)  # Orthonormal: lengths stay.
  np.testing.assert_allclose(np.linalg.norm(whole, axis=1), np.linalg.norm(log_mel, axis=1), rtol=1e-4)


def test_the_level_moves_coefficient_zero_alone():
  wave = jnp.asarray(np.random.default_rng(0).normal(size=2000), jnp.float32)
  difference = np.asarray(spectral.mfcc(10 * wave, RATE) - spectral.mfcc(wave, RATE))
  np.testing.assert_allclose(difference[:, 0], np.log(100) * np.sqrt(40), rtol=1e-3)
  np.testing.assert_allclose(difference[:, 1:], 0, atol=2e-3)


def test_frame_mask_counts_whole_frames():
  mask = np.arange(2000) < np.array([[2000], [1000], [280], [279], [10], [0]])
  frames = np.asarray(spectral.frame_mask(jnp.asarray(mask), RATE))
  assert frames.shape == (6, len(spectral.log_mel(jnp.zeros(2000), RATE)))
  assert frames.sum(1).tolist() == [23, 11, 2, 1, 1, 1] and frames[:, 0].all()


def test_padding_changes_no_real_frame():
  wave = np.random.default_rng(0).normal(size=1000).astype(np.float32)
  mask = np.arange(2000) < 1000
  padded = spectral.log_mel(jnp.asarray(np.pad(wave, (0, 1000))), RATE)
  real = padded[np.asarray(spectral.frame_mask(jnp.asarray(mask), RATE))]
  np.testing.assert_allclose(real, spectral.log_mel(jnp.asarray(wave), RATE), atol=1e-4)


def test_errors():
  with pytest.raises(ValueError, match=r'at least one window of 200 samples, got shape \[199\]'):
    spectral.log_mel(jnp.zeros(199), RATE)
  with pytest.raises(ValueError, match='coefficients must be from 1 to bands = 40, got 41'):
    spectral.mfcc(jnp.zeros(2000), RATE, 41)
