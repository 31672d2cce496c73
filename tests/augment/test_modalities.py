"""Colour spaces against scikit-image, halves and gradients by hand, and recipes of several modalities."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxssl import augment, recipes

# What skimage.color.rgb2lab and rgb2ycbcr of scikit-image 0.26.0 return, rounded to 1e-4.
RGB = [[0, 0, 0], [1, 1, 1], [1, 0, 0], [0, 1, 0], [0, 0, 1], [0.5, 0.5, 0.5], [0.02, 0.03, 0.01], [0.2, 0.7, 0.4],
       [0.9, 0.1, 0.6], [0.04, 0.04045, 0.05]]
LAB = [[0, 0, 0], [100, -0.0025, 0.0047], [53.2406, 80.0923, 67.2028], [87.7351, -86.183, 83.1797],
       [32.2957, 79.1856, -107.8573], [53.389, -0.0015, 0.0028], [1.8478, -1.3761, 1.6953],
       [64.7248, -51.6417, 29.3554], [51.5667, 78.9801, -16.3543], [2.8738, 0.3386, -1.014]]
YCBCR = [[16, 128, 128], [235, 128, 128], [81.481, 90.203, 240], [144.553, 53.797, 34.214], [40.966, 240, 109.786],
         [125.5, 128, 128], [21.4159, 126.138, 127.2443], [129.0697, 113.2985, 77.4642],
         [102.7678, 153.7624, 208.493], [25.0675, 129.0866, 127.7757]]
IMAGES = np.random.default_rng(0).integers(0, 256, (4, 9, 8, 3), np.uint8)


@pytest.mark.parametrize('name, expected', [('rgb_to_lab', LAB), ('rgb_to_ycbcr', YCBCR)])
def test_colours_are_those_of_scikit_image(name, expected):
  convert = getattr(augment, name)
  np.testing.assert_allclose(convert(jnp.float32(RGB)), expected, atol=1e-3)
  np.testing.assert_allclose(convert(jnp.float32(RGB).reshape(2, 5, 3)), np.reshape(expected, (2, 5, 3)), atol=1e-3)
  assert np.all(np.isfinite(jax.jacobian(convert)(jnp.zeros(3))))
  with pytest.raises(ValueError, match=r'needs images with three channels, red, green and blue, got shape \(4, 1\)'):
    convert(jnp.zeros((4, 1)))


@pytest.mark.parametrize('name, expected', [('rgb_to_lab', LAB), ('rgb_to_ycbcr', YCBCR)])
def test_tensorflow_converts_alike(name, expected):
  pytest.importorskip('tensorflow')
  from jaxssl.data import tf_image
  np.testing.assert_allclose(getattr(tf_image, name)(np.float32(RGB)), expected, atol=1e-3)
  image = np.float32(IMAGES[0] / 255)
  np.testing.assert_allclose(getattr(tf_image, name)(image), getattr(augment, name)(image), atol=1e-3)


def test_channels_lie_within_one():
  """All of sRGB's corners, where each channel is largest or smallest."""
  corners = jnp.float32(np.stack(np.meshgrid([0, 1], [0, 1], [0, 1]), -1).reshape(1, 8, 3))
  for name in ('L', 'a', 'b', 'Y', 'Cb', 'Cr'):
    shown = augment.modality(corners, name)
    assert shown.shape == (1, 8, 1)
    np.testing.assert_allclose(shown.max() - shown.min(), 2, atol=2e-2, err_msg=name)
    np.testing.assert_allclose(shown.max(), 1, atol=2e-2 if name in 'Lab' else 0.1, err_msg=name)
  for pair, parts in (('ab', 'a b'), ('CbCr', 'Cb Cr')):
    both = jnp.concatenate([augment.modality(corners, part) for part in parts.split()], axis=-1)
    np.testing.assert_array_equal(augment.modality(corners, pair), both)


def test_halves():
  image = jnp.arange(15.0).reshape(1, 3, 5, 1)
  rows = lambda name: np.asarray(augment.modality(image, name))[0, :, :, 0].tolist()
  assert rows('left') == [[0, 1], [5, 6], [10, 11]] and rows('right') == [[3, 4], [8, 9], [13, 14]]
  assert rows('top') == [[0, 1, 2, 3, 4]] and rows('bottom') == [[10, 11, 12, 13, 14]]


def test_gradients_are_sobel():
  from scipy import ndimage
  image = jnp.float32(IMAGES[:, :, :, :1] / 255)
  shown = augment.gradients(image)
  for i in range(4):
    for axis in (0, 1):
      expected = ndimage.sobel(np.asarray(image[i, ..., 0], np.float64), axis=axis, mode='nearest') / 4
      np.testing.assert_allclose(shown[i, ..., axis], expected, atol=1e-6)
  edge = jnp.concatenate([jnp.zeros((4, 4, 1)), jnp.ones((4, 4, 1))], axis=1)
  assert float(augment.gradients(edge).max()) == 1.0  # A step of all of the range, along all of the filter.


@pytest.mark.parametrize('engine', ['device', 'host', 'split'])
def test_a_recipe_shows_modalities_of_one_crop(engine):
  recipe = recipes.multiview(8, ('L', 'ab', 'image'), flip=0.0)
  crops = (IMAGES[:, :8, :8],)
  batch = {'inputs': IMAGES} if engine == 'device' else {'inputs': IMAGES[:, :8], 'views': crops}
  made = jax.jit(augment.prepare(recipe, engine))(batch, jax.random.key(0))
  assert [view.shape for view in made['views']] == [(4, 8, 8, 1), (4, 8, 8, 2), (4, 8, 8, 3)]
  lightness, ab, image = made['views']
  np.testing.assert_allclose(augment.modality(image, 'L'), lightness, atol=1e-5)
  np.testing.assert_allclose(augment.modality(image, 'ab'), ab, atol=1e-5)
  assert [x.shape[-1] for x in made['inputs']] == [1, 2, 3]
  whole = made['inputs'][2]
  expected = augment.resize_inputs(IMAGES, recipe) if engine == 'device' else IMAGES[:, :8] / 255
  np.testing.assert_allclose(whole, expected, atol=1e-6)


def test_a_recipe_with_a_crop_for_each_view():
  same = recipes.multiview(8, ('image', 'image'), area=(0.2, 0.4))
  own = recipes.multiview(8, ('image', 'image'), area=(0.2, 0.4), same_crop=False)
  one, other = (augment.prepare(recipe)({'inputs': IMAGES}, jax.random.key(0))['views'] for recipe in (same, own))
  assert (len(same.views), len(own.views)) == (1, 2)
  np.testing.assert_array_equal(*one)
  assert not np.allclose(*other, atol=0.01)


@pytest.mark.parametrize('make, message', [
    (lambda: recipes.multiview(8, ('L', 'AB')), "modalities must be among L, ab, .*, got 'AB'"),
    (lambda: recipes.multiview(8, ()), 'modalities must name what each view shows, .* got none'),
    (lambda: recipes.Recipe((recipes.View(8),) * 2, 8, modalities=('L', 'a', 'b')), 'one for each of the 3 modalit.*2'),
    (lambda: recipes.Recipe((recipes.View(8),), 8, patches=recipes.Patches(4, 4), modalities=('L',)), 'patches are of'),
    (lambda: augment.modality(jnp.zeros((8, 8, 3)), 'ba'), "modality must be one of L, ab, .*, got 'ba'"),
    (lambda: augment.modality(jnp.zeros((8, 1, 3)), 'left'), r'halves need images of two pixels .*\(8, 1, 3\)'),
    (lambda: recipes.multiview(8, 'ab'), "modalities must be a tuple of names, got 'ab'"),
    (lambda: augment.modality(jnp.zeros((8, 8, 1)), 'ab'), r'rgb_to_lab needs images with three .*\(8, 8, 1\)'),
])
def test_mistakes_are_named(make, message):
  with pytest.raises(ValueError, match=message):
    make()
