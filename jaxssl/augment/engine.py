"""The device's engine: whole recipes on batches of images."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from jaxssl.augment import image as ops
from jaxssl.augment import resampling
from jaxssl.augment.modalities import modalities
from jaxssl.augment.patches import random_color_drop, random_patch_flip, random_subcrop
from jaxssl.augment.sampling import jitter_order, sample
from jaxssl.ops import patchify
from jaxssl.recipes import Params, Patches, Recipe, View

_PATCHES = 1 << 16  # Apart from the numbers of the views, in the keys.


def prepare(recipe: Recipe, engine: str = 'device') -> Callable[[dict[str, Any], jax.Array], dict[str, Any]]:
  """Returns the device's half of `recipe`: `prepare(batch, key) -> batch`, pure, to be compiled with the train step.

  It returns `views`, a tuple of float32 [b, s, s, c] in [0, 1], and `inputs`, float32 [b, input_size, input_size, c].
  By `engine`, the batch brings: 'device', `inputs` uint8 [b, h, w, c], from which the views are made; 'host', finished
  `views` and `inputs` in uint8; 'split', the same, but `views` after crop, warp and flip alone, without their colours.
  With `recipe.patches`, `views` are cut here, by every engine, to [b, rows, columns, p, p, c]; with
  `recipe.modalities`, `views` and `inputs` are tuples of these. Every example has a key of its own, so a batch split
  over devices gives the same views.
  """

  def prepare(batch, key):
    example_key, order_key = jax.random.split(key)
    keys = jax.random.split(example_key, batch['inputs'].shape[0])
    if engine == 'device':
      made = views(keys, batch['inputs'], recipe, order_key)
    elif engine == 'split':
      made = recolour_views(keys, batch['views'], recipe, order_key)
    else:
      made = tuple(to_float(view) for view in batch['views'])
    if recipe.patches is not None:
      fold = jax.vmap(jax.random.fold_in, (0, None))
      made = tuple(
          cut_patches(fold(keys, _PATCHES + i), view, recipe.patches, jax.random.fold_in(order_key, _PATCHES + i))
          for i, view in enumerate(made))
    inputs = resize_inputs(batch['inputs'], recipe) if engine == 'device' else _input(batch['inputs'], recipe)
    if recipe.modalities:
      made, inputs = modalities(made, recipe.modalities), modalities([inputs], recipe.modalities)
    return {**batch, 'views': made, 'inputs': inputs}

  return prepare


def views(keys: jax.Array, images: jax.Array, recipe: Recipe, order_key: jax.Array) -> tuple[jax.Array, ...]:
  """Makes every view of `recipe` from `images` [b, h, w, c], uint8 or float in [0, 1].

  `keys` [b], one an image; `order_key` draws the order of the colour jitter, per view but the same for all images.
  Returns a tuple of float32 [b, s, s, c].
  """
  images = to_float(images)
  _, height, width, _ = images.shape

  def make(key, image, order, view, index):
    return apply(image, sample(jax.random.fold_in(key, index), view, height, width), view, order)

  return _map_views(make, keys, [images] * len(recipe.views), recipe, order_key)


def recolour_views(
    keys: jax.Array, crops: tuple[jax.Array, ...], recipe: Recipe, order_key: jax.Array
) -> tuple[jax.Array, ...]:
  """Does the colours, grey, blur and solarise of `recipe` on finished `crops`, one [b, s, s, c] a view."""
  if len(crops) != len(recipe.views):
    raise ValueError(f'crops must hold one array for each of the {len(recipe.views)} views, got {len(crops)}')

  def make(key, crop, order, view, index):
    params = sample(jax.random.fold_in(key, index), view, view.size, view.size)
    return recolour(crop, params, view, order)

  return _map_views(make, keys, [to_float(crop) for crop in crops], recipe, order_key)


def cut_patches(keys: jax.Array, images: jax.Array, patches: Patches, order_key: jax.Array) -> jax.Array:
  """Cuts `images` [b, h, w, c] into patches and changes each by itself: float32 [b, rows, columns, p, p, c].

  `keys` [b], one an image; `order_key` draws the order of the colour jitter, the same for all patches.
  """
  order = jitter_order(order_key)

  def make(key, image):
    found = patchify(image[None], patches.size, patches.stride)[0]
    view_key, flip_key, drop_key, crop_key = jax.random.split(key, 4)
    if patches.view is not None:
      one = lambda key, patch: apply(
          patch, sample(key, patches.view, patches.size, patches.size), patches.view, order)
      flat = found.reshape(-1, *found.shape[2:])
      found = jax.vmap(one)(jax.random.split(view_key, len(flat)), flat).reshape(found.shape)
    if patches.flip:
      found = random_patch_flip(flip_key, found, patches.flip)
    if patches.color_drop:
      found = random_color_drop(drop_key, found, patches.color_drop)
    if patches.subcrop < 1:
      found = random_subcrop(crop_key, found, patches.subcrop)
    return found

  return jax.vmap(make)(keys, to_float(images))


def _map_views(make, keys, images, recipe, order_key) -> tuple[jax.Array, ...]:
  made = []
  for index, view in enumerate(recipe.views):
    order = jitter_order(jax.random.fold_in(order_key, index))
    one = lambda key, image, order=order, view=view, index=index: make(key, image, order, view, index)
    made.append(jax.vmap(one)(keys, images[index]))
  return tuple(made)


def apply(image: jax.Array, params: Params, view: View, order: jax.Array) -> jax.Array:
  """Makes a view [size, size, c] of `image` [h, w, c], float in [0, 1]; deterministic.

  `order` [4] is the order of brightness (0), contrast (1), saturation (2) and hue (3).
  """
  return recolour(reshape(image, params, view), params, view, order)


def reshape(image: jax.Array, params: Params, view: View) -> jax.Array:
  """Does the first half of `apply`, which moves pixels: crop, warp, flip and stroke thickness."""
  if view.warps:
    field = resampling.displacement(params.elastic, view.size) if view.elastic else None
    image = resampling.warp(image, params.box, view.size, params.affine, field)
  elif view.crops or image.shape[:2] != (view.size, view.size):
    image = resampling.resized_crop(image, params.box, view.size)
  if view.flip:
    image = jnp.where(params.flip, ops.flip(image), image)
  if view.thickness:
    image = ops.thicken(image, params.thickness, view.thickness)
  return image


def recolour(image: jax.Array, params: Params, view: View, order: jax.Array) -> jax.Array:
  """Does the second half of `apply`, which changes values: colour jitter, grey, blur and solarise."""
  if view.recolours:
    jittered = ops.color_jitter(image, params.brightness, params.contrast, params.saturation, params.hue, order)
    image = jnp.where(params.jitter, jittered, image)
  if view.grey:
    image = jnp.where(params.grey, ops.grayscale(image), image)
  if view.blur:
    image = jnp.where(params.blur, ops.gaussian_blur(image, params.sigma, view.kernel_size), image)
  if view.solarize:
    image = jnp.where(params.solarize, ops.solarize(image), image)
  return image


def resize_inputs(images: jax.Array, recipe: Recipe) -> jax.Array:
  """Returns what evaluation sees of `images` [b, h, w, c], uint8 or float: float32 [b, s, s, c], s = `input_size`.

  The central square of side `input_crop` times the shorter side, resized if it is not of that size already, without
  its colours where the recipe says so.
  """
  images = _input(images, recipe)
  _, height, width, _ = images.shape
  box = central_box(height, width, recipe.input_crop)
  if box == (0, 0, height, width) and height == width == recipe.input_size:
    return images
  return jax.vmap(lambda image: resampling.resized_crop(image, jnp.array(box), recipe.input_size))(images)


def _input(images: jax.Array, recipe: Recipe) -> jax.Array:
  images = to_float(images)
  return ops.grayscale(images) if recipe.input_grey else images


def central_box(height: int, width: int, crop: float) -> tuple[int, int, int, int]:
  """Returns top, left, height and width of the central square of side `crop` times the shorter side."""
  side = max(round(crop * min(height, width)), 1)
  return (height - side) // 2, (width - side) // 2, side, side


def to_float(images: jax.Array) -> jax.Array:
  """Returns uint8 images scaled to [0, 1], and float images as they are, in float32."""
  if images.dtype == jnp.uint8:
    return images.astype(jnp.float32) / 255.0
  return images.astype(jnp.float32)
