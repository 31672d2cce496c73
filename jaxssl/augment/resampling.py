"""Crops, resizing and warps of one image [h, w, c], each a single resampling.

Crops are antialiased bicubic: Keys' kernel with a = -1/2, widened by the reduction, cut at the crop's edges and
normalised. PIL's and tf.image.resize(antialias=True)'s bicubic are the same.
"""

import jax
import jax.numpy as jnp


def resized_crop(image: jax.Array, box: jax.Array, size: int | tuple[int, int]) -> jax.Array:
  """Cuts out `box` [4] (top, left, height, width; pixels) and resizes it to `size`, with values clipped to [0, 1]."""
  rows, columns = (size, size) if isinstance(size, int) else size
  height, width, _ = image.shape
  box = jnp.asarray(box)
  resized = separable(
      image, _bicubic_matrix(box[0], box[2], height, rows), _bicubic_matrix(box[1], box[3], width, columns))
  return jnp.clip(resized, 0.0, 1.0)


def resize(image: jax.Array, size: int | tuple[int, int]) -> jax.Array:
  """Resizes the whole image to `size`; values may pass the image's extremes by some percent."""
  rows, columns = (size, size) if isinstance(size, int) else size
  height, width, _ = image.shape
  return separable(image, _bicubic_matrix(0, height, height, rows), _bicubic_matrix(0, width, width, columns))


def separable(image: jax.Array, rows: jax.Array, columns: jax.Array) -> jax.Array:
  """Applies `rows` [i, h] along the height and `columns` [j, w] along the width of [h, w, c], in full precision."""
  image = jnp.einsum('ih,hwc->iwc', rows, image, precision='highest')
  return jnp.einsum('jw,iwc->ijc', columns, image, precision='highest')


def warp(
    image: jax.Array,
    box: jax.Array,
    size: int,
    affine: jax.Array,
    displacement: jax.Array | None = None,
) -> jax.Array:
  """Resamples to [size, size, c] what `affine` and `displacement` point at in `box`: bilinear, black beyond the edge.

  In the box's coordinates (y and x from -1 to 1), the view's point p shows the image at
  `affine[:, :2] @ p + affine[:, 2] + displacement(p)`, with `affine` [2, 3] and `displacement` [size, size, 2].
  Not antialiased.
  """
  axis = (2.0 * jnp.arange(size) + 1.0) / size - 1.0
  y, x = axis[:, None], axis[None, :]
  box = jnp.asarray(box, jnp.float32)
  coordinates = []
  for i in range(2):  # Rows, then columns.
    point = affine[i, 0] * y + affine[i, 1] * x + affine[i, 2]
    if displacement is not None:
      point = point + displacement[..., i]
    coordinates.append(box[i] + 0.5 * box[2 + i] * (point + 1.0) - 0.5)
  return _bilinear(image, *coordinates)


def displacement(grid: jax.Array, size: int) -> jax.Array:
  """Returns the smooth field [size, size, 2] that interpolates a coarse `grid` [g, g, 2] of displacements."""
  return resize(grid, size)


def affine_matrix(
    rotation: jax.Array | float,
    shear: jax.Array | float,
    log_scale: jax.Array | float,
    translation: jax.Array,
) -> jax.Array:
  """Returns the [2, 3] matrix for `warp`: `rotation` in degrees, `shear` in widths per height.

  The picture is sheared, turned counter-clockwise, magnified by exp(log_scale) and shifted by `translation` [2] (y, x)
  in sides of the box.
  """
  angle = jnp.deg2rad(rotation)
  cos, sin = jnp.cos(angle), jnp.sin(angle)
  # Where the view's points come from: the inverse of rotation times shear, in (y, x) coordinates.
  inverse = jnp.exp(-log_scale) * jnp.stack(
      [jnp.stack([cos, sin]), jnp.stack([-sin - shear * cos, cos - shear * sin])])
  shift = -2.0 * jnp.sum(inverse * jnp.asarray(translation)[None, :], axis=1)
  return jnp.concatenate([inverse, shift[:, None]], axis=1)


def _bicubic_matrix(start: jax.Array | int, length: jax.Array | int, size_in: int, size_out: int) -> jax.Array:
  """Returns the weights [size_out, size_in] that resize pixels start .. start + length - 1 to `size_out`."""
  step = length / size_out
  centre = (jnp.arange(size_out) + 0.5) * step - 0.5
  source = jnp.arange(size_in)[None, :] - start  # From the crop's edge: small numbers, exact in float32.
  weights = _keys((source - centre[:, None]) / jnp.maximum(step, 1.0))
  inside = jnp.broadcast_to((source >= 0) & (source < length), weights.shape)
  weights = jnp.where(inside, weights, 0.0)
  return weights / jnp.sum(weights, axis=1, keepdims=True)


def _keys(x: jax.Array) -> jax.Array:
  """Keys' cubic convolution kernel, a = -1/2 (IEEE Trans. ASSP 29, 1981, equation 15)."""
  x = jnp.abs(x)
  near = (1.5 * x - 2.5) * x * x + 1.0
  far = ((-0.5 * x + 2.5) * x - 4.0) * x + 2.0
  return jnp.where(x < 1, near, jnp.where(x < 2, far, 0.0))


def _bilinear(image: jax.Array, y: jax.Array, x: jax.Array) -> jax.Array:
  """Reads [h, w, c] at pixel coordinates `y`, `x` [i, j]; zero beyond the edge."""
  height, width, channels = image.shape
  pixels = jnp.pad(image, ((1, 1), (1, 1), (0, 0))).reshape(-1, channels)
  y, x = y + 1.0, x + 1.0  # In the padded image, whose border is black.
  top, left = jnp.floor(y), jnp.floor(x)
  dy, dx = (y - top)[..., None], (x - left)[..., None]

  def tap(row, column):
    row = jnp.clip(row, 0, height + 1).astype(jnp.int32)
    column = jnp.clip(column, 0, width + 1).astype(jnp.int32)
    return pixels[row * (width + 2) + column]

  upper = (1.0 - dx) * tap(top, left) + dx * tap(top, left + 1)
  lower = (1.0 - dx) * tap(top + 1, left) + dx * tap(top + 1, left + 1)
  return (1.0 - dy) * upper + dy * lower
