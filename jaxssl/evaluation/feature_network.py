"""The fixed network whose features judge samples: a small classifier, trained on the labelled examples at hand.

The usual judge, an Inception network trained on ImageNet (https://arxiv.org/abs/1706.08500), would have to be
downloaded, and knows photographs alone. Without labels the weights stay random: such features still tell much apart,
but by texture rather than by what is shown.
"""

import dataclasses
import hashlib
import json
import zipfile
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from flax import traverse_util

from jaxssl.evaluation import finetune, supervised
from jaxssl.evaluation.subsets import evenly_spread
from jaxssl.models.autoencoder import MLPEncoder
from jaxssl.models.forward import forward
from jaxssl.models.resnet import ResNet
from jaxssl.training import files

STEPS, BATCH_SIZE, RATE, WEIGHT_DECAY = 500, 128, 0.02, 1e-4  # Of AdamW; the rate is at batch size 256.
SEED = 0  # Whatever the run's: all runs on the same data have the same judge.
WIDTHS = (24, 48, 96)
SMALL = 64  # Pixels up to which a stride of 2 is enough at the start.
REMEMBERED = 1000  # Examples that a fingerprint is of.


@dataclasses.dataclass(frozen=True)
class FeatureNetwork:
  """A network x [b, ...] -> features [b, d], and the linear map that it was trained with."""

  encoder: nn.Module
  variables: Any  # The encoder's: {'params': …, 'batch_stats': …}.
  head: Mapping[str, Any] | None = None  # 'kernel' [d, c] and 'bias' [c]; None: all weights are random.
  classes: Any = None  # The labels [c] that logits stand for.

  @property
  def kind(self) -> str:
    return 'random' if self.head is None else 'classifier'

  def accuracy(self, features: np.ndarray, labels: np.ndarray) -> float | None:
    """Returns the share of features [n, d] whose label is predicted; None of random weights."""
    if self.head is None:
      return None
    logits = features @ np.asarray(self.head['kernel']) + np.asarray(self.head['bias'])
    return float(np.mean(self.classes[np.argmax(logits, axis=1)] == labels))


def architecture(shape: tuple[int, ...]) -> nn.Module:
  """Returns the encoder for inputs of `shape`: a ResNet of three stages for images, and else an MLP."""
  if len(shape) == 3:
    return ResNet((1, 1, 1), 'basic', WIDTHS, stem='strided' if max(shape[:2]) <= SMALL else 'imagenet',
                  average_pool_shortcut=True, zero_init_residual=False)
  return MLPEncoder((2 * WIDTHS[-1], WIDTHS[-1]), batch_norm=True)


def untrained(shape: tuple[int, ...]) -> FeatureNetwork:
  """Returns the network for inputs of `shape` with random weights, always the same."""
  encoder = architecture(shape)
  return FeatureNetwork(encoder, jax.jit(encoder.init)(jax.random.key(SEED), jnp.zeros((1, *shape))))


def train(
    shape: tuple[int, ...], images: Any, labels: np.ndarray, *, augment_fn: supervised.Augment, steps: int = STEPS,
) -> FeatureNetwork:
  """Returns the network trained to classify.

  Args:
    shape: of an input as the network sees it.
    images: n examples: an array, or anything with `len()` and `images[index array]`.
    labels: [n] integers.
    augment_fn: (keys [b], examples as stored) -> what the network sees.
    steps: how many.

  Raises:
    FloatingPointError: if the loss ceases to be finite.
  """
  fresh = untrained(shape)
  classes, targets = np.unique(labels, return_inverse=True)
  network = finetune.Classifier(fresh.encoder, len(classes))
  params, stats = finetune.initialise(network, fresh.variables, jnp.zeros((1, *shape)))
  batch_size = min(BATCH_SIZE, len(labels))
  params, stats = supervised.train(
      lambda params, stats, x, key: forward(network, params, stats, x, rngs={'dropout': key}), params, stats, images,
      targets, rows=np.arange(len(labels)), augment_fn=augment_fn,
      optimizer=supervised.make_optimizer('adamw', RATE, batch_size, steps, weight_decay=WEIGHT_DECAY),
      batch_size=batch_size, steps=steps, seed=SEED)
  variables = {'params': params['encoder'], **{kind: tree['encoder'] for kind, tree in stats.items()}}
  return FeatureNetwork(fresh.encoder, variables, params['head'], classes)


def fingerprint(shape: tuple[int, ...], images: Any, labels: np.ndarray, recipe: Any, steps: int) -> str:
  """Returns what tells whether a stored network is the one that `train` would return, in hexadecimal.

  It covers all that the training depends on: all labels, but of the examples only `REMEMBERED`, evenly spread.
  """
  about = {'shape': list(shape), 'architecture': repr(architecture(shape)), 'recipe': repr(recipe), 'steps': steps,
           'optimizer': [BATCH_SIZE, RATE, WEIGHT_DECAY, SEED], 'count': len(images)}
  digest = hashlib.sha256(json.dumps(about, sort_keys=True).encode())
  digest.update(np.ascontiguousarray(labels, np.int64).tobytes())
  for array in jax.tree.leaves(images[evenly_spread(len(images), REMEMBERED)]):
    digest.update(np.ascontiguousarray(array).tobytes())
  return digest.hexdigest()


def save(network: FeatureNetwork, file: str, mark: str) -> None:
  """Writes a trained network and its fingerprint `mark` to an .npz; a reader sees the old file or the new one."""
  flat = traverse_util.flatten_dict({**network.variables, 'head': network.head}, sep='/')
  arrays: dict[str, Any] = {name: np.asarray(x) for name, x in flat.items()}
  with files.replacing(file) as temporary, open(temporary, 'wb') as f:
    np.savez(f, **arrays, classes=network.classes, fingerprint=mark)


def load(file: str, shape: tuple[int, ...], mark: str) -> FeatureNetwork:
  """Returns the network that `save` wrote.

  Raises:
    ValueError: if the file is damaged, or its fingerprint is not `mark`.
  """
  if not zipfile.is_zipfile(file):
    raise ValueError(f'{file} is damaged: it is no .npz archive')
  try:
    with np.load(file, allow_pickle=False) as stored:
      arrays = dict(stored)
  except Exception as error:  # Broken archives make zipfile raise errors of many kinds.
    raise ValueError(f'{file} is damaged: {error}') from error
  if str(arrays.pop('fingerprint', '')) != mark:
    raise ValueError(f'{file} was trained on other data, or in another way')
  encoder, classes = architecture(shape), arrays.pop('classes', np.empty(0))
  fresh = jax.eval_shape(encoder.init, jax.random.key(0), jnp.zeros((1, *shape)))
  head = {'kernel': np.empty((WIDTHS[-1], len(classes))), 'bias': np.empty(len(classes))}
  expected = traverse_util.flatten_dict({**fresh, 'head': head}, sep='/')
  if {name: x.shape for name, x in expected.items()} != {name: x.shape for name, x in arrays.items()}:
    raise ValueError(f'{file} is damaged: it does not hold the arrays of the network')
  variables = traverse_util.unflatten_dict(arrays, sep='/')
  return FeatureNetwork(encoder, variables, variables.pop('head'), classes)


def encoder_of(network: FeatureNetwork) -> Callable[[jax.Array], jax.Array]:
  """Returns the network as a function of x [b, ...], to be compiled with what makes x."""
  return lambda x: network.encoder.apply(network.variables, x)  # type: ignore[return-value]
