"""Random operations on one image [h, w, c], float in [0, 1]: `op(key, image, ...)`; map them over batches with `vmap`.

Each draws its parameters from `key` and calls the deterministic operation of `jaxssl.augment`.
"""

import jax
import jax.numpy as jnp

from jaxssl.augment import image as ops
from jaxssl.augment import resampling, sampling


def random_resized_crop(
    key: jax.Array,
    image: jax.Array,
    size: int | tuple[int, int],
    area: tuple[float, float] = (0.08, 1.0),
    ratio: tuple[float, float] = (3 / 4, 4 / 3),
) -> jax.Array:
  """Cuts out a random box, of a share of the image within `area` and width / height within `ratio`, and resizes it."""
  height, width, _ = image.shape
  return resampling.resized_crop(image, sampling.crop_box(key, height, width, area, ratio), size)


def random_flip(key: jax.Array, image: jax.Array, probability: float = 0.5) -> jax.Array:
  """Mirrors left and right with `probability`."""
  return jnp.where(jax.random.bernoulli(key, probability), ops.flip(image), image)


def random_color_jitter(
    key: jax.Array,
    image: jax.Array,
    brightness: float = 0.8,
    contrast: float = 0.8,
    saturation: float = 0.8,
    hue: float = 0.2,
    probability: float = 0.8,
    order: jax.Array | None = None,
) -> jax.Array:
  """With `probability`, changes brightness, contrast and saturation by factors within 1 +- their bound, hue by a shift.

  `order` None draws the order from `key` too; in a `vmap`, one order for all images is some four times faster.
  """
  apply_key, order_key, *keys = jax.random.split(key, 6)
  factor = lambda key, bound: jax.random.uniform(key, minval=max(1.0 - bound, 0.0), maxval=1.0 + bound)
  jittered = ops.color_jitter(
      image,
      factor(keys[0], brightness),
      factor(keys[1], contrast),
      factor(keys[2], saturation),
      jax.random.uniform(keys[3], minval=-hue, maxval=hue),
      sampling.jitter_order(order_key) if order is None else order,
  )
  return jnp.where(jax.random.bernoulli(apply_key, probability), jittered, image)


def random_grayscale(key: jax.Array, image: jax.Array, probability: float = 0.2) -> jax.Array:
  """Drops the colours with `probability`."""
  return jnp.where(jax.random.bernoulli(key, probability), ops.grayscale(image), image)


def random_gaussian_blur(
    key: jax.Array,
    image: jax.Array,
    kernel_size: int,
    sigma: tuple[float, float] = (0.1, 2.0),
    probability: float = 0.5,
) -> jax.Array:
  """With `probability`, blurs by a standard deviation uniform in `sigma`, in pixels."""
  apply_key, sigma_key = jax.random.split(key)
  width = jax.random.uniform(sigma_key, minval=sigma[0], maxval=sigma[1])
  return jnp.where(jax.random.bernoulli(apply_key, probability), ops.gaussian_blur(image, width, kernel_size), image)


def random_solarize(
    key: jax.Array, image: jax.Array, threshold: float = 0.5, probability: float = 0.2
) -> jax.Array:
  """With `probability`, inverts the values from `threshold` up."""
  return jnp.where(jax.random.bernoulli(key, probability), ops.solarize(image, threshold), image)


def random_warp(
    key: jax.Array,
    image: jax.Array,
    size: int,
    rotation: float = 0.0,
    shear: float = 0.0,
    log_scale: float = 0.0,
    translation: float = 0.0,
    elastic: float = 0.0,
    elastic_grid: int = 4,
) -> jax.Array:
  """Warps the image into [size, size, c], by one affine and one elastic map with the bounds of `View`."""
  affine_key, elastic_key = jax.random.split(key)
  height, width, _ = image.shape
  affine = sampling.affine(affine_key, rotation, shear, log_scale, translation)
  field = resampling.displacement(sampling.elastic(elastic_key, elastic, elastic_grid), size) if elastic else None
  return resampling.warp(image, jnp.array([0, 0, height, width]), size, affine, field)


def random_thickness(key: jax.Array, image: jax.Array, max_radius: float = 1.0) -> jax.Array:
  """Widens or thins bright strokes by up to `max_radius` pixels on either side."""
  radius = jax.random.uniform(key, minval=-max_radius, maxval=max_radius)
  return ops.thicken(image, radius, max_radius)
