"""Log-mel spectra and MFCC of waveforms: functions of arrays, without parameters."""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np

WINDOW_SECONDS, HOP_SECONDS = 0.025, 0.010
FLOOR = 1e-6  # Added to a mel band's energy before the logarithm; 16-bit rounding noise lies below it.


def frame_sizes(rate: int) -> tuple[int, int]:
  """Samples of a frame (25 ms) and from one frame to the next (10 ms)."""
  return round(WINDOW_SECONDS * rate), round(HOP_SECONDS * rate)


def log_mel(wave: jax.Array, rate: int, bands: int = 40) -> jax.Array:
  """Log energy in mel bands, float32 [..., t, bands], of waveforms [..., samples] in [-1, 1] at `rate` Hz.

  Hann windows of 25 ms every 10 ms, t = 1 + (samples - window) // hop; triangular bands, equally wide on the mel scale
  2595 log10(1 + f / 700) (O'Shaughnessy 1987), from 0 to half the rate.

  Raises:
    ValueError: where the waveform is shorter than one window.
  """
  length, hop = frame_sizes(rate)
  if wave.shape[-1] < length:
    raise ValueError(f'wave must hold at least one window of {length} samples, got shape {list(wave.shape)}')
  starts = jnp.arange(0, wave.shape[-1] - length + 1, hop)
  frames = wave.astype(jnp.float32)[..., starts[:, None] + jnp.arange(length)[None]]
  return jnp.log(mel_energies(frames, mel_filters(rate, _power_of_two(length), bands)) + FLOOR)


def mel_energies(frames: jax.Array, filters: np.ndarray) -> jax.Array:
  """Energy in mel bands, float32 [..., bands], of frames [..., samples] under a Hann window.

  `filters` [bands, points // 2 + 1] are `mel_filters`' for a transform of `points`, at least the samples of a frame.
  """
  length, points = frames.shape[-1], 2 * (filters.shape[-1] - 1)
  window = jnp.asarray(np.hanning(length + 1)[:-1], jnp.float32)
  power = jnp.abs(jnp.fft.rfft(frames * window.reshape((1,) * (frames.ndim - 1) + (-1,)), points)) ** 2
  return jnp.matmul(power, jnp.asarray(filters.T, jnp.float32), precision=jax.lax.Precision.HIGHEST)


def mfcc(wave: jax.Array, rate: int, coefficients: int = 13, bands: int = 40) -> jax.Array:
  """Mel-frequency cepstral coefficients, float32 [..., t, coefficients]: the first of the DCT-II of `log_mel`.

  The DCT is orthonormal, over the bands (Davis and Mermelstein 1980); coefficient 0, the level, is among them.

  Raises:
    ValueError: for more coefficients than bands, or as `log_mel`.
  """
  if not 1 <= coefficients <= bands:
    raise ValueError(f'coefficients must be from 1 to bands = {bands}, got {coefficients}')
  basis = jnp.asarray(_cosines(bands)[:coefficients], jnp.float32)
  return jnp.matmul(log_mel(wave, rate, bands), basis.T, precision=jax.lax.Precision.HIGHEST)


def frame_mask(mask: jax.Array, rate: int) -> jax.Array:
  """bool [..., t]: the frames of `log_mel` that lie within the real samples, from `mask` [..., samples].

  `mask` is True for a number of samples from the start; the first frame always counts, so that no clip is without one.
  """
  length, hop = frame_sizes(rate)
  real = jnp.sum(mask, axis=-1, keepdims=True)
  starts = jnp.arange(0, mask.shape[-1] - length + 1, hop).reshape((1,) * (mask.ndim - 1) + (-1,))
  return starts <= jnp.maximum(real - length, 0)


@functools.cache
def mel_filters(rate: int, points: int, bands: int, low: float = 0.0, high: float | None = None) -> np.ndarray:
  """[bands, points // 2 + 1]: triangles of height 1 over the bins of a real Fourier transform of `points` samples.

  They lie between `low` and `high` Hz, None being half the rate.

  Raises:
    ValueError: if the bands are so many that a triangle falls between two bins.
  """
  edges = np.linspace(_mel(low), _mel(rate / 2 if high is None else high), bands + 2)
  bins = _mel(np.arange(points // 2 + 1) * rate / points)
  rising = (bins - edges[:-2, None]) / np.diff(edges)[:-1, None]
  falling = (edges[2:, None] - bins) / np.diff(edges)[1:, None]
  filters = np.maximum(0.0, np.minimum(rising, falling))
  if not filters.any(axis=1).all():
    raise ValueError(f'bands must be fewer for a transform of {points} samples at {rate} Hz, got {bands}')
  return filters


def enough_points(length: int, rate: int, bands: int, low: float = 0.0, high: float | None = None) -> int:
  """The least power of two, not below `length`, with which no band of `mel_filters` falls between two bins for sure."""
  edges = np.linspace(_mel(low), _mel(rate / 2 if high is None else high), bands + 2)
  narrowest = 700.0 * (10 ** (edges[2] / 2595.0) - 10 ** (edges[0] / 2595.0))  # In Hz: the lowest.
  return _power_of_two(max(length, rate / narrowest + 1))


def _mel(hertz):
  return 2595.0 * np.log10(1.0 + hertz / 700.0)


def _power_of_two(least: float) -> int:
  return 2 ** math.ceil(math.log2(least))


def _cosines(n: int) -> np.ndarray:
  """[n, n]: the orthonormal DCT-II, a row a coefficient."""
  rows = np.cos(np.pi * np.arange(n)[:, None] * (2 * np.arange(n) + 1) / (2 * n)) * np.sqrt(2 / n)
  rows[0] /= np.sqrt(2)
  return rows
