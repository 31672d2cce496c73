"""Modalities of an image: channels of a colour space, halves, gradients. What the views of multiview coding show.

Colour spaces: Tian, Krishnan, Isola 2019, https://arxiv.org/abs/1906.05849, section 4. An image is [..., h, w, c], of
floats in [0, 1]. `jaxssl.data.tf_image` converts colours to the same numbers.
"""

from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp

from jaxssl.augment.image import grayscale
from jaxssl.recipes import MODALITIES

# sRGB (IEC 61966-2-1): from linear red, green, blue to CIE XYZ, and XYZ of its white, D65 for the 2 degree observer.
_XYZ = ((0.412453, 0.357580, 0.180423), (0.212671, 0.715160, 0.072169), (0.019334, 0.119193, 0.950227))
_WHITE = (0.95047, 1.0, 1.08883)
# ITU-R BT.601: from red, green, blue to Y, Cb, Cr of 16 to 240.
_YCBCR = ((65.481, 128.553, 24.966), (-37.797, -74.203, 112.0), (112.0, -93.786, -18.214))
_YCBCR_ZERO = (16.0, 128.0, 128.0)
# What CMC's code takes off each channel, near the middle of sRGB's range, and half of that range
# (https://github.com/HobbitLong/CMC).
_LAB_RANGE = ((50.0, 6.025, -6.6895), (50.0, 92.208, 101.1675))
_YCBCR_RANGE = ((116.151, 121.080, 132.342), (109.500, 111.855, 111.964))


def rgb_to_lab(image: jax.Array) -> jax.Array:
  """Converts sRGB in [0, 1], [..., 3], to CIE L* (0 to 100), a* and b* (about -108 to 99) under the white D65.

  Numbers are those of `skimage.color.rgb2lab`, to 1e-3.

  Raises:
    ValueError: unless the image has three channels.
  """
  _require_colours('rgb_to_lab', image)
  linear = jnp.where(image > 0.04045, ((jnp.maximum(image, 0.04045) + 0.055) / 1.055) ** 2.4, image / 12.92)
  xyz = jnp.einsum('...c,xc->...x', linear, jnp.asarray(_XYZ) / jnp.asarray(_WHITE)[:, None], precision='highest')
  f = jnp.where(xyz > 0.008856, jnp.cbrt(jnp.maximum(xyz, 0.008856)), 7.787 * xyz + 16 / 116)
  x, y, z = f[..., 0], f[..., 1], f[..., 2]
  return jnp.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)], axis=-1)


def rgb_to_ycbcr(image: jax.Array) -> jax.Array:
  """Converts sRGB in [0, 1], [..., 3], to Y (16 to 235), Cb and Cr (16 to 240), as `skimage.color.rgb2ycbcr`.

  Raises:
    ValueError: unless the image has three channels.
  """
  _require_colours('rgb_to_ycbcr', image)
  zero = jnp.asarray(_YCBCR_ZERO).reshape([1] * (image.ndim - 1) + [3])
  return jnp.einsum('...c,yc->...y', image, jnp.asarray(_YCBCR), precision='highest') + zero


def gradients(image: jax.Array) -> jax.Array:
  """Returns the luma's slopes down and to the right, [..., h, w, 2] in [-1, 1]: Sobel's filters over 4, edges repeated.

  Raises:
    ValueError: unless the image is [..., h, w, c].
  """
  if image.ndim < 3:
    raise ValueError(f'image must be [..., h, w, c], got shape {image.shape}')
  luma = grayscale(image)[..., 0]
  padded = jnp.pad(luma, [(0, 0)] * (luma.ndim - 2) + [(1, 1), (1, 1)], mode='edge')
  smooth = lambda x, axis: _cut(x, 0, axis) + 2 * _cut(x, 1, axis) + _cut(x, 2, axis)
  slope = lambda along, across: smooth(_cut(padded, 2, along) - _cut(padded, 0, along), across) / 4
  return jnp.stack([slope(-2, -1), slope(-1, -2)], axis=-1)


def modality(image: jax.Array, name: str) -> jax.Array:
  """Returns what a view called `name`, one of `recipes.MODALITIES`, shows of an image [..., h, w, c].

  'image': the image; 'grey': its luma. 'L', 'ab', 'a', 'b', 'Y', 'CbCr', 'Cb', 'Cr': channels in about [-1, 1], as CMC
  scales them. 'left', 'right', 'top', 'bottom': halves. 'gradients': the luma's two slopes.

  Raises:
    ValueError: for an unknown name, or colours of an image without.
  """
  if name not in MODALITIES:
    raise ValueError(f'modality must be one of {", ".join(MODALITIES)}, got {name!r}')
  return _SHOW[name](image)


def modalities(images: Sequence[jax.Array], names: Sequence[str]) -> tuple[jax.Array, ...]:
  """Returns the modalities called `names`, each of its own image, or all of one."""
  images = list(images) * len(names) if len(images) == 1 else images
  return tuple(modality(image, name) for image, name in zip(images, names, strict=True))


def _channels(convert: Callable, scale: tuple, first: int, stop: int) -> Callable:
  """Returns what shows the channels from `first` to `stop` of a colour space, scaled."""

  def show(image):
    centre, half = (jnp.asarray(each[first:stop]).reshape([1] * (image.ndim - 1) + [-1]) for each in scale)
    return (convert(image)[..., first:stop] - centre) / half

  return show


def _half(axis: int, second: bool) -> Callable:
  def show(image):
    middle = image.shape[axis] // 2  # Of an odd side, the row in the middle is left out.
    if not middle:
      raise ValueError(f'halves need images of two pixels or more a side, got shape {image.shape}')
    start = image.shape[axis] - middle if second else 0
    return jax.lax.slice_in_dim(image, start, start + middle, axis=axis % image.ndim)

  return show


def _cut(x: jax.Array, start: int, axis: int) -> jax.Array:
  return jax.lax.slice_in_dim(x, start, start + x.shape[axis] - 2, axis=axis % x.ndim)


def _require_colours(name: str, image: jax.Array) -> None:
  if image.shape[-1] != 3:
    raise ValueError(f'{name} needs images with three channels, red, green and blue, got shape {image.shape}')


_SHOW: dict[str, Callable[[jax.Array], jax.Array]] = {
    'image': lambda image: image,
    'grey': lambda image: grayscale(image)[..., :1],
    'L': _channels(rgb_to_lab, _LAB_RANGE, 0, 1),
    'ab': _channels(rgb_to_lab, _LAB_RANGE, 1, 3),
    'a': _channels(rgb_to_lab, _LAB_RANGE, 1, 2),
    'b': _channels(rgb_to_lab, _LAB_RANGE, 2, 3),
    'Y': _channels(rgb_to_ycbcr, _YCBCR_RANGE, 0, 1),
    'CbCr': _channels(rgb_to_ycbcr, _YCBCR_RANGE, 1, 3),
    'Cb': _channels(rgb_to_ycbcr, _YCBCR_RANGE, 1, 2),
    'Cr': _channels(rgb_to_ycbcr, _YCBCR_RANGE, 2, 3),
    'left': _half(-2, False),
    'right': _half(-2, True),
    'top': _half(-3, False),
    'bottom': _half(-3, True),
    'gradients': gradients,
}
