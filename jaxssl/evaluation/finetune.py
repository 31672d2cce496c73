"""Fine-tuning: the pretrained encoder and a linear head, trained end to end on all labels or a share of them."""

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import linen as nn

from jaxssl.evaluation import supervised
from jaxssl.evaluation.features import extract, to_float
from jaxssl.evaluation.subsets import balanced_subset
from jaxssl.models.forward import forward


class Classifier(nn.Module):
  """A linear layer on an encoder.

  Attributes:
    encoder: any module `(images [b, ...], train=...) -> [b, d]`, also one that ends within the projection head
      (SimCLRv2, arXiv:2006.10029, section 2).
    num_classes: c.
  """

  encoder: nn.Module
  num_classes: int

  @nn.compact
  def __call__(self, x: jax.Array, train: bool = False) -> jax.Array:
    """Returns logits [b, c]."""
    return nn.Dense(self.num_classes, kernel_init=nn.initializers.zeros, name='head')(self.encoder(x, train=train))


def initialise(network: Classifier, variables: Mapping[str, Any], images: jax.Array) -> tuple[Any, Any]:
  """Returns params and stats of `network`: the encoder's from `variables`, the head's zero."""
  fresh = jax.eval_shape(network.init, jax.random.key(0), images)
  head = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), fresh['params']['head'])
  params = {'encoder': variables['params'], 'head': head}
  stats = {name: {'encoder': value} for name, value in variables.items() if name != 'params'}
  expected, found = _shapes(fresh), _shapes({'params': params, **stats})
  if wrong := sorted(set(expected.items()) ^ set(found.items())):
    raise ValueError(f'variables do not belong to encoder: {wrong[0][0]} is {found.get(wrong[0][0], "missing")}, '
                     f'expected {expected.get(wrong[0][0], "nothing")}.')
  return params, stats


def _shapes(tree: Any) -> dict[str, str]:
  leaves = jax.tree_util.tree_leaves_with_path(tree)
  return {jax.tree_util.keystr(path, simple=True, separator='/'): f'{x.dtype}{list(x.shape)}' for path, x in leaves}


def accuracy(
    encoder: nn.Module,
    variables: Mapping[str, Any],
    images: Any,
    labels: np.ndarray,
    test_images: Any,
    test_labels: np.ndarray,
    *,
    augment_fn: supervised.Augment,
    epochs: float = 60,
    batch_size: int = 256,
    learning_rate: float = 0.05,
    optimizer: optax.GradientTransformation | None = None,
    fraction: float = 1.0,
    seed: int = 0,
    prepare: Callable[[np.ndarray], jax.Array] = to_float,
) -> float:
  """Returns the test accuracy after training encoder and linear head together.

  SimCLR's recipe (arXiv:2002.05709, appendix B.5): Nesterov momentum 0.9, rate 0.05 x batch size / 256, random crops
  and flips, no regularisation; 60 epochs for 1 % of the labels, 30 for 10 %; cosine decay, no warm-up.

  Args:
    encoder: any module `(images [b, ...], train=...) -> [b, d]`.
    variables: its pretrained variables, {'params': …, 'batch_stats': …}; not changed.
    images: n training images: an array, or anything with `len()` and `images[index array]`.
    labels: [n] integers.
    test_images: as `images`.
    test_labels: integers; a class that is not in `labels` counts as an error.
    augment_fn: (keys [b], images as stored) -> images in [0, 1], such as `supervised.crop_flip(32)`.
    epochs: passes over the labelled images.
    batch_size: examples a step, at most as many as have labels.
    learning_rate: at batch size 256; scaled linearly.
    optimizer: instead of SimCLR's.
    fraction: share of every class that keeps its labels, at least one example a class.
    seed: of the subset, the order and the augmentation.
    prepare: turns test images as stored into what `encoder` takes.

  Raises:
    ValueError: if `variables` are not the encoder's.
    FloatingPointError: if the loss ceases to be finite.
  """
  classes, targets = np.unique(labels, return_inverse=True)
  rows = balanced_subset(labels, fraction, seed)
  batch_size = min(batch_size, len(rows))
  steps = supervised.num_steps(len(rows), batch_size, epochs)
  network = Classifier(encoder, len(classes))
  params, stats = initialise(network, variables, prepare(test_images[np.arange(1)]))
  params, stats = supervised.train(
      lambda params, stats, x: forward(network, params, stats, x), params, stats, images, targets, rows=rows,
      augment_fn=augment_fn, optimizer=optimizer or supervised.nesterov(learning_rate, batch_size, steps),
      batch_size=batch_size, steps=steps, seed=seed)
  logits = extract(jax.jit(lambda x: network.apply({'params': params, **stats}, x)), test_images, prepare=prepare)
  return float(np.mean(classes[np.argmax(logits, axis=1)] == np.asarray(test_labels)))
