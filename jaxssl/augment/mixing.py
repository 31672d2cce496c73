"""Pairs of images mixed with their labels, as classifiers are fine-tuned: mixup and cutmix.

Mixup: Zhang et al. 2017, https://arxiv.org/abs/1710.09412. CutMix: Yun et al. 2019, https://arxiv.org/abs/1905.04899.
As in timm's batch mode: a batch is mixed with itself in reverse order, by one draw for the whole batch.
"""

import math
from typing import Any

import jax
import jax.numpy as jnp


def mixup(key: jax.Array, images: Any, labels: jax.Array, alpha: float) -> tuple[Any, jax.Array]:
  """Returns `w x + (1 - w) x'` of images and of labels, x' being the batch in reverse, w from Beta(alpha, alpha).

  Args:
    key: draws w.
    images: float [b, ...], or a tuple of views.
    labels: float [b, c], one-hot or smoothed.
    alpha: positive; 0.8 in MAE's fine-tuning. Large: halves; small: hardly a mixture.
  """
  _check('alpha', alpha, 0 < alpha < math.inf, 'positive')
  _check_floating(images, labels)
  weight = jax.random.beta(key, alpha, alpha)
  blend = lambda x: weight.astype(x.dtype) * x + (1 - weight).astype(x.dtype) * x[::-1]
  return jax.tree.map(blend, images), blend(labels)


def cutmix(key: jax.Array, images: Any, labels: jax.Array, alpha: float) -> tuple[Any, jax.Array]:
  """Replaces a box of each image by the same box of its partner; labels weigh by the areas.

  The sides of the box are those of the image times sqrt(1 - w), rounded down to even numbers of pixels, w from
  Beta(alpha, alpha); its centre is uniform over the image, and what lies outside is cut off. The partner's label weighs
  what is left of the box, exactly.

  Args:
    key: draws w and the centre.
    images: float [b, h, w, c], or a tuple of views of one height and width.
    labels: float [b, c], one-hot or smoothed.
    alpha: positive; 1 in MAE's fine-tuning.
  """
  _check('alpha', alpha, 0 < alpha < math.inf, 'positive')
  _check_floating(images, labels)
  shapes = [x.shape for x in jax.tree.leaves(images)]
  if any(len(shape) != 4 or shape[1:3] != shapes[0][1:3] for shape in shapes):
    raise ValueError(f'images must be [b, h, w, c], all views of one height and width, got {shapes}')
  height, width = shapes[0][1:3]
  weight_key, row_key, column_key = jax.random.split(key, 3)
  share = jnp.sqrt(1 - jax.random.beta(weight_key, alpha, alpha))
  rows, columns = _span(row_key, height, share), _span(column_key, width, share)
  inside = (rows[:, None] & columns[None])[None, :, :, None]
  area = jnp.mean(inside, dtype=labels.dtype)
  return (jax.tree.map(lambda x: jnp.where(inside, x[::-1], x), images),
          (1 - area) * labels + area * labels[::-1])


def mixup_or_cutmix(
    key: jax.Array, images: Any, labels: jax.Array, mixup_alpha: float, cutmix_alpha: float, switch: float = 0.5,
) -> tuple[Any, jax.Array]:
  """Returns the batch after mixup or, with probability `switch`, cutmix; an alpha of 0 leaves one of them out."""
  _check('switch', switch, 0 <= switch <= 1, 'a probability')
  if not mixup_alpha and not cutmix_alpha:
    return images, labels
  if not cutmix_alpha:
    return mixup(key, images, labels, mixup_alpha)
  if not mixup_alpha:
    return cutmix(key, images, labels, cutmix_alpha)
  switch_key, mix_key = jax.random.split(key)
  return jax.lax.cond(
      jax.random.bernoulli(switch_key, switch), lambda: cutmix(mix_key, images, labels, cutmix_alpha),
      lambda: mixup(mix_key, images, labels, mixup_alpha))


def _span(key: jax.Array, size: int, share: jax.Array) -> jax.Array:
  """Which of `size` pixels lie within half of `share` of them around a random one: bool [size]."""
  half = jnp.floor(size * share).astype(jnp.int32) // 2
  centre = jax.random.randint(key, (), 0, size)
  pixel = jnp.arange(size)
  return (pixel >= centre - half) & (pixel < centre + half)


def _check(name: str, value: float, in_range: bool, what: str) -> None:
  if not in_range:
    raise ValueError(f'{name} must be {what}, got {value}')


def _check_floating(images: Any, labels: jax.Array) -> None:
  for name, leaves in (('images', jax.tree.leaves(images)), ('labels', [labels])):
    for x in leaves:
      if not jnp.issubdtype(x.dtype, jnp.floating):
        raise ValueError(f'{name} must be floating-point, to be mixed, got {x.dtype}')
