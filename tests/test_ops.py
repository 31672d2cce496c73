"""Patches and log-mel features against slow NumPy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxssl import ops


@pytest.mark.parametrize('height, width, size, stride', [(8, 8, 4, None), (7, 11, 3, 2), (5, 5, 5, 3), (9, 6, 3, 3)])
@pytest.mark.parametrize('dtype', [np.uint8, np.float32])
def test_patchify_equals_a_loop(height, width, size, stride, dtype):
  images = np.random.default_rng(0).integers(0, 256, (2, height, width, 3)).astype(dtype)
  step = stride or size
  rows, columns = (height - size) // step + 1, (width - size) // step + 1
  expected = np.zeros((2, rows, columns, size, size, 3), dtype)
  for row in range(rows):
    for column in range(columns):
      top, left = row * step, column * step
      expected[:, row, column] = images[:, top:top + size, left:left + size]
  patches = jax.jit(ops.patchify, static_argnums=(1, 2))(images, size, stride)
  assert patches.dtype == dtype
  np.testing.assert_array_equal(patches, expected)


@pytest.mark.parametrize('shape, size, stride, message', [
    ((1, 10, 9, 3), 3, 2, r'3 pixels plus a multiple of the stride 2 high and wide .* got shape \(1, 10, 9, 3\)'),
    ((1, 2, 2, 3), 3, 1, r'3 pixels plus a multiple of the stride 1'),
    ((9, 9, 3), 3, 2, r'images must be \[b, h, w, c\], got shape \(9, 9, 3\)'),
    ((1, 9, 9, 3), 3, 0, 'size and stride must be positive, got 3 and 0'),
])
def test_patches_that_do_not_fit_are_an_error(shape, size, stride, message):
  with pytest.raises(ValueError, match=message):
    ops.patchify(jnp.zeros(shape), size, stride)


def numpy_log_mel(waveform, rate, hop, window, size, mels):
  """One frame, frequency and filter at a time, by the definition of the Fourier transform."""
  mel = lambda f: 2595 * np.log10(1 + f / 700)
  before = -(-(window - hop) // 2)
  frames = np.zeros((len(waveform), waveform.shape[1] // hop, mels))
  time = np.arange(window)
  hann = np.sin(np.pi * time / window) ** 2
  edges = [700 * (10 ** (mel(rate / 2) * i / (mels + 1) / 2595) - 1) for i in range(mels + 2)]
  for b, t in np.ndindex(frames.shape[:2]):
    samples = [waveform[b, n] if 0 <= (n := t * hop - before + i) < waveform.shape[1] else 0.0 for i in range(window)]
    for bin_ in range(size // 2 + 1):
      f = bin_ * rate / size
      power = abs((samples * hann * np.exp(-2j * np.pi * bin_ * time / size)).sum()) ** 2
      for m in range(mels):
        low, centre, high = edges[m:m + 3]
        height = (f - low) / (centre - low) if f < centre else (high - f) / (high - centre)
        frames[b, t, m] += max(height, 0.0) * power
  return np.log(frames + 1e-6)


@pytest.mark.parametrize('hop, window, samples', [(40, 100, 200), (30, 45, 100), (32, 32, 64)])
def test_log_mel_equals_numpy(hop, window, samples):
  waveform = np.random.default_rng(1).normal(size=(2, samples)) * 0.1
  expected = numpy_log_mel(waveform, 8000, hop, window, {100: 128, 45: 64, 32: 32}[window], 5)
  actual = ops.log_mel(jnp.asarray(waveform, jnp.float32), rate=8000, hop=hop, window=window, mels=5)
  np.testing.assert_allclose(actual, expected, rtol=1e-4, atol=1e-4)


def test_log_mel_of_silence_and_of_a_tone():
  time = np.arange(8000) / 8000
  tone = jnp.asarray(np.stack([np.zeros(8000), np.sin(2 * np.pi * 1000 * time)]), jnp.float32)
  silence, tone = np.asarray(ops.log_mel(tone, rate=8000, hop=80, window=200))
  np.testing.assert_allclose(silence, np.log(1e-6), rtol=1e-6)
  # 1000 Hz is 1000 mel; the filters' centres are 2146 / 41 mel apart.
  assert (tone[2:-2].argmax(axis=1) == round(1000 / (2146.06 / 41)) - 1).all()


def test_mel_filters_meet_at_their_centres():
  filters = ops.mel_filters(8000, 256, 20)
  assert filters.shape == (129, 20) and filters.max() <= 1
  np.testing.assert_allclose(filters[4:110].sum(axis=1), 1, atol=1e-6)  # Neighbours add up to 1 between the outer two.


@pytest.mark.parametrize('fields, shape, message', [
    ({}, (2, 79), r'waveform must be \[b, samples\] with at least hop = 80 samples, got shape \(2, 79\)'),
    ({}, (160,), r'waveform must be \[b, samples\]'),
    ({'window': 79}, (2, 160), 'window must be at least hop = 80 samples, got 79'),
    ({'mels': 120}, (2, 160), 'mels must be fewer for a transform of 256 samples at 8000 Hz, got 120'),
])
def test_log_mel_errors(fields, shape, message):
  with pytest.raises(ValueError, match=message):
    ops.log_mel(jnp.zeros(shape), **{'rate': 8000, 'hop': 80, 'window': 200, **fields})
