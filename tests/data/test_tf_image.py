"""The host's engine makes the device engine's pixels, to 1e-5 in [0, 1], and draws the same distributions."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from jaxssl import augment, recipes
from jaxssl.augment import engine as jax_engine
from jaxssl.recipes import Params, Recipe, View

tf = pytest.importorskip('tensorflow')
from jaxssl.data import tf_image  # noqa: E402

RNG = np.random.default_rng(0)
TOLERANCE = 1e-5
ALL = View(
    12, jitter=1.0, grey=0.5, solarize=0.5, rotation=30.0, shear=0.2, log_scale=0.2, translation=0.1, elastic=0.05,
    thickness=1.5)
COLOURS = View(24, jitter=1.0, grey=0.3, solarize=0.3)


def picture(height, width, channels):
  return RNG.integers(0, 256, (height, width, channels), np.uint8)


def both(name, image, *parameters):
  """Runs the operation `name` of both engines on bytes scaled to [0, 1]."""
  scaled = np.float32(image) / np.float32(255)
  ours = getattr(augment, name)(jnp.array(scaled), *map(jnp.asarray, parameters))
  return np.asarray(ours), getattr(tf_image, name)(tf.constant(scaled), *parameters).numpy()


@pytest.mark.parametrize('channels', [1, 3])
@pytest.mark.parametrize('name, parameter', [
    ('adjust_brightness', 1.5), ('adjust_brightness', 0.2), ('adjust_contrast', 1.7), ('adjust_contrast', 0.3),
    ('adjust_saturation', 1.7), ('adjust_saturation', 0.3), ('adjust_hue', 0.17), ('adjust_hue', -0.2),
    ('solarize', 0.5)])
def test_colour_operations_agree(name, parameter, channels):
  ours, theirs = both(name, picture(13, 17, channels), np.float32(parameter))
  np.testing.assert_allclose(theirs, ours, atol=TOLERANCE)


@pytest.mark.parametrize('name, reference, parameter', [
    ('adjust_contrast', tf.image.adjust_contrast, 1.6), ('adjust_saturation', tf.image.adjust_saturation, 0.4),
    ('adjust_hue', tf.image.adjust_hue, 0.2)])
def test_both_engines_are_tf_image(name, reference, parameter):
  image = picture(13, 17, 3)
  expected = np.clip(reference(np.float32(image) / np.float32(255), parameter).numpy(), 0, 1)
  for actual in both(name, image, np.float32(parameter)):
    np.testing.assert_allclose(actual, expected, atol=TOLERANCE)


@pytest.mark.parametrize('channels', [1, 3])
def test_grayscale_blur_and_thickness_agree(channels):
  image = picture(21, 17, channels)
  scaled = np.float32(image) / np.float32(255)
  pairs = [both('grayscale', image)]
  for sigma, kernel in ((0.1, 3), (1.3, 5), (2.0, 9)):
    pairs.append((augment.gaussian_blur(jnp.array(scaled), sigma, kernel),
                  tf_image.gaussian_blur(tf.constant(scaled), sigma, kernel)))
  for radius in (-1.4, -0.3, 0.0, 0.8, 2.0):
    pairs.append((augment.thicken(jnp.array(scaled), radius, 2.0), tf_image.thicken(tf.constant(scaled), radius, 2.0)))
  for ours, theirs in pairs:
    np.testing.assert_allclose(theirs, ours, atol=TOLERANCE)
  if channels == 3:
    np.testing.assert_allclose(pairs[0][1][..., :1], tf.image.rgb_to_grayscale(scaled), atol=TOLERANCE)


@pytest.mark.parametrize('height, width, channels, box, size', [
    (32, 32, 3, (3, 4, 20, 17), 32), (50, 37, 1, (0, 0, 50, 37), 12), (40, 61, 3, (5, 30, 11, 31), 24),
    (9, 9, 3, (8, 0, 1, 9), 5)])
def test_crops_agree(height, width, channels, box, size):
  image = picture(height, width, channels)
  ours = augment.resized_crop(jnp.array(image / np.float32(255)), jnp.array(box), size)
  np.testing.assert_allclose(tf_image.resized_crop(tf.constant(image), tf.constant(box), size), ours, atol=TOLERANCE)
  top, left, rows, columns = box
  crop = image[top:top + rows, left:left + columns]
  expected = tf.image.resize(crop, [size, size], 'bicubic', antialias=True) / 255
  np.testing.assert_allclose(ours, np.clip(expected, 0, 1), atol=TOLERANCE)


def test_affine_and_displacement_agree():
  values = (20.0, 0.2, -0.1, np.float32([0.1, -0.2]))
  np.testing.assert_allclose(tf_image.affine_matrix(*values), augment.affine_matrix(*values), atol=1e-6)
  grid = RNG.normal(0, 0.1, (4, 4, 2)).astype(np.float32)
  np.testing.assert_allclose(tf_image.displacement(tf.constant(grid), 28), augment.displacement(grid, 28), atol=1e-6)


@pytest.mark.parametrize('view, height, width, channels', [
    (COLOURS, 32, 32, 3), (COLOURS, 24, 40, 1), (COLOURS, 75, 50, 3), (ALL, 28, 28, 1), (ALL, 31, 20, 3),
    (recipes.drawings(28).views[0], 28, 28, 1)])
def test_whole_views_agree(view, height, width, channels):
  """The same parameters and order, drawn by the device's engine, give the same pixels from end to end."""
  image = picture(height, width, channels)

  @jax.jit
  def draw(key):
    params, order = augment.sample(key, view, height, width), augment.jitter_order(key)
    return params, order, augment.apply(jnp.array(image / np.float32(255)), params, view, order)

  apply = tf.function(
      lambda *flat: tf_image.apply(tf.constant(image), Params(*flat[:-1]), view, flat[-1]), autograph=False)
  for seed in range(12):
    params, order, ours = jax.device_get(draw(jax.random.key(seed)))
    theirs = apply(*(tf.constant(value) for value in (*params, order)))
    np.testing.assert_allclose(theirs, ours, atol=TOLERANCE)


def test_large_views_agree_to_a_fortieth_of_a_grey_level():
  """Both round positions to float32, an error of 1e-5 in the crop that grows with its size; the jitter magnifies it."""
  view, image = recipes.simclr(96).views[0], picture(120, 100, 3)
  scaled = jnp.array(image / np.float32(255))
  sample = jax.jit(lambda key: augment.sample(key, view, 120, 100))
  apply = jax.jit(lambda params, order: augment.apply(scaled, params, view, order))
  for seed in range(6):
    params, order = sample(jax.random.key(seed)), np.random.default_rng(seed).permutation(4).astype(np.int32)
    theirs = tf_image.apply(tf.constant(image), jax.tree.map(lambda x: tf.constant(np.asarray(x)), params), view, order)
    np.testing.assert_allclose(theirs, apply(params, order), atol=1e-4)


@pytest.fixture(scope='module')
def draws():
  """4,000 draws of the host's sampler."""
  view = dataclasses.replace(ALL, jitter=0.8, grey=0.2, solarize=0.1)
  one = lambda i: tuple(tf_image.sample(tf.random.fold_in([3, 4], i), view, 64, 96))
  return Params(*(x.numpy() for x in next(iter(tf.data.Dataset.range(4000).map(one).batch(4000)))))


def test_sampled_frequencies_and_ranges(draws):
  for name, probability in (('flip', 0.5), ('jitter', 0.8), ('grey', 0.2), ('blur', 0.5), ('solarize', 0.1)):
    assert stats.binomtest(int(getattr(draws, name).sum()), 4000, probability).pvalue > 1e-3, name
  for name, low, high in (
      ('brightness', 0.2, 1.8), ('contrast', 0.2, 1.8), ('saturation', 0.2, 1.8), ('hue', -0.2, 0.2),
      ('sigma', 0.1, 2.0), ('thickness', -1.5, 1.5)):
    values = getattr(draws, name)
    assert stats.kstest(values, stats.uniform(low, high - low).cdf).pvalue > 1e-3, name
  assert stats.kstest(draws.elastic.ravel() / 0.1, 'norm').pvalue > 1e-3


def test_samplers_of_both_engines_agree_in_distribution(draws):
  view = dataclasses.replace(ALL, jitter=0.8, grey=0.2, solarize=0.1)
  keys = jax.random.split(jax.random.key(0), 4000)
  device = jax.jit(jax.vmap(lambda key: augment.sample(key, view, 64, 96)))(keys)
  for name in ('box', 'affine'):
    ours, theirs = (np.asarray(getattr(params, name)).reshape(4000, -1) for params in (device, draws))
    for column in range(ours.shape[1]):
      assert stats.ks_2samp(ours[:, column], theirs[:, column]).pvalue > 1e-3, (name, column)
  top, left, height, width = draws.box.T
  assert (top >= 0).all() and (left >= 0).all() and (top + height <= 64).all() and (left + width <= 96).all()
  area = height * width / (64 * 96)
  assert area.min() > 0.07 and area.max() <= 1 and (width / height).max() < 1.5 and (width / height).min() > 0.66


def test_a_ratio_that_never_fits_gives_the_largest_centred_box():
  view = View(8, area=(1.0, 1.0), ratio=(1.0, 1.0))
  np.testing.assert_array_equal(tf_image.sample([0, 1], view, 10, 100).box, [0, 45, 10, 10])


@pytest.mark.parametrize('engine', ['host', 'split'])
def test_views_are_bytes_that_depend_on_the_seed_alone(engine):
  recipe = Recipe((COLOURS, COLOURS, ALL), 16)
  image = tf.constant(picture(30, 40, 3))
  make = tf.function(lambda seed: tf_image.views(image, seed, recipe, engine), autograph=False)
  first, again, other = (make(tf.constant(seed)) for seed in ([1, 2], [1, 2], [1, 3]))
  for view, one, same, different in zip(recipe.views, first, again, other, strict=True):
    assert one.dtype == tf.uint8 and one.shape == (view.size, view.size, 3)
    np.testing.assert_array_equal(one, same)
    assert (one.numpy() != different.numpy()).any()
  assert (first[0].numpy() != first[1].numpy()).any()


def test_views_follow_the_orders_given():
  view = View(16, area=(1, 1), ratio=(1, 1), flip=0, jitter=1.0, grey=0, blur=0)
  image, seed = picture(16, 16, 3), tf.constant([5, 6])
  order = np.int32([3, 1, 0, 2])
  made = tf_image.views(tf.constant(image), seed, Recipe((view,), 16), 'host', order[None])[0]
  params = jax.tree.map(lambda x: x.numpy(), tf_image.sample(tf.random.fold_in(seed, 0), view, 16, 16))
  expected = 255 * augment.apply(jnp.array(image / np.float32(255)), params, view, jnp.array(order))
  np.testing.assert_allclose(made.numpy(), expected, atol=0.51)  # Rounded to whole bytes.


def test_split_is_the_half_that_the_device_completes():
  """Host crops, recoloured on the device, are the host's whole views for the same parameters, but for two roundings."""
  view = View(16, jitter=1.0, brightness=0.2, contrast=0.2, saturation=0.2, hue=0.05, grey=0.3)
  image, recipe, seed, order = picture(40, 30, 3), Recipe((view,), 16), tf.constant([1, 2]), np.int32([[0, 1, 2, 3]])
  crop = tf_image.views(tf.constant(image), seed, recipe, 'split')[0].numpy()
  whole = tf_image.views(tf.constant(image), seed, recipe, 'host', order)[0].numpy()
  params = jax.tree.map(lambda x: x.numpy(), tf_image.sample(tf.random.fold_in(seed, 0), view, 40, 30))
  done = jax_engine.recolour(jnp.array(crop / np.float32(255)), params, view, jnp.array(order[0]))
  assert np.abs(crop / 255.0 - done).max() > 0.02
  np.testing.assert_allclose(255 * done, whole, atol=3)


@pytest.mark.parametrize('crop, height, width', [(1.0, 16, 16), (0.875, 40, 25), (0.5, 17, 31)])
def test_inputs_are_those_of_the_device(crop, height, width):
  recipe = dataclasses.replace(recipes.crop_flip(16), input_crop=crop)
  image = picture(height, width, 3)
  made = tf_image.inputs(tf.constant(image), recipe)
  assert made.dtype == tf.uint8
  np.testing.assert_allclose(made.numpy(), 255 * augment.resize_inputs(image[None], recipe)[0], atol=0.51)


def test_wrong_engine():
  with pytest.raises(ValueError, match="engine must be host or split, got 'device'"):
    tf_image.views(picture(8, 8, 3), [0, 1], recipes.crop_flip(8), 'device')
