"""Training a classifier on minibatches of augmented images: what SGD probes and fine-tuning share."""

import dataclasses
import math
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxssl import augment, core, recipes
from jaxssl.evaluation.features import adapt
from jaxssl.training import optimizers, schedules

Augment = Callable[[jax.Array, Any], Any]  # keys [b], images as stored [b, ...] -> images in [0, 1]; or views
# params, stats, images, key -> logits [b, c], stats
Apply = Callable[[Any, Any, Any, jax.Array], tuple[jax.Array, Any]]
Mix = Callable[[jax.Array, Any, jax.Array], tuple[Any, jax.Array]]  # key, images, targets [b] -> images, labels [b, c]

_MIX, _APPLY = 1 << 30, (1 << 30) + 1  # Apart from the numbers of the examples, in the keys.


def crop_flip(size: int) -> Augment:
  """Random resized crop and flip alone, as SimCLR trains every classifier (arXiv:2002.05709, appendix B.5, B.6)."""
  recipe = recipes.crop_flip(size, views=1)
  # The last argument orders the colour jitter, of which there is none.
  return lambda keys, images: augment.views(keys, images, recipe, keys[0])[0]


def crops(recipe: recipes.Recipe | recipes.Paired, channels: int) -> Augment:
  """The crops (and flips, and warps) of `recipe`'s first view, without its colours, in `channels` channels.

  Of several modalities or of paired views they are a tuple of all.
  """
  if isinstance(recipe, recipes.Paired):
    return lambda keys, inputs: augment.paired.change(keys, inputs, recipe, keys[0])
  view = dataclasses.replace(recipe.views[0], jitter=0.0, grey=0.0, blur=0.0, solarize=0.0)
  plain = dataclasses.replace(recipe, views=(view,))
  seen = recipes.Recipe((view,), view.size, input_grey=recipe.input_grey, modalities=recipe.modalities)

  def make(keys, images):
    return adapt(augment.views(keys, images, plain, keys[0])[0], seen, channels)

  return make


def make_optimizer(
    name: str | optax.GradientTransformation, learning_rate: float, batch_size: int, steps: int, *,
    steps_per_epoch: float = 1.0, warmup_epochs: float = 0.0, weight_decay: float = 0.0,
    layer_decay: float | None = None,
) -> optax.GradientTransformation:
  """Returns an optimizer for classifiers: rate x batch_size / 256, linear warm-up, then a cosine to 0.

  Args:
    name: 'sgd' (SimCLR's, Nesterov momentum 0.9), 'lars' or 'adamw'; or an optimizer, returned as it is.
    learning_rate: at batch size 256.
    batch_size: examples a step.
    steps: how many.
    steps_per_epoch: converts the warm-up to steps.
    warmup_epochs: at most half of the steps.
    weight_decay: neither of biases nor of norms.
    layer_decay: of 'adamw' alone; see `jaxssl.training.layer_decay`.
  """
  if not isinstance(name, str):
    return name
  rate = schedules.warmup_cosine(
      learning_rate, batch_size=batch_size, steps=steps, steps_per_epoch=steps_per_epoch, warmup_epochs=warmup_epochs)
  if name == 'sgd':
    return optimizers.sgd(rate, momentum=0.9, nesterov=True, weight_decay=weight_decay)
  if name == 'lars':
    return optimizers.lars(rate, weight_decay=weight_decay)
  if name == 'adamw':
    return optimizers.adamw(rate, weight_decay=weight_decay, layer_decay=layer_decay)
  raise ValueError(f"optimizer must be 'sgd', 'lars' or 'adamw', got {name!r}")


def require(recipe: Any, **ranges: tuple[Callable[[Any], bool], str]) -> None:
  """Raises ValueError for the first field of `recipe` that is not in its range, given as (test, words)."""
  for name, (allows, words) in ranges.items():
    value = getattr(recipe, name)
    try:
      allowed = allows(value)
    except TypeError:
      allowed = False
    if not allowed:
      raise ValueError(f'{name} must be {words}, got {value!r}')


POSITIVE = (lambda x: 0 < x < math.inf, 'positive')
NOT_NEGATIVE = (lambda x: 0 <= x < math.inf, 'finite and not negative')
SHARE = (lambda x: 0 <= x < 1, 'in [0, 1)')


def num_steps(num_examples: int, batch_size: int, epochs: float) -> int:
  """Returns the number of batches in so many epochs, at least one."""
  return max(1, round(epochs * num_examples / batch_size))


def batches(num_examples: int, batch_size: int, steps: int, seed: int) -> Iterator[np.ndarray]:
  """Yields `steps` index arrays [batch_size]: one random permutation after the other, cut into batches."""
  epoch, order = 0, np.empty(0, np.int64)
  for _ in range(steps):
    while len(order) < batch_size:
      generator = np.random.Generator(np.random.Philox(key=seed, counter=[0, 0, 0, epoch]))
      order = np.concatenate([order, generator.permutation(num_examples)])
      epoch += 1
    yield order[:batch_size]
    order = order[batch_size:]


def train(
    apply: Apply,
    params: Any,
    stats: Any,
    images: Any,
    targets: np.ndarray,
    *,
    rows: np.ndarray,
    augment_fn: Augment,
    optimizer: optax.GradientTransformation,
    batch_size: int,
    steps: int,
    seed: int,
    mix: Mix | None = None,
) -> tuple[Any, Any]:
  """Minimises the cross-entropy of `apply` on augmented images; returns the last params and stats.

  Args:
    apply: the classifier in training mode: (params, stats, images, key) -> (logits [b, c], updated stats).
    params: what is trained.
    stats: variables that change but are not trained, such as batch-norm averages; may be empty.
    images: n images: an array, or anything with `images[index array] -> [k, h, w, c]`.
    targets: [n] integers from 0 to c - 1.
    rows: the indices of the examples to train on.
    augment_fn: (keys [b], images as stored [b, ...]) -> images in [0, 1], compiled with the step.
    optimizer: any optax optimizer.
    batch_size: examples a step.
    steps: how many.
    seed: of the order of the examples and of all that is random.
    mix: changes images after `augment_fn` together with their labels; None: labels are the targets.

  Raises:
    FloatingPointError: if the loss or its gradient ceases to be finite.
  """

  @jax.jit
  def step(state, images, targets, key):
    views = augment_fn(jax.random.split(key, len(targets)), images)
    if mix is not None:
      views, targets = mix(jax.random.fold_in(key, _MIX), views, targets)

    def loss(params):
      logits, stats = apply(params, state.stats, views, jax.random.fold_in(key, _APPLY))
      return jnp.mean(_cross_entropy(logits.astype(jnp.float32), targets)), (stats, {})

    return core.descend(loss, optimizer, state)[0]

  key = jax.random.key(seed)
  state = core.State(jnp.int32(0), jnp.int32(-1), params, stats, optimizer.init(params))
  for i, chosen in enumerate(batches(len(rows), batch_size, steps, seed)):
    index = rows[chosen]
    state = step(state, images[index], jnp.asarray(targets[index], jnp.int32), jax.random.fold_in(key, i))
  if state.failed_step >= 0:
    raise FloatingPointError(f'the loss is not finite at step {int(state.failed_step)} of {steps}: lower the rate')
  return state.params, state.stats


def _cross_entropy(logits: jax.Array, targets: jax.Array) -> jax.Array:
  """Returns the loss of each example [b]; targets are classes [b] or distributions over them [b, c]."""
  if targets.ndim == 1:
    return optax.softmax_cross_entropy_with_integer_labels(logits, targets)
  return optax.softmax_cross_entropy(logits, targets)
