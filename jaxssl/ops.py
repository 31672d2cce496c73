"""Small functions of arrays, without parameters."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np


def l2_normalize(x: jax.Array, axis: int = -1, epsilon: float = 1e-12) -> jax.Array:
  """Scales `x` to unit Euclidean length along `axis`; a zero vector stays zero, with a zero gradient.

  Computes in float32 and returns float32, whatever float type comes in.
  """
  x = x.astype(jnp.float32)
  # The square of a length beyond 2^63 is no float32; a power of two changes nothing else.
  x = x * jnp.where(jnp.max(jnp.abs(x), axis=axis, keepdims=True) > 2.0**50, 2.0**-80, 1.0)
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


def step_mask(mask: jax.Array, steps: int, size: int | None = None) -> jax.Array:
  """Which of `steps` steps are real, bool [b, steps], from the mask of the inputs [b, n] that they were made of.

  A step is made of `size` inputs, n // steps where that is None, and is real if the last of them is.

  Raises:
    ValueError: if n inputs do not make so many steps.
  """
  size = mask.shape[1] // steps if size is None else size
  if size < 1 or mask.shape[1] // size != steps:
    raise ValueError(
        f'mask must be that of the inputs of {steps} steps, {max(size, 1)} each, got shape {list(mask.shape)}')
  return mask[:, size - 1::size][:, :steps]


def single(views: Any) -> jax.Array:
  """Returns the first of a tuple of views, or the array that stands for the only one."""
  return views[0] if isinstance(views, tuple) else views
