"""Patches and masks against slow NumPy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxssl import ops


@pytest.mark.parametrize('height, width, size, stride', [(8, 8, 4, None), (7, 11, 3, 2), (5, 5, 5, 3), (9, 6, 3, 3)])
@pytest.mark.parametrize('dtype', [np.uint8, np.float32])
def test_patchify_equals_a_loop(height, width, size, stride, dtype):
  images = np.random.default_rng(0).integers(0, 256, (2, height, width, 3)).astype(dtype)
  step = stride or size
  rows, columns = (height - size) // step + 1, (width - size) // step + 1
  expected = np.zeros((2, rows, columns, size, size, 3), dtype)
  for row in range(rows):
    for column in range(columns):
      top, left = row * step, column * step
      expected[:, row, column] = images[:, top:top + size, left:left + size]
  patches = jax.jit(ops.patchify, static_argnums=(1, 2))(images, size, stride)
  assert patches.dtype == dtype
  np.testing.assert_array_equal(patches, expected)


@pytest.mark.parametrize('shape, size, stride, message', [
    ((1, 10, 9, 3), 3, 2, r'3 pixels plus a multiple of the stride 2 high and wide .* got shape \(1, 10, 9, 3\)'),
    ((1, 2, 2, 3), 3, 1, r'3 pixels plus a multiple of the stride 1'),
    ((9, 9, 3), 3, 2, r'images must be \[b, h, w, c\], got shape \(9, 9, 3\)'),
    ((1, 9, 9, 3), 3, 0, 'size and stride must be positive, got 3 and 0'),
])
def test_patches_that_do_not_fit_are_an_error(shape, size, stride, message):
  with pytest.raises(ValueError, match=message):
    ops.patchify(jnp.zeros(shape), size, stride)


def test_step_mask_is_that_of_each_steps_last_input():
  mask = jnp.arange(11)[None] < jnp.array([[11], [7], [6], [2], [0]])
  expected = [[True, True, True], [True, True, False], [True, True, False], [False, False, False], [False] * 3]
  np.testing.assert_array_equal(ops.step_mask(mask, 3), expected)
  np.testing.assert_array_equal(ops.step_mask(mask, 11), mask)
  of_four = [[True, True], [True, False], [True, False], [False, False], [False, False]]
  np.testing.assert_array_equal(ops.step_mask(mask, 2, 4), of_four)
  for steps, size in ((12, None), (3, 4), (2, 3)):
    with pytest.raises(ValueError, match=rf'mask must be that of the inputs of {steps} steps, .* got shape \[5, 11\]'):
      ops.step_mask(mask, steps, size)


def test_patches_are_cut_row_by_row_and_put_together_again():
  images = np.arange(2 * 4 * 6 * 3).reshape(2, 4, 6, 3)
  patches = ops.to_patches(images, (2, 3))
  assert ops.patch_grid(images, (2, 3)) == (2, 2) and patches.shape == (2, 4, 18)
  for n, (row, column) in enumerate([(0, 0), (0, 3), (2, 0), (2, 3)]):
    np.testing.assert_array_equal(patches[:, n], images[:, row : row + 2, column : column + 3].reshape(2, -1))
  np.testing.assert_array_equal(ops.from_patches(patches, (2, 2), (2, 3)), images)
  np.testing.assert_array_equal(ops.from_patches(ops.to_patches(images, 2), (2, 3), 2), images)


@pytest.mark.parametrize('shape, patch, message', [
    ((2, 4, 6), 2, r'images must be \[b, h, w, c\], got shape \(2, 4, 6\)'),
    ((2, 4, 6, 1), 4, 'patch must divide the images: 4 x 4 does not divide 4 x 6'),
    ((2, 4, 6, 1), 0, 'patch must be a positive side, or a height and a width, got 0'),
    ((2, 4, 6, 1), (2, 3, 1), r'got \(2, 3, 1\)'),
])
def test_patches_that_do_not_fit(shape, patch, message):
  with pytest.raises(ValueError, match=message):
    ops.to_patches(np.zeros(shape), patch)


def test_patches_of_another_grid_are_refused():
  with pytest.raises(ValueError, match=r'patches must be \[b, 2 x 3, 2 x 2 x c\], got shape \(1, 4, 12\)'):
    ops.from_patches(np.zeros((1, 4, 12)), (2, 3), 2)


def test_the_first_of_several_views_is_of_floats():
  x = jnp.ones((2, 3))
  assert ops.single((x, 2 * x)) is x and ops.single(x) is x
  with pytest.raises(ValueError, match='views must be floats, those of images in .0, 1., got uint8'):
    ops.single(jnp.zeros((2, 4, 4, 1), jnp.uint8))
