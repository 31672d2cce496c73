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


def patch_grid(images: jax.Array, patch: int | tuple[int, int]) -> tuple[int, int]:
  """Returns how many rows and columns of patches images [b, h, w, c] make; `patch` is a side, or (height, width).

  Raises:
    ValueError: unless `patch` divides the images' height and width.
  """
  if images.ndim != 4:
    raise ValueError(f'images must be [b, h, w, c], got shape {images.shape}')
  sides = (patch, patch) if isinstance(patch, int) else tuple(patch)
  if len(sides) != 2 or min(sides) < 1:
    raise ValueError(f'patch must be a positive side, or a height and a width, got {patch}')
  height, width = images.shape[1:3]
  if height % sides[0] or width % sides[1]:
    raise ValueError(f'patch must divide the images: {sides[0]} x {sides[1]} does not divide {height} x {width}')
  return height // sides[0], width // sides[1]


def to_patches(images: jax.Array, patch: int | tuple[int, int]) -> jax.Array:
  """Cuts images [b, h, w, c] into patches [b, n, p], row by row; the p pixels row by row, channels last.

  Raises:
    ValueError: as `patch_grid`.
  """
  rows, columns = patch_grid(images, patch)
  b, h, w, c = images.shape
  cells = images.reshape(b, rows, h // rows, columns, w // columns, c)
  return jnp.swapaxes(cells, 2, 3).reshape(b, rows * columns, -1)


def from_patches(patches: jax.Array, grid: tuple[int, int], patch: int | tuple[int, int]) -> jax.Array:
  """Puts patches [b, n, p] in a grid of so many rows and columns together: `to_patches` undone, [b, h, w, c].

  Raises:
    ValueError: if the grid does not hold n patches, or p is no multiple of the pixels of a patch.
  """
  height, width = (patch, patch) if isinstance(patch, int) else patch
  b, n, p = patches.shape
  if n != grid[0] * grid[1] or p % (height * width):
    raise ValueError(
        f'patches must be [b, {grid[0]} x {grid[1]}, {height} x {width} x c], got shape {patches.shape}')
  cells = patches.reshape(b, *grid, height, width, -1)
  return jnp.swapaxes(cells, 2, 3).reshape(b, grid[0] * height, grid[1] * width, -1)


def single(views: Any) -> jax.Array:
  """Returns the first of a tuple of views, or the array that stands for the only one; it must be of floats."""
  view = views[0] if isinstance(views, tuple) else views
  if not jnp.issubdtype(view.dtype, jnp.floating):
    raise ValueError(f'views must be floats, those of images in [0, 1], got {view.dtype}: divide bytes by 255')
  return view
