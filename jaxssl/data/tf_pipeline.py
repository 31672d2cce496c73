"""The tf.data engines: images are decoded once and all their views made from them, stateless and in order."""

import re
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from jaxssl.data import pipeline, tf_image
from jaxssl.data._source import Source, reason
from jaxssl.data._tensorflow import tensorflow
from jaxssl.data.encoded import EncodedImages, decode
from jaxssl.recipes import Recipe


def stream(
  source: Source,
  recipe: Recipe,
  engine: str,
  key_words: tuple[int, int],
  batch_size: int,
  start: int,
  host: int,
  hosts: int,
  parallelism: int | None,
) -> Iterator[dict[str, Any]]:
  """Batches of `index`, `inputs` and `views` from step `start` on; `pipeline.batches` has the arguments."""
  tf = tensorflow()
  seed = tf.constant(np.array(key_words, np.uint32).view(np.int32))
  local, views = batch_size // hosts, len(recipe.views)
  load = _loader(tf, source)

  def draw(step):
    """What the slots of a step need, all at once: one slot at a time is a hundred times slower."""
    index = pipeline.indices(key_words, int(step), batch_size, len(source), host, hosts)
    position = pipeline.positions(int(step), batch_size, host, hosts)
    orders = pipeline.jitter_orders(key_words, int(step), views)
    return index, position, np.broadcast_to(orders, (local, *orders.shape))

  @tf.autograph.experimental.do_not_convert  # Plain graph code: converting it takes seconds.
  def slots(step):
    drawn = tf.numpy_function(draw, [step], (tf.int64, tf.int64, tf.int32))
    return tuple(map(tf.ensure_shape, drawn, ([local], [local], [local, views, 4])))

  @tf.autograph.experimental.do_not_convert
  def augment(index, position, orders):
    image = load(index)
    made = tf_image.views(image, tf.random.fold_in(seed, position), recipe, engine, orders)
    return {'index': tf.cast(index, tf.int32), 'inputs': tf_image.inputs(image, recipe), 'views': made}

  examples = tf.data.Dataset.range(start, np.iinfo(np.int64).max).map(slots).unbatch()
  examples = examples.map(augment, num_parallel_calls=parallelism or tf.data.AUTOTUNE, deterministic=True)
  dataset = examples.batch(local, drop_remainder=True).prefetch(pipeline.PREFETCH)
  options = tf.data.Options()
  options.deterministic = True
  return _named(tf, source, dataset.with_options(options).as_numpy_iterator())


def _named(tf: Any, source: Source, batches: Iterator[dict[str, Any]]) -> Iterator[dict[str, Any]]:
  """The batches; raises ValueError, with the data set, where an image of it can no longer be read."""
  try:
    yield from batches
  except tf.errors.OpError as error:
    # TensorFlow puts the names of its nodes before the error, and the traceback after it.
    why = re.sub(r'^({{.*?}} *)+', '', error.message).partition('\n')[0] or reason(error)
    raise ValueError(f'an image of {source.name!r} can no longer be read: {why}') from error


def _loader(tf: Any, source: Source) -> Callable[[Any], Any]:
  """Index -> image, uint8 [h, w, c], as tf ops."""
  images = source.inputs
  if isinstance(images, np.ndarray):
    array = tf.constant(images)
    return lambda index: tf.gather(array, index)
  if not isinstance(images, EncodedImages):
    raise TypeError(f'the images of {source.name!r} are {type(images).__name__}, not an array or EncodedImages')
  plain, channels = tf.constant(images.plain), images.channels

  def load(index):
    content = tf.numpy_function(lambda i: images.content(int(i)), [index], tf.string)
    image = tf.cond(
      tf.gather(plain, index),
      # Of the PNGs of TFDS, too. What Pillow takes of a damaged JPEG this takes, where `decode_image` would stop a run.
      lambda: tf.io.decode_jpeg(content, channels=channels, try_recover_truncated=True),
      lambda: tf.numpy_function(lambda content: decode(content, channels), [content], tf.uint8),
    )
    return tf.ensure_shape(image, [None, None, channels])

  return load
