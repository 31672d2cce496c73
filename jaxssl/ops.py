"""Small functions of arrays, without parameters."""

import jax
import jax.numpy as jnp
import numpy as np


def l2_normalize(x: jax.Array, axis: int = -1, epsilon: float = 1e-12) -> jax.Array:
  """Scales `x` to unit Euclidean length along `axis`; a zero vector stays zero, with a zero gradient.

  Computes in float32 and returns float32, whatever float type comes in.
  """
  x = x.astype(jnp.float32)
  squared = jnp.sum(x * x, axis=axis, keepdims=True)
  is_zero = squared <= epsilon**2
  return jnp.where(is_zero, 0.0, x * jax.lax.rsqrt(jnp.where(is_zero, 1.0, squared)))


def patchify(images: jax.Array, size: int, stride: int | None = None) -> jax.Array:
  """Cuts images [b, h, w, c] into a grid of square patches, [b, rows, columns, size, size, c], of the same type.

  Args:
    images: of any type.
    size: side of a patch, in pixels.
    stride: distance from one patch to the next, in pixels; less than `size`: they overlap. None: `size`.

  Raises:
    ValueError: unless patches reach exactly from edge to edge: height and width are size plus a multiple of stride.
  """
  stride = size if stride is None else stride
  if images.ndim != 4:
    raise ValueError(f'images must be [b, h, w, c], got shape {images.shape}')
  if size < 1 or stride < 1:
    raise ValueError(f'size and stride must be positive, got {size} and {stride}')
  for side in images.shape[1:3]:
    if side < size or (side - size) % stride:
      raise ValueError(
          f'images must be {size} pixels plus a multiple of the stride {stride} high and wide for patches of size '
          f'{size} to fit exactly, got shape {images.shape}')
  pixels = [np.arange(0, side - size + 1, stride)[:, None] + np.arange(size) for side in images.shape[1:3]]
  patches = images[:, pixels[0]][:, :, :, pixels[1]]  # [b, rows, size, columns, size, c]
  return jnp.swapaxes(patches, 2, 3)


def log_mel(
    waveform: jax.Array, *, rate: int, hop: int, window: int, mels: int = 40, floor: float = 1e-6) -> jax.Array:
  """Returns log-mel features of waveforms, [b, samples] -> [b, samples // hop, mels], float32.

  log(power spectrum of the Hann-windowed frame, zero-padded to a power of two, times the mel filters, plus floor).
  Frame t is centred on samples [t hop, (t + 1) hop); beyond the ends there are zeros.

  Args:
    waveform: floats, usually within [-1, 1].
    rate: samples per second.
    hop: samples from one frame to the next.
    window: samples in a frame, at least `hop`.
    mels: filters, between 0 Hz and rate / 2; see `mel_filters`.
    floor: added to the power, against the logarithm of silence.

  Raises:
    ValueError: for a shape other than [b, samples], fewer samples than `hop`, or `window` < `hop`.
  """
  if waveform.ndim != 2 or waveform.shape[1] < hop:
    raise ValueError(f'waveform must be [b, samples] with at least hop = {hop} samples, got shape {waveform.shape}')
  if window < hop:
    raise ValueError(f'window must be at least hop = {hop} samples, got {window}')
  before, size = (window - hop + 1) // 2, 1 << (window - 1).bit_length()
  padded = jnp.pad(waveform.astype(jnp.float32), ((0, 0), (before, window - hop - before)))
  samples = hop * np.arange(waveform.shape[1] // hop)[:, None] + np.arange(window)
  hann = np.hanning(window + 1)[:-1].astype(np.float32)
  spectrum = jnp.fft.rfft(padded[:, samples] * hann[None, None], size)
  power = spectrum.real**2 + spectrum.imag**2
  return jnp.log(jnp.matmul(power, mel_filters(rate, size, mels), precision='highest') + floor)


def mel_filters(rate: int, size: int, mels: int) -> np.ndarray:
  """Returns triangular filters of height 1, equally wide in mel, [size // 2 + 1, mels] float32.

  They span 0 Hz to rate / 2, where mel(f) = 2595 log10(1 + f / 700) (O'Shaughnessy 1987, as in HTK).

  Args:
    rate: samples per second.
    size: of the Fourier transform, in samples.
    mels: number of filters.

  Raises:
    ValueError: if `mels` is so many that a filter falls between two frequencies of the transform.
  """
  top = 2595 * np.log10(1 + rate / 2 / 700)
  edges = 700 * (10 ** (np.linspace(0, top, mels + 2) / 2595) - 1)
  low, centre, high = edges[:-2], edges[1:-1], edges[2:]
  frequencies = np.arange(size // 2 + 1)[:, None] * rate / size
  rising, falling = (frequencies - low) / (centre - low), (high - frequencies) / (high - centre)
  filters = np.maximum(0, np.minimum(rising, falling))
  if not filters.any(axis=0).all():
    raise ValueError(f'mels must be fewer for a transform of {size} samples at {rate} Hz, got {mels}')
  return filters.astype(np.float32)
