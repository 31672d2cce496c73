"""Draws the parameters of views: `sample(key, view, height, width) -> Params`, and its parts for single operations."""

import math

import jax
import jax.numpy as jnp

from jaxssl.augment import resampling
from jaxssl.recipes import Params, View

_ATTEMPTS = 10  # Boxes drawn before giving up, as torchvision's RandomResizedCrop.


def sample(key: jax.Array, view: View, height: int, width: int) -> Params:
  """Draws what makes one `view` of an image of `height` x `width` pixels, apart from the order of the jitter."""
  crop_key, affine_key, elastic_key, colour_key = jax.random.split(key, 4)
  u = jax.random.uniform(colour_key, (11,))
  return Params(
      box=crop_box(crop_key, height, width, view.area, view.ratio),
      flip=u[0] < view.flip,
      affine=affine(affine_key, view.rotation, view.shear, view.log_scale, view.translation),
      elastic=elastic(elastic_key, view.elastic, view.elastic_grid),
      thickness=_between(u[1], -view.thickness, view.thickness),
      jitter=u[2] < view.jitter,
      brightness=_between(u[3], max(1.0 - view.brightness, 0.0), 1.0 + view.brightness),
      contrast=_between(u[4], max(1.0 - view.contrast, 0.0), 1.0 + view.contrast),
      saturation=_between(u[5], max(1.0 - view.saturation, 0.0), 1.0 + view.saturation),
      hue=_between(u[6], -view.hue, view.hue),
      grey=u[7] < view.grey,
      blur=u[8] < view.blur,
      sigma=_between(u[9], *view.sigma),
      solarize=u[10] < view.solarize,
  )


def crop_box(
    key: jax.Array,
    height: int,
    width: int,
    area: tuple[float, float] = (0.08, 1.0),
    ratio: tuple[float, float] = (3 / 4, 4 / 3),
) -> jax.Array:
  """Draws a box, int32 [4]: top, left, height, width. Uniform are its share of the image and the log of width / height.

  The first of ten draws that fits into the image; if none does, the largest centred box whose ratio is allowed.
  """
  u = jax.random.uniform(key, (2 * _ATTEMPTS + 2,))
  areas = height * width * _between(u[:_ATTEMPTS], *area)
  ratios = jnp.exp(_between(u[_ATTEMPTS:-2], math.log(ratio[0]), math.log(ratio[1])))
  heights = jnp.maximum(jnp.round(jnp.sqrt(areas / ratios)), 1.0)
  widths = jnp.maximum(jnp.round(jnp.sqrt(areas * ratios)), 1.0)
  fits = (heights <= height) & (widths <= width)
  first = jnp.argmax(fits)
  fallback_height, fallback_width = largest_box(height, width, ratio)
  box_height = jnp.where(fits[first], heights[first], fallback_height)
  box_width = jnp.where(fits[first], widths[first], fallback_width)
  top = jnp.where(fits[first], jnp.floor(u[-2] * (height - box_height + 1)), (height - fallback_height) // 2)
  left = jnp.where(fits[first], jnp.floor(u[-1] * (width - box_width + 1)), (width - fallback_width) // 2)
  return jnp.stack([top, left, box_height, box_width]).astype(jnp.int32)


def largest_box(height: int, width: int, ratio: tuple[float, float]) -> tuple[int, int]:
  """Returns height and width of the largest box in the image whose width / height lies in `ratio`."""
  return min(height, max(round(width / ratio[0]), 1)), min(width, max(round(height * ratio[1]), 1))


def affine(key: jax.Array, rotation: float, shear: float, log_scale: float, translation: float) -> jax.Array:
  """Draws the [2, 3] matrix of a warp, each quantity uniform between minus and plus its bound (see `View`)."""
  u = jax.random.uniform(key, (5,), minval=-1.0)
  return resampling.affine_matrix(rotation * u[0], shear * u[1], log_scale * u[2], translation * u[3:])


def elastic(key: jax.Array, strength: float, grid: int = 4) -> jax.Array:
  """Draws normal displacements [grid, grid, 2] with standard deviation `strength`, in sides of the crop."""
  return 2.0 * strength * jax.random.normal(key, (grid, grid, 2))


def jitter_order(key: jax.Array) -> jax.Array:
  """Draws the order of brightness, contrast, saturation and hue: a permutation, int32 [4]."""
  return jax.random.permutation(key, 4)


def _between(u: jax.Array, low: float, high: float) -> jax.Array:
  return low + (high - low) * u
