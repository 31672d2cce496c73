"""Linear probes by SGD on augmented images, for sets whose features do not fit a full-batch solver."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxssl.evaluation import supervised
from jaxssl.evaluation.features import Encode, extract, to_float
from jaxssl.evaluation.subsets import balanced_subset


def accuracy(
    encode: Encode,
    images: Any,
    labels: np.ndarray,
    test_images: Any,
    test_labels: np.ndarray,
    *,
    augment_fn: supervised.Augment,
    epochs: float = 90,
    batch_size: int = 256,
    learning_rate: float = 0.1,
    optimizer: optax.GradientTransformation | None = None,
    fraction: float = 1.0,
    seed: int = 0,
    prepare: Callable[[np.ndarray], jax.Array] = to_float,
) -> float:
  """Returns the test accuracy of a linear classifier trained by SGD on a frozen encoder's features.

  SimCLR's linear evaluation (arXiv:2002.05709, appendix B.6): Nesterov momentum 0.9, rate 0.1 x batch size / 256, 90
  epochs of random crops and flips, no weight decay; cosine decay, no warm-up.

  Args:
    encode: the frozen encoder, images [b, h, w, c] in [0, 1] -> features [b, d].
    images: n training images: an array, or anything with `len()` and `images[index array]`.
    labels: [n] integers.
    test_images: as `images`.
    test_labels: integers; a class that is not in `labels` counts as an error.
    augment_fn: (keys [b], images as stored) -> images in [0, 1], such as `supervised.crop_flip(32)`.
    epochs: passes over the training images.
    batch_size: examples a step, at most n.
    learning_rate: at batch size 256; scaled linearly.
    optimizer: instead of SimCLR's.
    fraction: share of every class that keeps its labels.
    seed: of the subset, the order and the augmentation.
    prepare: turns test images as stored into what `encode` takes.

  Raises:
    FloatingPointError: if the loss ceases to be finite.
  """
  classes, targets = np.unique(labels, return_inverse=True)
  rows = balanced_subset(labels, fraction, seed)
  batch_size = min(batch_size, len(rows))
  steps = supervised.num_steps(len(rows), batch_size, epochs)
  width = jax.eval_shape(lambda x: encode(prepare(x)), images[np.arange(1)]).shape[1]
  linear = lambda params, h: h @ params[0] + params[1][None]
  (weight, bias), _ = supervised.train(
      lambda params, stats, x: (linear(params, encode(x)), stats),
      (jnp.zeros((width, len(classes))), jnp.zeros(len(classes))), {}, images, targets, rows=rows,
      augment_fn=augment_fn, optimizer=optimizer or supervised.nesterov(learning_rate, batch_size, steps),
      batch_size=batch_size, steps=steps, seed=seed)
  logits = extract(jax.jit(lambda x: linear((weight, bias), encode(x))), test_images, prepare=prepare)
  return float(np.mean(classes[np.argmax(logits, axis=1)] == np.asarray(test_labels)))
