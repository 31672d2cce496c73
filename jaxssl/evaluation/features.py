"""Features of a whole data set, batch by batch."""

import dataclasses
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxssl import augment, ops, recipes
from jaxssl.training import mesh

Encode = Callable[[Any], jax.Array]  # [b, h, w, c] in [0, 1], or a tuple of views -> [b, d]


def to_float(images: Any) -> Any:
  """Returns images as float32 in [0, 1]: uint8 is divided by 255, floats are taken to be in [0, 1] already.

  Of a tuple of views likewise.
  """
  scale = lambda x: jnp.asarray(x, jnp.float32) / 255 if x.dtype == np.uint8 else jnp.asarray(x, jnp.float32)
  return jax.tree.map(scale, images)


def adapt(images: Any, recipe: recipes.Recipe | recipes.Paired, channels: int) -> Any:
  """Brings images [b, h, w, c] to what an encoder was trained on: the recipe's size, and 1 or 3 channels.

  With a recipe of several modalities, or of paired views, they become a tuple of views.
  """
  if isinstance(recipe, recipes.Paired):
    return augment.paired.see(images, recipe)
  resized = with_channels(augment.resize_inputs(images, recipe), channels)
  return augment.modalities([resized], recipe.modalities) if recipe.modalities else resized


def pixels(
    images: Any, recipe: recipes.Recipe | recipes.Paired, channels: int, which: tuple[int, ...] | None = None
) -> jax.Array:
  """The raw-pixel baseline, [b, ...] -> [b, d]: what an encoder was trained on, flattened.

  Of several views those of `which`, None being all: of an image with all its colours together, of paired views, where
  there are several, each scaled to length 1, so that they weigh the same.
  """
  views = adapt(images, recipe, channels)
  if isinstance(views, tuple) and which is not None and len(which) < len(views):
    views = tuple(views[i] for i in which)
  elif isinstance(recipe, recipes.Paired) and len(views) == 1:
    return flatten(views)
  elif isinstance(recipe, recipes.Recipe):
    return flatten(adapt(images, dataclasses.replace(recipe, modalities=()), channels))
  return jnp.concatenate([ops.l2_normalize(flatten(view)) for view in views], axis=1)


def with_channels(images: jax.Array, channels: int) -> jax.Array:
  """Returns images [..., c] as they are where c is `channels`, else their mean over c in that many channels."""
  if images.shape[-1] == channels:
    return images
  grey = images.mean(axis=-1, keepdims=True)
  return jnp.broadcast_to(grey, (*grey.shape[:-1], channels))


def flatten(images: Any) -> jax.Array:
  """An encoder that only flattens, [b, ...] -> [b, d]; of a tuple of views, side by side."""
  return jnp.concatenate([x.reshape(x.shape[0], -1) for x in jax.tree.leaves(images)], axis=1)


def extract(
    encode: Encode,
    images: Any,
    *,
    batch_size: int = 256,
    prepare: Callable[[Any], Any] = to_float,
) -> np.ndarray:
  """Returns the features [n, d], float32, of all `images`.

  Every call of `encode` sees `batch_size` images, the last batch padded by repetition, so that it compiles once. Under
  a mesh with a data axis (`jax.set_mesh`) the devices share each batch; where there are several processes, all of them
  have to call this, each reads its own rows, and each gets all features.

  Args:
    encode: a function of images [b, h, w, c] in [0, 1], returning features [b, d]; best jitted.
    images: n images: an array, or anything with `len()` and `images[index array] -> [k, h, w, c]`, or a tuple of views.
    batch_size: images per call of `encode`, rounded up to a multiple of the devices that share it.
    prepare: turns a batch as it is stored into what `encode` takes.

  Raises:
    ValueError: if there are no images, or if `encode` does not return one row an image.
    FloatingPointError: if a feature is NaN or infinite, which k-NN and probes would score as if it were nothing.
  """
  if not len(images):
    raise ValueError('images is empty: there is nothing to encode')
  if batch_size < 1:
    raise ValueError(f'batch_size must be at least 1, got {batch_size}')
  rows = []
  for features in _one_behind(encode(prepare(batch)) for batch, _ in batches(images, batch_size)):
    if features.ndim != 2 or features.shape[0] != shared_size(batch_size):
      raise ValueError(f'encode must return [b, d] for b = {shared_size(batch_size)} images, '
                       f'got shape {list(features.shape)}')
    rows.append(np.asarray(mesh.to_host(features), np.float32))
  found = np.concatenate(rows)[:len(images)]
  check_finite('images', found)
  return found


@dataclasses.dataclass(frozen=True)
class Subset:
  """The examples `rows` [k] of `images`, in that order: what `extract` takes."""

  images: Any
  rows: np.ndarray

  def __len__(self) -> int:
    return len(self.rows)

  def __getitem__(self, index: np.ndarray) -> Any:
    return self.images[self.rows[index]]


def check_finite(name: str, features: np.ndarray) -> None:
  """Raises FloatingPointError if features [n, d] of `name` hold NaN or infinity, which a classifier would score."""
  broken = int((~np.isfinite(features).all(axis=1)).sum())
  if broken:
    raise FloatingPointError(f'the features of {broken} of {len(features)} {name} are not finite')


def shared_size(batch_size: int) -> int:
  """Returns `batch_size`, rounded up to a multiple of the devices that share a batch."""
  devices = mesh.ambient()
  return batch_size + (-batch_size % devices.size if devices else 0)


def batches(images: Any, batch_size: int) -> Iterator[tuple[Any, Any]]:
  """Yields `shared_size(batch_size)` images at a time and their numbers, the last ones repeated; split over devices."""
  devices, size = mesh.ambient(), shared_size(batch_size)
  for start in range(0, len(images), size):
    numbers = np.minimum(np.arange(start, start + size, dtype=np.int32), len(images) - 1)
    if devices is None:
      yield images[numbers], numbers
    else:
      numbers = numbers[mesh.local_rows(devices, size)]
      yield mesh.shard_batch(devices, (images[numbers], numbers))


def _one_behind(items: Iterator[jax.Array]) -> Iterator[jax.Array]:
  """Yields each item once the next one is dispatched, so that decoding images overlaps with encoding them."""
  previous = None
  for item in items:
    if previous is not None:
      yield previous
    previous = item
  if previous is not None:
    yield previous
