"""The host's augmentation engine: `jaxssl.augment` again, in stateless TensorFlow operations for tf.data.

Given the same `Params` and order both engines make the same pixels, to 1e-4 in [0, 1] (2e-5 up to 32 pixels);
each draws its own. An image is one tensor [h, w, c] of any size. Importing this module imports TensorFlow.
"""

import math
from typing import Any

from jaxssl.data._tensorflow import tensorflow
from jaxssl.recipes import Params, Recipe, View

tf = tensorflow()

_ATTEMPTS = 10  # Boxes drawn before giving up, as torchvision's RandomResizedCrop.


def views(image: Any, seed: Any, recipe: Recipe, engine: str = 'host', orders: Any = None) -> tuple[Any, ...]:
  """Makes every view of `recipe` from `image` [h, w, c], uint8: a tuple of uint8 [s, s, c].

  `engine` 'host' makes them whole; 'split' only cuts, warps and flips, and leaves the colours to `augment.prepare`.
  `seed` is an integer [2]; `orders` [views, 4] the order of each view's colour jitter, drawn from `seed` if None.
  """
  if engine not in ('host', 'split'):
    raise ValueError(f'engine must be host or split, got {engine!r}')
  if orders is None:
    orders = tf.argsort(tf.random.stateless_uniform([len(recipe.views), 4], tf.random.fold_in(seed, len(recipe.views))))
  shape = tf.shape(image)
  made = []
  for index, view in enumerate(recipe.views):
    params = sample(tf.random.fold_in(seed, index), view, shape[0], shape[1])
    one = apply(image, params, view, orders[index]) if engine == 'host' else reshape(image, params, view)
    made.append(_to_uint8(one))
  return tuple(made)


def inputs(image: Any, recipe: Recipe) -> Any:
  """Returns what evaluation sees of `image` [h, w, c]: its central square as uint8 [input_size, input_size, c]."""
  shape = tf.shape(image)
  side = tf.cast(tf.round(recipe.input_crop * tf.cast(tf.minimum(shape[0], shape[1]), tf.float32)), tf.int32)
  side = tf.maximum(side, 1)
  box = tf.stack([(shape[0] - side) // 2, (shape[1] - side) // 2, side, side])
  return _to_uint8(resized_crop(image, box, recipe.input_size))


def apply(image: Any, params: Params, view: View, order: Any) -> Any:
  """Makes a view, float32 [size, size, c] in [0, 1], of `image`, uint8 or float in [0, 1]; as `augment.apply`."""
  return recolour(reshape(image, params, view), params, view, order)


def reshape(image: Any, params: Params, view: View) -> Any:
  """Does the first half of `apply`, which moves pixels: crop, warp, flip and stroke thickness."""
  if view.warps:
    field = displacement(params.elastic, view.size) if view.elastic else None
    image = warp(image, params.box, view.size, params.affine, field)
  else:
    image = resized_crop(image, params.box, view.size)
  if view.flip:
    image = _maybe(params.flip, lambda x: tf.reverse(x, [1]), image)
  if view.thickness:
    image = thicken(image, params.thickness, view.thickness)
  return image


def recolour(image: Any, params: Params, view: View, order: Any) -> Any:
  """Does the second half of `apply`, which changes values: colour jitter, grey, blur and solarise."""
  factors = params.brightness, params.contrast, params.saturation, params.hue
  if view.recolours:
    image = _maybe(params.jitter, lambda x: color_jitter(x, *factors, order), image)
  if view.grey:
    image = _maybe(params.grey, grayscale, image)
  if view.blur:
    image = _maybe(params.blur, lambda x: gaussian_blur(x, params.sigma, view.kernel_size), image)
  if view.solarize:
    image = _maybe(params.solarize, solarize, image)
  return image


def sample(seed: Any, view: View, height: Any, width: Any) -> Params:
  """Draws what makes one `view` of an image of `height` x `width` pixels, as `augment.sample` does but not the same."""
  u = tf.random.stateless_uniform([2 * _ATTEMPTS + 18], seed)
  flip, jitter, grey, blur, solarized = tf.unstack(
      u[:5] < tf.constant([view.flip, view.jitter, view.grey, view.blur, view.solarize], tf.float32))
  thickness, brightness, contrast, saturation, hue, sigma = tf.unstack(_between(u[5:11], *zip(
      (-view.thickness, view.thickness),
      (max(1.0 - view.brightness, 0.0), 1.0 + view.brightness),
      (max(1.0 - view.contrast, 0.0), 1.0 + view.contrast),
      (max(1.0 - view.saturation, 0.0), 1.0 + view.saturation),
      (-view.hue, view.hue),
      view.sigma, strict=True)))
  affine, elastic = tf.constant([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]]), tf.zeros([view.elastic_grid] * 2 + [2])
  if view.warps:
    bounds = (view.rotation, view.shear, view.log_scale, view.translation, view.translation)
    bounds = tf.constant(bounds, tf.float32) * (2.0 * u[11:16] - 1.0)
    affine = affine_matrix(bounds[0], bounds[1], bounds[2], bounds[3:])
  if view.elastic:
    normal = tf.random.stateless_normal(elastic.shape, tf.random.fold_in(seed, 0))
    elastic = 2.0 * view.elastic * normal
  return Params(
      box=_crop_box(u[16:], height, width, view.area, view.ratio), flip=flip, affine=affine, elastic=elastic,
      thickness=thickness, jitter=jitter, brightness=brightness, contrast=contrast, saturation=saturation, hue=hue,
      grey=grey, blur=blur, sigma=sigma, solarize=solarized)


def _crop_box(u: Any, height: Any, width: Any, area: tuple[float, float], ratio: tuple[float, float]) -> Any:
  """Turns uniform `u` [22] into an int32 box, as `augment.sampling.crop_box`."""
  image_height, image_width = tf.cast(height, tf.float32), tf.cast(width, tf.float32)
  areas = image_height * image_width * _between(u[:_ATTEMPTS], *area)
  log_ratios = _between(u[_ATTEMPTS:-2], math.log(ratio[0]), math.log(ratio[1]))
  roots = tf.exp(0.5 * tf.stack([-log_ratios, log_ratios]))
  sizes = tf.maximum(tf.round(tf.sqrt(areas) * roots), 1.0)  # [2, attempts]: heights, widths.
  image_size = tf.stack([image_height, image_width])
  fits = tf.reduce_all(sizes <= image_size[:, None], axis=0)
  limits = tf.round(tf.stack([image_width / ratio[0], image_height * ratio[1]]))
  largest = tf.minimum(image_size, tf.maximum(limits, 1.0))
  first = tf.argmax(fits)
  size = tf.where(fits[first], sizes[:, first], largest)
  room = image_size - size
  corner = tf.where(fits[first], tf.floor(u[-2:] * (room + 1.0)), tf.floor(room / 2.0))
  return tf.cast(tf.concat([corner, size], 0), tf.int32)


def resized_crop(image: Any, box: Any, size: int) -> Any:
  """Cuts out `box` [4] and resizes it to [size, size, c] by antialiased bicubic, clipped to [0, 1]."""
  corner, extent = tf.unstack(tf.reshape(box, [2, 2]))
  crop = tf.slice(image, tf.concat([corner, [0]], 0), tf.concat([extent, [-1]], 0))
  crop.set_shape([None, None, image.shape[-1]])
  resized = _resize(crop, size / extent, size)
  if image.dtype == tf.uint8:
    resized = resized * (1.0 / 255.0)
  return tf.clip_by_value(resized, 0.0, 1.0)


def _resize(image: Any, scale: Any, size: int) -> Any:
  """Is tf.image.resize(..., method='bicubic', antialias=True), without what that adds to the graph."""
  resized = tf.raw_ops.ScaleAndTranslate(
      images=image[None], size=[size, size], scale=tf.cast(scale, tf.float32), translation=[0.0, 0.0],
      kernel_type='keyscubic', antialias=True)[0]
  return tf.ensure_shape(resized, [size, size, image.shape[-1]])


def displacement(grid: Any, size: int) -> Any:
  """Returns the smooth field [size, size, 2] that interpolates `grid` [g, g, 2]."""
  return _resize(grid, [size / points for points in grid.shape[:2]], size)


def affine_matrix(rotation: Any, shear: Any, log_scale: Any, translation: Any) -> Any:
  """Returns the [2, 3] matrix of `augment.affine_matrix`."""
  angle = rotation * (math.pi / 180.0)
  cos, sin = tf.cos(angle), tf.sin(angle)
  inverse = tf.exp(-log_scale) * tf.stack([[cos, sin], [-sin - shear * cos, cos - shear * sin]])
  return tf.concat([inverse, -2.0 * tf.linalg.matvec(inverse, translation)[:, None]], axis=1)


def warp(image: Any, box: Any, size: int, affine: Any, displacement: Any = None) -> Any:
  """Resamples to [size, size, c] what `affine` and `displacement` point at in `box`, as `augment.warp`."""
  axis = (2.0 * tf.range(size, dtype=tf.float32) + 1.0) / size - 1.0
  box = tf.cast(box, tf.float32)
  grid = tf.stack([*tf.meshgrid(axis, axis, indexing='ij'), tf.ones([size, size])], -1)
  points = tf.reshape(tf.matmul(tf.reshape(grid, [-1, 3]), affine, transpose_b=True), [size, size, 2])
  if displacement is not None:
    points += displacement
  return _bilinear(image, box[:2] + 0.5 * box[2:] * (points + 1.0) - 0.5)


def _bilinear(image: Any, points: Any) -> Any:
  """Reads `image` at pixel coordinates `points` [i, j, 2] (y, x); zero beyond the edge."""
  shape = tf.shape(image)
  stride = shape[1] + 2
  pixels = tf.reshape(tf.pad(image, [[1, 1], [1, 1], [0, 0]]), [-1, image.shape[-1]])
  points += 1.0  # In the padded image, whose border is black.
  corner = tf.floor(points)
  fraction = points - corner
  dy, dx = fraction[..., :1], fraction[..., 1:]
  # Clipped while still floats: far points would overflow integers.
  limit = tf.cast(shape[:2] + 1, tf.float32)
  first = tf.cast(tf.clip_by_value(corner, 0.0, limit), tf.int32)
  second = tf.cast(tf.clip_by_value(corner + 1.0, 0.0, limit), tf.int32)

  def tap(row, column):
    return tf.cast(tf.gather(pixels, row[..., 0] * stride + column[..., 1]), tf.float32)

  upper = (1.0 - dx) * tap(first, first) + dx * tap(first, second)
  lower = (1.0 - dx) * tap(second, first) + dx * tap(second, second)
  mixed = (1.0 - dy) * upper + dy * lower
  return mixed * (1.0 / 255.0) if image.dtype == tf.uint8 else mixed


def adjust_brightness(image: Any, factor: Any) -> Any:
  """Scales all values by `factor`."""
  return tf.clip_by_value(image * factor, 0.0, 1.0)


def adjust_contrast(image: Any, factor: Any) -> Any:
  """Scales each channel's distance from its mean by `factor`."""
  mean = tf.reduce_mean(image, axis=[0, 1], keepdims=True)
  return tf.clip_by_value(mean + factor * (image - mean), 0.0, 1.0)


def adjust_saturation(image: Any, factor: Any) -> Any:
  """Scales the HSV saturation by `factor`, at most to 1; one channel stays as it is."""
  return image if image.shape[-1] == 1 else tf.raw_ops.AdjustSaturation(images=image, scale=factor)


def adjust_hue(image: Any, shift: Any) -> Any:
  """Turns the HSV hue by `shift` turns; one channel stays as it is."""
  return image if image.shape[-1] == 1 else tf.raw_ops.AdjustHue(images=image, delta=shift)


def color_jitter(image: Any, brightness: Any, contrast: Any, saturation: Any, hue: Any, order: Any) -> Any:
  """Applies the four adjustments in `order` [4]: 0 is brightness, 1 contrast, 2 saturation and 3 hue."""
  order = tf.unstack(tf.convert_to_tensor(order), num=4)
  for i in range(4):
    image = tf.switch_case(order[i], [
        lambda x=image: adjust_brightness(x, brightness),
        lambda x=image: adjust_contrast(x, contrast),
        lambda x=image: adjust_saturation(x, saturation),
        lambda x=image: adjust_hue(x, hue),
    ])
  return image


def grayscale(image: Any) -> Any:
  """Returns the luma in all three channels; one channel stays as it is."""
  if image.shape[-1] == 1:
    return image
  weights = tf.constant([0.2989, 0.5870, 0.1140])[:, None]
  return tf.tensordot(image, tf.repeat(weights, 3, axis=1), 1)


def solarize(image: Any, threshold: float = 0.5) -> Any:
  """Inverts the values from `threshold` up."""
  return tf.where(image >= threshold, 1.0 - image, image)


def gaussian_blur(image: Any, sigma: Any, kernel_size: int) -> Any:
  """Blurs with a normalised Gaussian of `sigma` pixels cut to `kernel_size` (odd); zeros beyond the edge."""
  radius = kernel_size // 2
  taps = tf.exp(-0.5 * tf.square(tf.range(-radius, radius + 1, dtype=tf.float32) / sigma))
  taps = tf.tile((taps / tf.reduce_sum(taps))[:, None, None, None], [1, 1, image.shape[-1], 1])
  rows = tf.nn.depthwise_conv2d(image[None], taps, [1, 1, 1, 1], 'SAME')
  return tf.nn.depthwise_conv2d(rows, tf.transpose(taps, [1, 0, 2, 3]), [1, 1, 1, 1], 'SAME')[0]


def thicken(image: Any, radius: Any, max_radius: float = 1.0) -> Any:
  """Widens bright strokes by `radius` pixels on either side (thins them where negative), as `augment.thicken`."""
  amount, sign = tf.abs(radius), tf.where(radius > 0, 1.0, -1.0)
  for done in range(math.ceil(max_radius)):
    swollen = sign * tf.nn.max_pool2d((sign * image)[None], 3, 1, 'SAME')[0]
    image += tf.clip_by_value(amount - done, 0.0, 1.0) * (swollen - image)
  return image


def rgb_to_lab(image: Any) -> Any:
  """Converts sRGB in [0, 1], [..., 3], to CIE L*, a* and b*, as `augment.rgb_to_lab`."""
  linear = tf.where(image > 0.04045, ((tf.maximum(image, 0.04045) + 0.055) / 1.055) ** 2.4, image / 12.92)
  to_xyz = tf.constant([[0.412453, 0.357580, 0.180423], [0.212671, 0.715160, 0.072169], [0.019334, 0.119193, 0.950227]])
  xyz = tf.linalg.matvec(to_xyz / tf.constant([0.95047, 1.0, 1.08883])[:, None], linear)
  f = tf.where(xyz > 0.008856, tf.maximum(xyz, 0.008856) ** (1 / 3), 7.787 * xyz + 16 / 116)
  x, y, z = tf.unstack(f, axis=-1)
  return tf.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)], axis=-1)


def rgb_to_ycbcr(image: Any) -> Any:
  """Converts sRGB in [0, 1], [..., 3], to Y, Cb and Cr of 16 to 240, as `augment.rgb_to_ycbcr`."""
  matrix = tf.constant([[65.481, 128.553, 24.966], [-37.797, -74.203, 112.0], [112.0, -93.786, -18.214]])
  return tf.linalg.matvec(matrix, image) + tf.constant([16.0, 128.0, 128.0])


def _maybe(condition: Any, operation: Any, image: Any) -> Any:
  return tf.cond(condition, lambda: operation(image), lambda: image)


def _between(u: Any, low: Any, high: Any) -> Any:
  low, high = tf.constant(low, tf.float32), tf.constant(high, tf.float32)
  return low + (high - low) * u


def _to_uint8(image: Any) -> Any:
  return tf.cast(tf.round(255.0 * image), tf.uint8)
