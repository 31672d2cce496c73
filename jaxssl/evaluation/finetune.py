"""Fine-tuning: the pretrained encoder and a linear head, trained end to end on all labels or a share of them."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import linen as nn

from jaxssl import augment
from jaxssl.evaluation import supervised
from jaxssl.evaluation.features import extract, to_float
from jaxssl.evaluation.subsets import balanced_subset
from jaxssl.models.forward import forward
from jaxssl.training import layer_decay

OPTIMIZERS = ('sgd', 'adamw')


@dataclasses.dataclass(frozen=True)
class Recipe:
  """How encoder and head are trained: by default as in SimCLR (arXiv:2002.05709, appendix B.5).

  Nesterov momentum 0.9, rate 0.05 x batch size / 256, no regularisation; 60 epochs for 1 % of the labels, 30 for 10 %;
  cosine decay, no warm-up. Vision transformers want another: `Recipe(epochs=100, batch_size=1024, learning_rate=5e-4,
  optimizer='adamw', weight_decay=0.05, layer_decay=0.65, warmup_epochs=5, drop_path=0.1, mixup=0.8, cutmix=1.0,
  label_smoothing=0.1)` is MAE's for a ViT-B (arXiv:2111.06377, table 9), but for RandAugment and random erasing.
  """

  epochs: float = 60  # Passes over the labelled images.
  batch_size: int = 256  # At most as many as have labels.
  learning_rate: float = 0.05  # At batch size 256; scaled linearly.
  optimizer: str | optax.GradientTransformation = 'sgd'  # Or 'adamw', or one of optax's, which has its own rate.
  weight_decay: float = 0.0
  layer_decay: float | None = None  # Of the rate, by depth: see training.layer_decay.
  warmup_epochs: float = 0.0
  drop_path: float | None = None  # Stochastic depth of the encoder; None: as it was built.
  mixup: float = 0.0  # Alpha of mixup, 0: none; likewise cutmix. With both, a batch gets one of the two.
  cutmix: float = 0.0
  switch_probability: float = 0.5  # Of cutmix instead of mixup.
  label_smoothing: float = 0.0

  def __post_init__(self):
    optional = lambda test: lambda x: x is None or test(x)
    by_name = isinstance(self.optimizer, str) or not hasattr(self.optimizer, 'update')
    supervised.require(
        self, epochs=supervised.POSITIVE, batch_size=(lambda x: x >= 1, 'at least 1'),
        learning_rate=supervised.POSITIVE,
        optimizer=(lambda x: not by_name or x in OPTIMIZERS, f'one of {", ".join(map(repr, OPTIMIZERS))}'),
        weight_decay=supervised.NOT_NEGATIVE, warmup_epochs=supervised.NOT_NEGATIVE,
        layer_decay=(optional(lambda x: 0 < x <= 1), 'in (0, 1] or None'),
        drop_path=(optional(supervised.SHARE[0]), 'in [0, 1) or None'),
        mixup=supervised.NOT_NEGATIVE, cutmix=supervised.NOT_NEGATIVE,
        switch_probability=(lambda x: 0 <= x <= 1, 'in [0, 1]'), label_smoothing=supervised.SHARE)
    if self.layer_decay not in (None, 1.0) and self.optimizer != 'adamw':
      raise ValueError(f"layer_decay must be None without optimizer='adamw', got {self.layer_decay!r}")

  def mix(self, num_classes: int) -> supervised.Mix | None:
    """Returns what changes images with their labels; None where nothing does."""
    if not (self.mixup or self.cutmix or self.label_smoothing):
      return None

    def mix(key, images, targets):
      labels = optax.smooth_labels(jax.nn.one_hot(targets, num_classes), self.label_smoothing)
      return augment.mixup_or_cutmix(key, images, labels, self.mixup, self.cutmix, self.switch_probability)

    return mix


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
                     f'expected {expected.get(wrong[0][0], "nothing")}')
  return params, stats


def _shapes(tree: Any) -> dict[str, str]:
  leaves = jax.tree_util.tree_leaves_with_path(tree)
  return {jax.tree_util.keystr(path, simple=True, separator='/'): f'{x.dtype}{list(x.shape)}' for path, x in leaves}


def check(encoder: nn.Module, params: Any, recipe: Recipe) -> None:
  """Raises ValueError for a recipe that does not suit an encoder and its parameters (their names alone matter)."""
  with_drop_path(encoder, recipe.drop_path)
  if recipe.layer_decay not in (None, 1.0):
    layer_decay.scales({'encoder': params}, recipe.layer_decay)


def with_drop_path(encoder: nn.Module, rate: float | None) -> nn.Module:
  """Returns the encoder, and the one within it, with another probability of stochastic depth; None: as it is.

  Raises:
    ValueError: if no module of it has a field `drop_path`, as `ViT` has.
  """
  if rate is None:
    return encoder
  changed = _changed(encoder, rate)
  if changed is encoder:
    raise ValueError(f'drop_path must be None for an encoder without stochastic depth, {_named(encoder)}; got {rate}')
  return changed


def _changed(module: nn.Module, rate: float) -> nn.Module:
  """The module with the field `drop_path` set, in itself and in modules that are fields of it; itself if none has."""
  fields = {field.name: getattr(module, field.name) for field in dataclasses.fields(module) if field.name != 'parent'}
  changes: dict[str, Any] = {'drop_path': rate} if 'drop_path' in fields else {}
  for name, value in fields.items():
    if isinstance(value, nn.Module) and (changed := _changed(value, rate)) is not value:
      changes[name] = changed
  return module.clone(**changes) if changes else module


def _named(module: nn.Module) -> str:
  """'Truncated(Projected(ResNet))': the modules that hold each other."""
  fields = (getattr(module, field.name) for field in dataclasses.fields(module) if field.name != 'parent')
  inner = next((value for value in fields if isinstance(value, nn.Module)), None)
  return type(module).__name__ + (f'({_named(inner)})' if inner is not None else '')


def accuracy(
    encoder: nn.Module,
    variables: Mapping[str, Any],
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
  """Returns the test accuracy after training encoder and linear head together.

  Args:
    encoder: any module `(images [b, ...], train=...) -> [b, d]`; in training it is given the rng 'dropout'.
    variables: its pretrained variables, {'params': …, 'batch_stats': …}; not changed.
    images: n training images: an array, or anything with `len()` and `images[index array]`.
    labels: [n] integers.
    test_images: as `images`.
    test_labels: integers; a class that is not in `labels` counts as an error.
    augment_fn: (keys [b], images as stored) -> images in [0, 1], such as `supervised.crop_flip(32)`.
    fraction: share of every class that keeps its labels, at least one example a class.
    seed: of the subset, the order and all that is random.
    prepare: turns test images as stored into what `encoder` takes.
    **options: the fields of `Recipe`: `epochs`, `batch_size`, `learning_rate`, `optimizer`, …

  Raises:
    ValueError: if `variables` are not the encoder's, or the recipe does not suit it.
    FloatingPointError: if the loss ceases to be finite.
  """
  recipe = Recipe(**options)
  check(encoder, variables['params'], recipe)
  classes, targets = np.unique(labels, return_inverse=True)
  rows = balanced_subset(labels, fraction, seed)
  batch_size = min(recipe.batch_size, len(rows))
  steps = supervised.num_steps(len(rows), batch_size, recipe.epochs)
  network = Classifier(with_drop_path(encoder, recipe.drop_path), len(classes))
  params, stats = initialise(network, variables, prepare(test_images[np.arange(1)]))
  optimizer = supervised.make_optimizer(
      recipe.optimizer, recipe.learning_rate, batch_size, steps, steps_per_epoch=len(rows) / batch_size,
      warmup_epochs=recipe.warmup_epochs, weight_decay=recipe.weight_decay, layer_decay=recipe.layer_decay)
  params, stats = supervised.train(
      lambda params, stats, x, key: forward(network, params, stats, x, rngs={'dropout': key}), params, stats, images,
      targets, rows=rows, augment_fn=augment_fn, optimizer=optimizer, batch_size=batch_size, steps=steps, seed=seed,
      mix=recipe.mix(len(classes)))
  logits = extract(jax.jit(lambda x: network.apply({'params': params, **stats}, x)), test_images, prepare=prepare)
  return float(np.mean(classes[np.argmax(logits, axis=1)] == np.asarray(test_labels)))
