"""Crops against PIL, warps against SciPy, matrices against closed forms."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image
from scipy import ndimage

from jaxssl import augment

RNG = np.random.default_rng(0)
IMAGE = RNG.random((20, 24, 2)).astype(np.float32)
BLOB = ndimage.gaussian_filter(RNG.random((20, 24, 2)), (2, 2, 0)).astype(np.float32)
resized_crop = jax.jit(augment.resized_crop, static_argnums=2)


@pytest.mark.parametrize('box', [(0, 0, 20, 24), (3, 5, 7, 9), (0, 20, 20, 4), (19, 0, 1, 24), (4, 2, 13, 13)])
@pytest.mark.parametrize('size', [5, 13, 31])
def test_resized_crop_is_pils_bicubic(box, size):
  top, left, height, width = box
  actual = np.asarray(resized_crop(jnp.array(IMAGE), jnp.array(box), size))
  for channel in range(2):
    crop = Image.fromarray(IMAGE[top:top + height, left:left + width, channel])
    expected = np.clip(np.asarray(crop.resize((size, size), Image.Resampling.BICUBIC)), 0, 1)
    np.testing.assert_allclose(actual[..., channel], expected, atol=2e-6)


def test_resize_takes_height_and_width_and_keeps_the_whole_image():
  np.testing.assert_allclose(augment.resize(jnp.array(IMAGE), (20, 24)), IMAGE, atol=1e-6)
  assert augment.resize(jnp.array(IMAGE), (3, 50)).shape == (3, 50, 2)


@pytest.mark.parametrize('box', [(0, 0, 20, 24), (4, 2, 13, 9)])
def test_warp_is_scipys_linear_interpolation(box):
  affine = np.array([[0.9, 0.4, 0.1], [-0.3, 1.2, -0.6]], np.float32)
  field = RNG.normal(0, 0.1, (15, 15, 2)).astype(np.float32)
  actual = augment.warp(jnp.array(IMAGE), jnp.array(box), 15, jnp.array(affine), jnp.array(field))
  axis = (2 * np.arange(15) + 1) / 15 - 1
  y, x = np.meshgrid(axis, axis, indexing='ij')
  points = np.einsum('ij,jhw->ihw', affine.astype(np.float64), np.stack([y, x, np.ones_like(y)]))
  points += np.moveaxis(field, -1, 0)
  pixels = [box[i] + box[2 + i] * (points[i] + 1) / 2 - 0.5 for i in range(2)]
  for channel in range(2):
    expected = ndimage.map_coordinates(IMAGE[..., channel].astype(np.float64), pixels, order=1, mode='grid-constant')
    np.testing.assert_allclose(actual[..., channel], expected, atol=2e-5)


def test_warp_far_outside_is_black():
  affine = jnp.array([[1.0, 0.0, 1e12], [0.0, 1.0, -1e12]])
  np.testing.assert_array_equal(augment.warp(jnp.array(IMAGE), jnp.array([0, 0, 20, 24]), 6, affine), 0.0)


def transform(image, **changes):
  values = {'rotation': 0.0, 'shear': 0.0, 'log_scale': 0.0, 'translation': jnp.zeros(2), **changes}
  size = image.shape[0]
  return np.asarray(
      augment.warp(jnp.array(image), jnp.array([0, 0, size, size]), size, augment.affine_matrix(**values)))


def test_affine_matrix_does_what_its_arguments_say():
  image = BLOB[:, :20]
  np.testing.assert_allclose(transform(image), image, atol=1e-5)
  np.testing.assert_allclose(transform(image, rotation=90.0), np.rot90(image), atol=1e-5)  # Counter-clockwise.
  shifted = transform(image, translation=jnp.array([0.1, -0.2]))  # Two pixels down, four to the left.
  np.testing.assert_allclose(shifted[2:, :-4], image[:-2, 4:], atol=1e-5)
  np.testing.assert_array_equal(shifted[:2], 0)
  doubled = transform(image, log_scale=np.log(2.0))
  inner = transform(image[5:15, 5:15])
  np.testing.assert_allclose(doubled.reshape(10, 2, 10, 2, 2).mean((1, 3))[1:-1, 1:-1], (
      ndimage.correlate(inner, np.outer([1, 6, 1], [1, 6, 1])[..., None] / 64))[1:-1, 1:-1], atol=1e-5)


def test_shear_moves_rows_sideways():
  image = np.zeros((21, 21, 1), np.float32)
  image[:, 10] = 1.0
  sheared = transform(image, shear=0.5)
  centres = (sheared[..., 0] * np.arange(21)).sum(1) / sheared[..., 0].sum(1)
  np.testing.assert_allclose(centres, 10 + 0.5 * (np.arange(21) - 10), atol=1e-4)


def test_displacement_interpolates_the_grid_smoothly():
  constant = augment.displacement(jnp.full((4, 4, 2), 0.3), 28)
  np.testing.assert_allclose(constant, 0.3, atol=1e-6)
  grid = RNG.normal(size=(4, 4, 2)).astype(np.float32)
  field = np.asarray(augment.displacement(jnp.array(grid), 28))
  # A pixel's own grid point lies 7 pixels apart: at 3 and 10, between the middle two of each cell.
  np.testing.assert_allclose(field[3::7, 3::7], grid, atol=0.25)
  assert np.abs(np.diff(field, axis=0)).max() < 0.5
