"""Deterministic operations against colorsys, PIL, SciPy and slow float64 NumPy."""

import colorsys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image, ImageFilter
from scipy import ndimage

from jaxssl import augment

RNG = np.random.default_rng(0)
IMAGE = RNG.random((9, 7, 3)).astype(np.float32)
GREYS = np.repeat(RNG.random((9, 7, 1)).astype(np.float32), 3, axis=2)
CORNERS = np.array([[[i & 1, i >> 1 & 1, i >> 2] for i in range(8)]], np.float32)  # Of the cube of colours.


def in_hsv(image, change):
  """Applies `change(h, s, v) -> (h, s, v)` to every pixel, in Python's float64."""
  pixels = [colorsys.hsv_to_rgb(*change(*colorsys.rgb_to_hsv(*map(float, rgb)))) for rgb in image.reshape(-1, 3)]
  return np.array(pixels).reshape(image.shape)


@pytest.mark.parametrize('factor', [0.0, 0.3, 1.0, 1.8])
def test_brightness_and_contrast(factor):
  image = IMAGE.astype(np.float64)
  np.testing.assert_allclose(augment.adjust_brightness(IMAGE, factor), np.minimum(image * factor, 1), atol=1e-6)
  mean = image.mean((0, 1))
  expected = np.clip(mean + factor * (image - mean), 0, 1)
  np.testing.assert_allclose(augment.adjust_contrast(jnp.array(IMAGE), factor), expected, atol=1e-6)


@pytest.mark.parametrize('image', [IMAGE, GREYS, CORNERS], ids=['random', 'greys', 'corners'])
@pytest.mark.parametrize('factor', [0.0, 0.4, 1.0, 1.8])
def test_saturation_is_that_of_hsv(image, factor):
  expected = in_hsv(image, lambda h, s, v: (h, min(s * factor, 1.0), v))
  np.testing.assert_allclose(augment.adjust_saturation(jnp.array(image), factor), expected, atol=1e-6)


@pytest.mark.parametrize('image', [IMAGE, GREYS, CORNERS], ids=['random', 'greys', 'corners'])
@pytest.mark.parametrize('shift', [-0.5, -0.13, 0.0, 0.2, 0.5])
def test_hue_is_that_of_hsv(image, shift):
  expected = in_hsv(image, lambda h, s, v: ((h + shift) % 1.0, s, v))
  np.testing.assert_allclose(augment.adjust_hue(jnp.array(image), shift), expected, atol=3e-6)


@pytest.mark.parametrize('order', [(0, 1, 2, 3), (3, 2, 1, 0), (2, 0, 3, 1)])
def test_color_jitter_follows_the_order(order):
  image = jnp.array(IMAGE)
  expected = image
  for i in order:
    adjust = [augment.adjust_brightness, augment.adjust_contrast, augment.adjust_saturation, augment.adjust_hue][i]
    expected = adjust(expected, (1.4, 0.7, 1.6, 0.1)[i])
  np.testing.assert_allclose(augment.color_jitter(image, 1.4, 0.7, 1.6, 0.1, order), expected, atol=1e-6)


def test_grayscale_and_solarize():
  luma = IMAGE.astype(np.float64) @ [0.2989, 0.5870, 0.1140]
  np.testing.assert_allclose(augment.grayscale(jnp.array(IMAGE)), np.repeat(luma[..., None], 3, 2), atol=1e-6)
  bytes_ = np.arange(256, dtype=np.uint8).reshape(16, 16)
  expected = np.where(bytes_ < 128, bytes_, 255 - bytes_)  # PIL.ImageOps.solarize(threshold=128).
  actual = augment.solarize(jnp.array(bytes_[..., None] / 255.0))
  np.testing.assert_array_equal(np.round(255 * np.asarray(actual))[..., 0], expected)


def test_one_channel_has_no_colours():
  image = jnp.array(IMAGE[..., :1])
  for changed in (augment.grayscale(image), augment.adjust_hue(image, 0.3), augment.adjust_saturation(image, 0.1)):
    np.testing.assert_array_equal(changed, image)


@pytest.mark.parametrize('sigma, kernel', [(0.1, 3), (0.7, 3), (2.0, 5), (1.3, 7)])
def test_gaussian_blur_is_a_zero_padded_convolution(sigma, kernel):
  taps = np.exp(-0.5 * (np.arange(-(kernel // 2), kernel // 2 + 1) / sigma) ** 2)
  taps /= taps.sum()
  expected = IMAGE.astype(np.float64)
  for axis in (0, 1):
    expected = ndimage.correlate1d(expected, taps, axis, mode='constant')
  np.testing.assert_allclose(augment.gaussian_blur(jnp.array(IMAGE), sigma, kernel), expected, atol=1e-6)


def test_gaussian_blur_refuses_even_kernels():
  with pytest.raises(ValueError, match='kernel_size must be odd, got 4'):
    augment.gaussian_blur(jnp.array(IMAGE), 1.0, 4)


def test_flip():
  bytes_ = RNG.integers(0, 256, (5, 4, 3), np.uint8)
  np.testing.assert_array_equal(
      augment.flip(bytes_), Image.fromarray(bytes_).transpose(Image.Transpose.FLIP_LEFT_RIGHT))


@pytest.mark.parametrize('radius', [-1.0, 1.0])
def test_thicken_by_one_pixel_is_pils_filter(radius):
  drawing = RNG.integers(0, 256, (12, 10), np.uint8)
  pil_filter = ImageFilter.MaxFilter(3) if radius > 0 else ImageFilter.MinFilter(3)
  expected = np.asarray(Image.fromarray(drawing).filter(pil_filter))
  actual = augment.thicken(jnp.array(drawing[..., None] / 255.0), radius)
  # PIL leaves the pixels next to the edge to its own rules.
  np.testing.assert_allclose(255 * np.asarray(actual)[1:-1, 1:-1, 0], expected[1:-1, 1:-1], atol=1e-4)


@pytest.mark.parametrize('radius', [-1.7, -0.4, 0.0, 0.4, 1.7, 2.0])
def test_thicken_mixes_whole_dilations(radius):
  image = IMAGE.astype(np.float64)
  grow = ndimage.grey_dilation if radius > 0 else ndimage.grey_erosion
  whole, rest = divmod(abs(radius), 1)
  for _ in range(int(whole)):
    image = grow(image, (3, 3, 1), mode='nearest')
  expected = (1 - rest) * image + rest * grow(image, (3, 3, 1), mode='nearest')
  np.testing.assert_allclose(augment.thicken(jnp.array(IMAGE), radius, 2.0), expected, atol=1e-6)


def test_random_operations_do_it_or_leave_it():
  image, keys = jnp.array(IMAGE), jax.random.split(jax.random.key(0), 400)
  for operation, done in (
      (lambda key: augment.random_flip(key, image, 0.3), augment.flip(image)),
      (lambda key: augment.random_grayscale(key, image, 0.3), augment.grayscale(image)),
      (lambda key: augment.random_solarize(key, image, 0.5, 0.3), augment.solarize(image)),
  ):
    results = np.asarray(jax.vmap(operation)(keys))
    is_done = np.isclose(results, done, atol=1e-6).all((1, 2, 3))
    assert np.logical_or(is_done, (results == IMAGE).all((1, 2, 3))).all()
    assert abs(is_done.mean() - 0.3) < 0.09  # Four standard deviations.


def test_random_operations_stay_in_range_and_differ_by_key():
  image, keys = jnp.array(IMAGE), jax.random.split(jax.random.key(1), 16)
  for operation in (
      lambda key: augment.random_resized_crop(key, image, (5, 6)),
      lambda key: augment.random_color_jitter(key, image, probability=1.0, order=jnp.arange(4)),
      lambda key: augment.random_color_jitter(key, image, probability=1.0),
      lambda key: augment.random_gaussian_blur(key, image, 5, probability=1.0),
      lambda key: augment.random_warp(key, image, 6, rotation=30.0, elastic=0.1),
      lambda key: augment.random_thickness(key, image, 1.5),
  ):
    results = np.asarray(jax.jit(jax.vmap(operation))(keys))
    assert results.min() >= 0 and results.max() <= 1 + 1e-6
    assert len(np.unique(results.reshape(16, -1), axis=0)) >= 14  # So small an image has few boxes.
    np.testing.assert_allclose(operation(keys[3]), results[3], atol=1e-5)
