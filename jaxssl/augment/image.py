"""Deterministic image operations: an image [h, w, c] in [0, 1] and explicit parameters in, an image in [0, 1] out.

The operations of `jaxssl.data.tf_image` compute the same pixels. All parameters but sizes may be traced.
"""

from collections.abc import Sequence

import jax
import jax.numpy as jnp

from jaxssl.augment import resampling

_GREY = (0.2989, 0.5870, 0.1140)  # ITU-R BT.601, as tf.image.rgb_to_grayscale rounds it.


def adjust_brightness(image: jax.Array, factor: jax.Array | float) -> jax.Array:
  """Scales all values by `factor` (SimCLR's code, `color_jitter_impl='simclrv2'`)."""
  return jnp.clip(image * factor, 0.0, 1.0)


def adjust_contrast(image: jax.Array, factor: jax.Array | float) -> jax.Array:
  """Scales each channel's distance from its mean by `factor`, as tf.image.adjust_contrast."""
  mean = jnp.mean(image, axis=(0, 1), keepdims=True)
  return jnp.clip(mean + factor * (image - mean), 0.0, 1.0)


def adjust_saturation(image: jax.Array, factor: jax.Array | float) -> jax.Array:
  """Scales the HSV saturation by `factor`, at most to 1, as tf.image.adjust_saturation; one channel stays as it is."""
  if image.shape[-1] == 1:
    return image
  value, chroma = _value_and_chroma(image)
  # At fixed hue and value, a pixel's distances from its largest channel are proportional to its saturation.
  gain = jnp.minimum(factor, value / jnp.where(chroma > 0, chroma, 1.0))
  return jnp.clip(value - gain * (value - image), 0.0, 1.0)


def adjust_hue(image: jax.Array, shift: jax.Array | float) -> jax.Array:
  """Turns the HSV hue by `shift` turns, as tf.image.adjust_hue; one channel stays as it is."""
  if image.shape[-1] == 1:
    return image
  red, green, blue = image[..., :1], image[..., 1:2], image[..., 2:]
  value, chroma = _value_and_chroma(image)
  scale = 1.0 / jnp.where(chroma > 0, chroma, 1.0)
  sixth = jnp.where(
      value == red, (green - blue) * scale,
      jnp.where(value == green, 2.0 + (blue - red) * scale, 4.0 + (red - green) * scale))
  # HSV to RGB without branches: the same function of the hue in all channels, a third of a turn apart.
  turns = sixth / 6.0 + shift + jnp.array([5 / 6, 3 / 6, 1 / 6])[None, None]
  k = 6.0 * (turns - jnp.floor(turns))
  return jnp.clip(value - chroma * jnp.clip(jnp.minimum(k, 4.0 - k), 0.0, 1.0), 0.0, 1.0)


def _value_and_chroma(image: jax.Array) -> tuple[jax.Array, jax.Array]:
  """Returns the largest channel, and its distance from the smallest: both [h, w, 1]."""
  red, green, blue = image[..., :1], image[..., 1:2], image[..., 2:]
  value = jnp.maximum(jnp.maximum(red, green), blue)
  return value, value - jnp.minimum(jnp.minimum(red, green), blue)


def color_jitter(
    image: jax.Array,
    brightness: jax.Array | float,
    contrast: jax.Array | float,
    saturation: jax.Array | float,
    hue: jax.Array | float,
    order: jax.Array | Sequence[int] = (0, 1, 2, 3),
) -> jax.Array:
  """Applies the four adjustments in `order` [4]: 0 is brightness, 1 contrast, 2 saturation and 3 hue.

  Under `vmap`, let `order` be the same for all images: otherwise each of the four steps computes all four adjustments.
  """
  adjustments = [
      lambda x: adjust_brightness(x, brightness),
      lambda x: adjust_contrast(x, contrast),
      lambda x: adjust_saturation(x, saturation),
      lambda x: adjust_hue(x, hue),
  ]
  order = jnp.asarray(order)
  for i in range(4):
    image = jax.lax.switch(order[i], adjustments, image)
  return image


def grayscale(image: jax.Array) -> jax.Array:
  """Returns the luma in all three channels; one channel stays as it is."""
  if image.shape[-1] == 1:
    return image
  luma = _GREY[0] * image[..., :1] + _GREY[1] * image[..., 1:2] + _GREY[2] * image[..., 2:]
  return jnp.broadcast_to(luma, image.shape)


def solarize(image: jax.Array, threshold: float = 0.5) -> jax.Array:
  """Inverts the values from `threshold` up (128 of 255 in BYOL)."""
  return jnp.where(image >= threshold, 1.0 - image, image)


def gaussian_blur(image: jax.Array, sigma: jax.Array | float, kernel_size: int) -> jax.Array:
  """Blurs with a normalised Gaussian of `sigma` pixels cut to `kernel_size` (odd); zeros beyond the edge, as SimCLR."""
  if kernel_size % 2 == 0:
    raise ValueError(f'kernel_size must be odd, got {kernel_size}')
  height, width, _ = image.shape
  rows = _blur_matrix(height, sigma, kernel_size)
  columns = rows if width == height else _blur_matrix(width, sigma, kernel_size)
  return resampling.separable(image, rows, columns)


def _blur_matrix(size: int, sigma: jax.Array | float, kernel_size: int) -> jax.Array:
  """Returns the banded matrix [size, size] of the blur along one axis; dense, as matmuls beat tiny convolutions."""
  radius = kernel_size // 2
  taps = jnp.exp(-0.5 * jnp.square(jnp.arange(-radius, radius + 1) / sigma))
  taps = taps / jnp.sum(taps)
  offset = jnp.arange(size)[None, :] - jnp.arange(size)[:, None]
  band = taps[jnp.clip(offset + radius, 0, 2 * radius)]
  return jnp.where(jnp.abs(offset) <= radius, band, 0.0)


def flip(image: jax.Array) -> jax.Array:
  """Mirrors left and right."""
  return image[:, ::-1]


def thicken(image: jax.Array, radius: jax.Array | float, max_radius: float = 1.0) -> jax.Array:
  """Widens bright strokes by `radius` pixels on either side; a negative radius thins them.

  Grey-scale dilation (erosion) by 3 x 3 squares, the last one mixed in by the fraction of a pixel that is left.
  `max_radius` bounds the size of `radius` and fixes the number of passes.
  """
  amount, sign = jnp.abs(radius), jnp.where(radius > 0, 1.0, -1.0)  # Erosion is the dilation of the negative.
  for done in range(int(-(-max_radius // 1))):
    swollen = sign * _dilate(sign * image)
    image = image + jnp.clip(amount - done, 0.0, 1.0) * (swollen - image)
  return image


def _dilate(image: jax.Array) -> jax.Array:
  """Returns the maximum over each pixel's 3 x 3 neighbourhood within the image."""
  for window in ((3, 1, 1), (1, 3, 1)):  # Not nine shifts: XLA would fuse them with, and so repeat, what made `image`.
    image = jax.lax.reduce_window(image, -jnp.inf, jax.lax.max, window, (1, 1, 1), 'SAME')
  return image
