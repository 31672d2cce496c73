"""Whole recipes on batches: one device equals eight, engines agree, views are independent."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from jaxssl import augment, recipes
from jaxssl.augment import engine as engine_module
from jaxssl.ops import patchify
from jaxssl.recipes import Patches, Recipe, View

RNG = np.random.default_rng(0)
SHAPES = View(12, rotation=20.0, elastic=0.03, thickness=1.0, jitter=0.0, grey=0.0, blur=0.0)
RECIPE = Recipe((View(16, solarize=0.2), SHAPES), 16)
IMAGES = RNG.integers(0, 256, (8, 18, 16, 3), np.uint8)


@pytest.fixture(scope='module')
def prepare():
  return jax.jit(augment.prepare(RECIPE, 'device'))


def test_prepare_on_the_device(prepare):
  batch = prepare({'inputs': IMAGES, 'label': np.arange(8)}, jax.random.key(0))
  assert [view.shape for view in batch['views']] == [(8, 16, 16, 3), (8, 12, 12, 3)]
  for array in (*batch['views'], batch['inputs']):
    assert array.dtype == jnp.float32
    assert array.min() >= 0
    assert array.max() <= 1 + 1e-6
  np.testing.assert_array_equal(batch['label'], np.arange(8))
  np.testing.assert_allclose(batch['inputs'], augment.resize_inputs(IMAGES, RECIPE), atol=1e-6)


def test_views_are_apply_of_sample(prepare):
  key = jax.random.key(3)
  views = prepare({'inputs': IMAGES}, key)['views']
  example_key, order_key = jax.random.split(key)
  keys = jax.random.split(example_key, 8)
  for index, view in enumerate(RECIPE.views):
    params = augment.sample(jax.random.fold_in(keys[5], index), view, 18, 16)
    order = augment.jitter_order(jax.random.fold_in(order_key, index))
    image = jnp.array(IMAGES[5] / 255.0, jnp.float32)
    one = jax.jit(augment.apply, static_argnums=2)(image, params, view, order)
    np.testing.assert_allclose(views[index][5], one, atol=1e-5)


def test_views_depend_on_the_key_alone(prepare):
  first, again, other = (prepare({'inputs': IMAGES}, jax.random.key(seed))['views'] for seed in (0, 0, 1))
  for one, same, different in zip(first, again, other, strict=True):
    np.testing.assert_array_equal(one, same)
    assert all(np.abs(one[i] - different[i]).max() > 1e-3 for i in range(8))


def test_views_of_one_image_and_equal_images_differ(prepare):
  same = np.repeat(IMAGES[:1], 8, axis=0)
  recipe = Recipe((RECIPE.views[0],) * 2, 16)
  a, b = jax.jit(augment.prepare(recipe))({'inputs': same}, jax.random.key(0))['views']
  assert len(np.unique(np.concatenate([a, b]).reshape(16, -1), axis=0)) == 16


@pytest.mark.parametrize('devices', [4, 8])
def test_a_split_batch_gives_the_same_views(optimized, devices):
  mesh = jax.make_mesh((devices,), ('data',), (jax.sharding.AxisType.Auto,), devices=jax.devices()[:devices])
  sharding = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec('data'))
  prepare = functools.partial(jax.jit, augment.prepare(RECIPE), compiler_options=optimized)
  expected = prepare()({'inputs': IMAGES}, jax.random.key(0))
  key = jax.device_put(jax.random.key(0), jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec()))
  compiled = prepare(out_shardings=sharding)
  actual = compiled({'inputs': jax.device_put(IMAGES, sharding)}, key)
  for one, other in zip(jax.tree.leaves(actual), jax.tree.leaves(expected), strict=True):
    np.testing.assert_allclose(one, other, atol=1e-6)


def test_host_views_are_only_scaled():
  crops = (IMAGES[:, :16], IMAGES[:, :12, :12])
  batch = augment.prepare(RECIPE, 'host')({'views': crops, 'inputs': IMAGES[:, :16]}, jax.random.key(0))
  for actual, crop in zip((*batch['views'], batch['inputs']), (*crops, IMAGES[:, :16]), strict=True):
    np.testing.assert_allclose(actual, crop / 255.0, atol=1e-7)


def test_host_and_split_inputs_are_not_cropped_twice():
  recipe = dataclasses.replace(RECIPE, input_crop=0.5)
  for engine in ('host', 'split'):
    batch = {'views': (IMAGES[:, :16], IMAGES[:, :12, :12]), 'inputs': IMAGES[:, :16]}
    prepared = jax.jit(augment.prepare(recipe, engine))(batch, jax.random.key(0))
    np.testing.assert_allclose(prepared['inputs'], IMAGES[:, :16] / 255.0, atol=1e-7)


def test_split_does_the_second_half():
  """Crops made from the same keys, then recoloured, are the device engine's views, but for the rounding to bytes."""
  view = View(16, brightness=0.2, contrast=0.2, saturation=0.2, hue=0.05, sigma=(1, 2))
  recipe = Recipe((view,), 16)
  key = jax.random.key(5)
  whole = jax.jit(augment.prepare(recipe))({'inputs': IMAGES[:, :16]}, key)['views'][0]
  example_key, _ = jax.random.split(key)
  images = jnp.array(IMAGES[:, :16] / 255.0, jnp.float32)

  def crop(key, image):
    params = augment.sample(jax.random.fold_in(key, 0), view, 16, 16)
    return engine_module.reshape(image, params, view)

  crops = jax.jit(jax.vmap(crop))(jax.random.split(example_key, 8), images)
  batch = {'views': (np.round(255 * np.asarray(crops)).astype(np.uint8),), 'inputs': IMAGES[:, :16]}
  split = jax.jit(augment.prepare(recipe, 'split'))(batch, key)['views'][0]
  assert np.abs(split - crops).max() > 0.1
  np.testing.assert_allclose(split, whole, atol=0.01)


CUT = Patches(8, 4, View(8, area=(1.0, 1.0), ratio=(1.0, 1.0), flip=0.0, rotation=10.0, grey=0.0, blur=0.0),
              flip=0.5, color_drop=0.5, subcrop=7 / 8)
WHOLE = View(16, area=(1.0, 1.0), ratio=(1.0, 1.0), flip=0.0, jitter=0.0, grey=0.0, blur=0.0)


@pytest.mark.parametrize('engine', ['device', 'host', 'split'])
def test_every_engine_cuts_patches_on_the_device(engine):
  images = IMAGES[:, :16]
  batch = {'inputs': images} if engine == 'device' else {'inputs': images, 'views': (images,)}
  plain = jax.jit(augment.prepare(Recipe((WHOLE,), 16, patches=Patches(8, 4)), engine))(batch, jax.random.key(0))
  np.testing.assert_allclose(plain['views'][0], patchify(images / np.float32(255), 8, 4), atol=1e-6)
  np.testing.assert_allclose(plain['inputs'], images / 255.0, atol=1e-6)
  prepare = jax.jit(augment.prepare(Recipe((WHOLE,), 16, patches=CUT), engine))
  view = prepare(batch, jax.random.key(0))['views'][0]
  assert view.shape == (8, 3, 3, 8, 8, 3) and view.min() >= 0 and view.max() <= 1
  np.testing.assert_array_equal(view, prepare(batch, jax.random.key(0))['views'][0])
  dropped = (np.asarray(view).max(axis=(3, 4)) == 0).sum(axis=-1)
  assert set(dropped.flat) == {0, 2}
  assert (np.asarray(view)[:, :, :, -1] == 0).all() and (np.asarray(view)[:, :, :, :, -1] == 0).all()  # Sub-crop.
  rows = np.asarray(view).reshape(8, -1)
  assert len(np.unique(rows, axis=0)) == 8


def test_equal_patches_and_images_are_changed_apart():
  same = np.full((8, 16, 16, 3), 128, np.uint8)
  recipe = Recipe((WHOLE,), 16, patches=Patches(8, 4, View(8, jitter=1.0, blur=0.0, grey=0.0)))
  patches = jax.jit(augment.prepare(recipe))({'inputs': same}, jax.random.key(0))['views'][0]
  colours = np.asarray(patches)[..., 4, 4, :].reshape(-1, 3)
  assert len(np.unique(colours.round(6), axis=0)) == 72


def test_patches_of_a_split_batch_are_the_same():
  recipe = Recipe((WHOLE,), 16, patches=CUT)
  mesh = jax.make_mesh((8,), ('data',), (jax.sharding.AxisType.Auto,))
  sharding = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec('data'))
  prepare = augment.prepare(recipe)
  expected = jax.jit(prepare)({'inputs': IMAGES}, jax.random.key(0))['views'][0]
  actual = jax.jit(prepare, out_shardings=sharding)(
      {'inputs': jax.device_put(IMAGES, sharding)}, jax.random.key(0))['views'][0]
  np.testing.assert_allclose(actual, expected, atol=1e-6)


def test_grey_inputs_are_the_luma():
  recipe = Recipe((WHOLE,), 16, input_grey=True)
  grey = augment.resize_inputs(IMAGES[:, :16], recipe)
  luma = (IMAGES[:, :16] / 255.0) @ np.array([0.2989, 0.587, 0.114])
  np.testing.assert_allclose(grey, np.repeat(luma[..., None], 3, axis=-1), atol=1e-3)
  batch = {'inputs': IMAGES[:, :16], 'views': (IMAGES[:, :16],)}
  for engine in ('device', 'host', 'split'):
    np.testing.assert_allclose(augment.prepare(recipe, engine)(batch, jax.random.key(0))['inputs'], grey, atol=1e-6)
  assert augment.resize_inputs(IMAGES[:, :16, :, :1], recipe).shape == (8, 16, 16, 1)


def test_wrong_arguments():
  with pytest.raises(ValueError, match="engine must be one of device, host, split, got 'gpu'"):
    augment.prepare(RECIPE, 'gpu')
  with pytest.raises(ValueError, match='crops must hold one array for each of the 2 views, got 1'):
    augment.prepare(RECIPE, 'split')({'views': (IMAGES,), 'inputs': IMAGES}, jax.random.key(0))


@pytest.mark.parametrize(
    'name', ['simclr', 'byol', 'strong_weak', 'multi_crop', 'dino', 'crop_flip', 'drawings', 'patches'])
def test_every_recipe_works_for_one_channel(name):
  recipe = getattr(recipes, name)(size=10, **({'patch_size': 4, 'patch_stride': 3} if name == 'patches' else {}))
  recipe = dataclasses.replace(recipe, views=tuple(dict.fromkeys(recipe.views)))  # Each kind once.
  views = jax.jit(augment.prepare(recipe))({'inputs': IMAGES[..., :1]}, jax.random.key(0))['views']
  for array, view in zip(views, recipe.views, strict=True):
    assert array.shape == ((8, 3, 3, 4, 4, 1) if name == 'patches' else (8, view.size, view.size, 1))
    assert jnp.isfinite(array).all() and array.max() > 0


def test_resize_inputs():
  recipe = recipes.crop_flip(16)
  np.testing.assert_allclose(augment.resize_inputs(IMAGES[:, :16], recipe), IMAGES[:, :16] / 255.0, atol=1e-7)
  recipe = Recipe(recipe.views, 9, 0.75)
  actual = augment.resize_inputs(IMAGES, recipe)  # 18 x 16: the central 12 x 12.
  for channel in range(3):
    crop = Image.fromarray(np.float32(IMAGES[2, 3:15, 2:14, channel]) / 255)
    expected = np.clip(np.asarray(crop.resize((9, 9), Image.Resampling.BICUBIC)), 0, 1)
    np.testing.assert_allclose(actual[2, ..., channel], expected, atol=2e-6)
