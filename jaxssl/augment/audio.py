"""Audio operations in JAX on one waveform [t], float: deterministic ones, and `random_*(key, wave, ...)`, which draw.

Map them over batches with `vmap`. None of them clips: samples may leave [-1, 1].
"""

import jax
import jax.numpy as jnp

TAPS = 16  # Of the filter that reads a waveform between its samples.


def gain(wave: jax.Array, decibels: jax.Array | float) -> jax.Array:
  """Multiplies by 10^(decibels / 20)."""
  return wave * 10.0 ** (decibels / 20.0)


def add_noise(key: jax.Array, wave: jax.Array, snr: jax.Array | float, mask: jax.Array | None = None) -> jax.Array:
  """Adds white Gaussian noise at a signal-to-noise ratio of `snr` dB; silence stays silence.

  `mask` [t], bool, says which samples are real: power is measured there, and noise added there; None is everywhere.
  """
  mask = jnp.ones(wave.shape, bool) if mask is None else mask
  power = jnp.sum(jnp.where(mask, wave**2, 0.0)) / jnp.maximum(jnp.sum(mask), 1)
  noise = jax.random.normal(key, wave.shape) * jnp.sqrt(power * 10.0 ** (-snr / 10.0))
  return wave + jnp.where(mask, noise, 0.0)


def mask_time(wave: jax.Array, start: jax.Array | int, width: jax.Array | int) -> jax.Array:
  """Silences `width` samples from `start` on."""
  t = jnp.arange(wave.shape[0])
  return jnp.where((t >= start) & (t < start + width), 0.0, wave)


def change_speed(wave: jax.Array, factor: jax.Array | float, length: int) -> jax.Array:
  """Plays `factor` times as fast, pitch and all: [length] samples, sample n from time n * factor of `wave`.

  Resampling with a Hann-windowed sinc of `TAPS` taps, which cuts off what would be above half the rate; zeros beyond
  the waveform's ends. What Ko et al. (Interspeech 2015) call speed perturbation.
  """
  position = jnp.arange(length) * jnp.asarray(factor, jnp.float32)
  source = jnp.floor(position).astype(jnp.int32)[:, None] + jnp.arange(1 - TAPS // 2, TAPS // 2 + 1)[None]
  distance = position[:, None] - source
  taps = jnp.sinc(distance * jnp.minimum(1.0, 1.0 / factor)) * jnp.cos(jnp.pi * distance / TAPS) ** 2
  taps = taps / jnp.sum(taps, axis=1, keepdims=True)
  return jnp.sum(taps * wave.at[source].get(mode='fill', fill_value=0.0, wrap_negative_indices=False), axis=1)


def change_tempo(wave: jax.Array, factor: jax.Array | float, length: int, frame: int = 512) -> jax.Array:
  """Plays `factor` times as fast at the same pitch: [length] samples; zeros beyond the waveform's ends.

  A phase vocoder (Flanagan and Golden, 1966) of Hann frames of `frame` samples, a multiple of 4, a quarter of that
  apart: each output frame has the magnitudes of the input frame at its time, and goes on from the phases of the output
  frame before by as much as the input's advance there over the same quarter. At factor 1 it is the identity.

  Raises:
    ValueError: for a `frame` that is no positive multiple of 4.
  """
  if frame % 4 or frame < 4:
    raise ValueError(f'frame must be a positive multiple of 4, got {frame}')
  hop = frame // 4
  window = 0.5 - 0.5 * jnp.cos(2.0 * jnp.pi * jnp.arange(frame) / frame)
  count = -(-length // hop) + 3  # Frames are centred on multiples of the hop, the first one on sample 0.
  centre = jnp.round(jnp.arange(count) * (hop * jnp.asarray(factor, jnp.float32))).astype(jnp.int32)

  def spectra(centre):
    source = centre[:, None] + jnp.arange(-frame // 2, frame // 2)[None]
    frames = wave.at[source].get(mode='fill', fill_value=0.0, wrap_negative_indices=False)
    return jnp.fft.rfft(window[None] * frames)

  now, before = spectra(centre), spectra(centre - hop)
  advance = jnp.angle(now) - jnp.angle(before)
  phase = jnp.cumsum(advance.at[0].set(jnp.angle(now[0])), axis=0)
  made = window[None] * jnp.fft.irfft(jnp.abs(now) * jnp.exp(1j * phase), frame)
  made, weight = _overlap(made, hop), _overlap(jnp.broadcast_to(window[None] ** 2, made.shape), hop)
  return (made / jnp.maximum(weight, 1e-3))[frame // 2 : frame // 2 + length]


def _overlap(frames: jax.Array, hop: int) -> jax.Array:
  """Adds frames [m, 4 * hop], each one `hop` after the one before: [(m + 3) * hop]."""
  parts = frames.reshape(frames.shape[0], 4, hop)
  shifted = jnp.stack([jnp.pad(parts[:, j], ((j, 3 - j), (0, 0))) for j in range(4)])
  return jnp.sum(shifted, axis=0).reshape(-1)


def random_gain(key: jax.Array, wave: jax.Array, decibels: tuple[float, float] = (-6.0, 6.0)) -> jax.Array:
  """Changes the level by a number of dB uniform in `decibels`."""
  return gain(wave, jax.random.uniform(key, minval=decibels[0], maxval=decibels[1]))


def random_polarity(key: jax.Array, wave: jax.Array, probability: float = 0.5) -> jax.Array:
  """Changes the sign of the whole waveform with `probability`."""
  return jnp.where(jax.random.bernoulli(key, probability), -wave, wave)


def random_noise(
    key: jax.Array,
    wave: jax.Array,
    snr: tuple[float, float] = (10.0, 40.0),
    probability: float = 0.5,
    mask: jax.Array | None = None,
) -> jax.Array:
  """With `probability`, adds white noise at a ratio uniform in `snr`, in dB; `mask` as in `add_noise`."""
  apply_key, snr_key, noise_key = jax.random.split(key, 3)
  noisy = add_noise(noise_key, wave, jax.random.uniform(snr_key, minval=snr[0], maxval=snr[1]), mask)
  return jnp.where(jax.random.bernoulli(apply_key, probability), noisy, wave)


def random_time_mask(
    key: jax.Array, wave: jax.Array, share: float = 0.1, count: int = 1, probability: float = 0.5
) -> jax.Array:
  """With `probability`, silences `count` spans, each of up to `share` of the samples.

  As SpecAugment (arXiv:1904.08779, section 2): a width uniform from 0 to its bound, then a start uniform where it fits.
  """
  apply_key, key = jax.random.split(key)
  masked, t = wave, wave.shape[0]
  for u in jax.random.uniform(key, (count, 2)):
    width = jnp.floor(u[0] * (share * t + 1)).astype(jnp.int32)
    masked = mask_time(masked, jnp.floor(u[1] * (t - width + 1)).astype(jnp.int32), width)
  return jnp.where(jax.random.bernoulli(apply_key, probability), masked, wave)


def random_factor(key: jax.Array, log_factor: float) -> jax.Array:
  """Draws a factor for `change_speed` or `change_tempo`, its logarithm uniform between minus and plus `log_factor`."""
  return jnp.exp(jax.random.uniform(key, minval=-log_factor, maxval=log_factor))
