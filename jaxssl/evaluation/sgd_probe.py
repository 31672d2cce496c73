"""Linear probes by SGD on augmented images, for sets whose features do not fit a full-batch solver."""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxssl.evaluation import supervised
from jaxssl.evaluation.features import Encode, extract, to_float
from jaxssl.evaluation.subsets import balanced_subset

OPTIMIZERS = ('sgd', 'lars')


@dataclasses.dataclass(frozen=True)
class Recipe:
  """How the linear classifier is trained: by default as in SimCLR (arXiv:2002.05709, appendix B.6).

  Nesterov momentum 0.9, rate 0.1 x batch size / 256, 90 epochs of random crops and flips, no weight decay; cosine
  decay, no warm-up. MAE's probe (arXiv:2111.06377, table 10) is `Recipe(batch_size=16384, optimizer='lars',
  warmup_epochs=10, batch_norm=True)`.
  """

  epochs: float = 90  # Passes over the labelled images.
  batch_size: int = 256  # At most as many as have labels.
  learning_rate: float = 0.1  # At batch size 256; scaled linearly.
  # 'sgd', 'lars', or one of optax's, which has its own rate. LARS moves a weight in proportion to its norm, so that
  # this weight starts from a normal of deviation .01, not from zero, as in MAE's code (main_linprobe.py).
  optimizer: str | optax.GradientTransformation = 'sgd'
  weight_decay: float = 0.0
  warmup_epochs: float = 0.0
  batch_norm: bool = False  # Normalise the features first: see `normalize`.

  def __post_init__(self):
    by_name = isinstance(self.optimizer, str) or not hasattr(self.optimizer, 'update')
    supervised.require(
        self, epochs=supervised.POSITIVE,
        batch_norm=(lambda x: isinstance(x, bool), 'True or False'),
        batch_size=(lambda x: x >= 1 + self.batch_norm, 'at least 1, with batch_norm 2'),
        learning_rate=supervised.POSITIVE,
        optimizer=(lambda x: not by_name or x in OPTIMIZERS, f'one of {", ".join(map(repr, OPTIMIZERS))}'),
        weight_decay=supervised.NOT_NEGATIVE, warmup_epochs=supervised.NOT_NEGATIVE)


def normalize(h: jax.Array, stats: dict[str, jax.Array], train: bool) -> tuple[jax.Array, dict[str, jax.Array]]:
  """Batch norm without parameters, as `torch.nn.BatchNorm1d(d, affine=False, eps=1e-6)`: MAE's, before the probe.

  Args:
    h: features [b, d].
    stats: running 'mean' and 'variance' [d].
    train: normalise by the batch's own mean and biased variance; the running ones move by 0.1 towards its mean and
      unbiased variance. Otherwise normalise by the running ones.

  Returns:
    The normalised features [b, d], and the stats.
  """
  if train:
    mean, variance, b = jnp.mean(h, axis=0), jnp.var(h, axis=0), len(h)
    stats = {'mean': 0.9 * stats['mean'] + 0.1 * mean,
             'variance': 0.9 * stats['variance'] + 0.1 * variance * b / (b - 1)}
  else:
    mean, variance = stats['mean'], stats['variance']
  return (h - mean[None]) * jax.lax.rsqrt(variance + 1e-6)[None], stats


def accuracy(
    encode: Encode,
    images: Any,
    labels: np.ndarray,
    test_images: Any,
    test_labels: np.ndarray,
    *,
    augment_fn: supervised.Augment,
    fraction: float = 1.0,
    seed: int = 0,
    prepare: Callable[[np.ndarray], jax.Array] = to_float,
    **options: Any,
) -> float:
  """Returns the test accuracy of a linear classifier trained by SGD on a frozen encoder's features.

  Args:
    encode: the frozen encoder, images [b, h, w, c] in [0, 1] -> features [b, d].
    images: n training images: an array, or anything with `len()` and `images[index array]`.
    labels: [n] integers.
    test_images: as `images`.
    test_labels: integers; a class that is not in `labels` counts as an error.
    augment_fn: (keys [b], images as stored) -> images in [0, 1], such as `supervised.crop_flip(32)`.
    fraction: share of every class that keeps its labels.
    seed: of the subset, the order, the augmentation and the initial weight.
    prepare: turns test images as stored into what `encode` takes.
    **options: the fields of `Recipe`: `epochs`, `batch_size`, `learning_rate`, `optimizer`, …

  Raises:
    FloatingPointError: if the loss ceases to be finite.
  """
  recipe = Recipe(**options)
  classes, targets = np.unique(labels, return_inverse=True)
  rows = balanced_subset(labels, fraction, seed)
  if recipe.batch_norm and len(rows) < 2:
    raise ValueError(f'batch_norm needs at least 2 labelled examples, got {len(rows)}')
  batch_size = min(recipe.batch_size, len(rows))
  steps = supervised.num_steps(len(rows), batch_size, recipe.epochs)
  optimizer = supervised.make_optimizer(
      recipe.optimizer, recipe.learning_rate, batch_size, steps, steps_per_epoch=len(rows) / batch_size,
      warmup_epochs=recipe.warmup_epochs, weight_decay=recipe.weight_decay)

  def classify(params, stats, x, train):
    h = encode(x)
    if recipe.batch_norm:
      h, stats = normalize(h, stats, train)
    return h @ params[0] + params[1][None], stats

  width = jax.eval_shape(lambda x: encode(prepare(x)), images[np.arange(1)]).shape[1]
  params, stats = supervised.train(
      lambda params, stats, x, key: classify(params, stats, x, True), *initialise(recipe, width, len(classes), seed),
      images, targets, rows=rows, augment_fn=augment_fn, optimizer=optimizer, batch_size=batch_size, steps=steps,
      seed=seed)
  logits = extract(jax.jit(lambda x: classify(params, stats, x, False)[0]), test_images, prepare=prepare)
  return float(np.mean(classes[np.argmax(logits, axis=1)] == np.asarray(test_labels)))


def initialise(recipe: Recipe, width: int, num_classes: int, seed: int) -> tuple[Any, Any]:
  """Returns the first params, (weight [width, num_classes], bias [num_classes]), and stats of a probe."""
  deviation = 0.01 if recipe.optimizer == 'lars' else 0.0
  weight = deviation * jax.random.normal(jax.random.key(seed), (width, num_classes))
  stats = {'mean': jnp.zeros(width), 'variance': jnp.ones(width)} if recipe.batch_norm else {}
  return (weight, jnp.zeros(num_classes)), stats
