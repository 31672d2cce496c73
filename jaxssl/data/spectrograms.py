"""Recordings as images: log-mel spectrograms, so that whatever learns from images learns from audio."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np

from jaxssl import spectral
from jaxssl.data import audio, sources
from jaxssl.data._source import Source
from jaxssl.recipes import Spectrogram

CHUNK = 2**24  # Numbers of the Fourier transforms that are in memory at once, at most.
CLIPS = 256  # Clips that are in memory at once, at most.


def load_spectrograms(
  source: str, name: str | None, path: str | None, split: str, settings: Spectrogram, size: int
) -> Source:
  """Opens one split of an audio data set, as `load_audio` does, whose `inputs` are images of its clips, in memory.

  They are `spectrogram_images`; labels, groups and files are those of the audio. Raises what `load_audio` raises.
  """
  opened = sources.load_audio(source, name, path, split, rate=settings.rate)
  return dataclasses.replace(opened, inputs=spectrogram_images(opened.inputs, settings, size))


def spectrogram_images(clips: audio.Clips, settings: Spectrogram, size: int) -> np.ndarray:
  """Returns the log-mel spectrogram of each of n clips, uint8 [n, size, size, 1].

  A column is a frame in the middle of its share of `settings.seconds`, the first on the left, under a Hann window twice
  as long as that share or 25 ms, whichever is longer; a row is a mel band, the highest at the top. 255 is the largest
  energy of the clip and 0 what is `settings.dynamic_range` dB or more below it; silence is black.

  Raises:
    ValueError: where the clips are at another rate than that of `settings`.
  """
  if clips.rate != settings.rate:
    raise ValueError(f'settings: their rate is {settings.rate}, that of the clips {clips.rate}')
  share = settings.length / size
  window = max(round(2 * share), spectral.frame_sizes(settings.rate)[0])
  points = spectral.enough_points(window, settings.rate, size, settings.low, settings.high)
  filters = spectral.mel_filters(settings.rate, points, size, settings.low, settings.high)
  starts = np.round((np.arange(size) + 0.5) * share).astype(int)  # Of waves that begin with half a window of zeros.
  make = jax.jit(lambda waves: _images(waves, starts, window, filters, settings.dynamic_range))
  count = min(len(clips), CLIPS, max(1, CHUNK // (size * points)))
  images = np.empty((len(clips), size, size, 1), np.uint8)
  for first in range(0, len(clips), count):
    # The last chunk is filled up with its last clip, so that all are of one size and compile once.
    indices = np.minimum(np.arange(first, first + count), len(clips) - 1)
    waves, _ = audio.padded(clips, indices, settings.length)
    images[indices] = np.asarray(make(waves))
  return images


def _images(waves: jax.Array, starts: np.ndarray, window: int, filters: np.ndarray, dynamic_range: float) -> jax.Array:
  """uint8 [b, size, size, 1] of waves [b, samples], with frames from `starts` [size] on."""
  waves = jnp.pad(waves, ((0, 0), (window // 2, window)))
  energies = spectral.mel_energies(waves[:, starts[:, None] + np.arange(window)[None]], filters)  # [b, time, bands]
  largest = energies.max(axis=(1, 2), keepdims=True)
  relative = energies / jnp.where(largest > 0, largest, 1.0)
  decibels = 10 * jnp.log10(jnp.maximum(relative, 10 ** (-dynamic_range / 10)))
  scaled = jnp.clip(1 + decibels / dynamic_range, 0.0, 1.0)
  return jnp.round(255 * scaled).astype(jnp.uint8).transpose(0, 2, 1)[:, ::-1, :, None]
