"""Optimizers, from optax, that leave biases and norm parameters out of weight decay and of layer-wise adaptation.

The exclusion is SimCLR's (arXiv:2002.05709; `exclude_from_weight_decay` in its code), the same for every optimizer.
All share two arguments: `clip_norm` scales the gradient down to this global norm, and `accumulate_steps` takes one
step on the mean gradient of this many batches. Accumulation does not add negatives: the loss of each batch still
contrasts its own examples alone, so it is no substitute for a larger batch.

`learning_rate` and `weight_decay` are numbers or schedules over the steps of the run; an update after accumulation uses
its last step's.
"""

from typing import Any, TypeAlias

import jax
import optax

from jaxssl.training.layer_decay import scale_by_depth

LearningRate: TypeAlias = float | optax.Schedule
WeightDecay: TypeAlias = float | optax.Schedule


def adapted(params: Any) -> Any:
  """Returns True for each parameter that takes weight decay and adaptation: neither a bias nor a norm's scale.

  Those are the leaves named 'bias' or 'scale', a ViT's 'positions' and 'registers', and all of rank 0 and 1 (class
  tokens, temperatures, layer scales).
  """
  plain = ('bias', 'scale', 'positions', 'registers')

  def is_adapted(path, leaf) -> bool:
    return leaf.ndim > 1 and jax.tree_util.keystr(path[-1:], simple=True) not in plain

  return jax.tree_util.tree_map_with_path(is_adapted, params)


def sgd(
    learning_rate: LearningRate,
    momentum: float = 0.9,
    nesterov: bool = False,
    weight_decay: WeightDecay = 0.0,
    decay_all: bool = False,
    clip_norm: float | None = None,
    accumulate_steps: int = 1,
) -> optax.GradientTransformation:
  """Stochastic gradient descent: `v = momentum v + (g + weight_decay w)`, `w -= learning_rate v`.

  `decay_all` includes biases and norm parameters in the decay, as SimSiam and MoCo do (PyTorch's default).
  """
  return _complete(optax.chain(
      optax.add_decayed_weights(_per_update(weight_decay, accumulate_steps), None if decay_all else adapted),
      optax.sgd(_per_update(learning_rate, accumulate_steps), momentum, nesterov),
  ), clip_norm, accumulate_steps)


def adamw(
    learning_rate: LearningRate,
    b1: float = 0.9,
    b2: float = 0.999,
    eps: float = 1e-8,
    weight_decay: WeightDecay = 1e-4,
    layer_decay: float | None = None,
    clip_norm: float | None = None,
    accumulate_steps: int = 1,
) -> optax.GradientTransformation:
  """Adam with decoupled weight decay (Loshchilov & Hutter, arXiv:1711.05101).

  `layer_decay` lowers the rate by this factor for each layer that lies above a parameter (`layer_decay.scales`); None
  or 1: not at all.
  """
  rate = _per_update(learning_rate, accumulate_steps)
  optimizer = optax.adamw(
      rate, b1, b2, eps, weight_decay=_per_update(weight_decay, accumulate_steps), mask=adapted)
  if layer_decay not in (None, 1.0):
    optimizer = optax.chain(optimizer, scale_by_depth(layer_decay))
  return _complete(optimizer, clip_norm, accumulate_steps)


def lars(
    learning_rate: LearningRate,
    momentum: float = 0.9,
    nesterov: bool = False,
    weight_decay: WeightDecay = 1e-6,
    trust_coefficient: float = 0.001,
    excluded_rate: float = 1.0,
    clip_norm: float | None = None,
    accumulate_steps: int = 1,
) -> optax.GradientTransformation:
  """LARS (You et al., arXiv:1708.03888) with the defaults of SimCLR (section 2.2 and its `lars_optimizer.py`).

  With `d = g + weight_decay w`: `v = momentum v + learning_rate trust d`, `w -= v`, where trust is
  `trust_coefficient |w| / |d|`, or 1 when either norm is 0. The learning rate stands inside the momentum. Excluded
  parameters get plain momentum without decay, at `excluded_rate` times the learning rate (Barlow Twins: 0.0048 / 0.2).
  """
  optimizer = optax.lars(
      _per_update(learning_rate, accumulate_steps), _per_update(weight_decay, accumulate_steps), adapted,
      trust_coefficient, trust_ratio_mask=adapted, momentum=momentum, nesterov=nesterov)
  if excluded_rate != 1.0:
    excluded = lambda params: jax.tree.map(lambda is_adapted: not is_adapted, adapted(params))
    optimizer = optax.chain(optimizer, optax.masked(optax.scale(excluded_rate), excluded))
  return _complete(optimizer, clip_norm, accumulate_steps)


def lamb(
    learning_rate: LearningRate,
    b1: float = 0.9,
    b2: float = 0.999,
    eps: float = 1e-6,
    weight_decay: WeightDecay = 0.01,  # The paper's, for BERT.
    clip_norm: float | None = None,
    accumulate_steps: int = 1,
) -> optax.GradientTransformation:
  """LAMB (You et al., arXiv:1904.00962): Adam's direction plus decay, scaled by `|w| / |direction|`.

  `optax.lamb` adapts every parameter; here the excluded ones get plain Adam without decay.
  """
  return _complete(optax.chain(
      optax.scale_by_adam(b1, b2, eps),
      optax.add_decayed_weights(_per_update(weight_decay, accumulate_steps), adapted),
      optax.masked(optax.scale_by_trust_ratio(), adapted),
      optax.scale_by_learning_rate(_per_update(learning_rate, accumulate_steps)),
  ), clip_norm, accumulate_steps)


def rmsprop(
    learning_rate: LearningRate,
    decay: float = 0.99,  # PyTorch's, as is eps: WGAN's code leaves both as they are.
    eps: float = 1e-8,
    weight_decay: WeightDecay = 0.0,
    clip_norm: float | None = None,
    accumulate_steps: int = 1,
) -> optax.GradientTransformation:
  """RMSProp (Tieleman & Hinton, 2012): `v = decay v + (1 - decay) d^2`, `w -= learning_rate d / (sqrt(v) + eps)`.

  With `d = g + weight_decay w`. The optimizer of WGAN (arXiv:1701.07875), at 5e-5.
  """
  return _complete(optax.chain(
      optax.add_decayed_weights(_per_update(weight_decay, accumulate_steps), adapted),
      optax.rmsprop(_per_update(learning_rate, accumulate_steps), decay, eps, eps_in_sqrt=False),
  ), clip_norm, accumulate_steps)


def _per_update(value: float | optax.Schedule, accumulate_steps: int) -> float | optax.Schedule:
  """Returns the schedule over updates that reads one over steps at the last step of each update."""
  if not callable(value) or accumulate_steps == 1:
    return value
  return lambda count: value(count * accumulate_steps + accumulate_steps - 1)


def _complete(
    optimizer: optax.GradientTransformation, clip_norm: float | None, accumulate_steps: int,
) -> optax.GradientTransformation:
  """Adds clipping of the accumulated gradient and accumulation to an optimizer."""
  if clip_norm is not None and not clip_norm > 0:
    raise ValueError(f'clip_norm must be positive or None: got {clip_norm}')
  if accumulate_steps < 1:
    raise ValueError(f'accumulate_steps must be positive: got {accumulate_steps}')
  if clip_norm is not None:
    optimizer = optax.chain(optax.clip_by_global_norm(clip_norm), optimizer)
  if accumulate_steps > 1:
    optimizer = optax.MultiSteps(optimizer, accumulate_steps).gradient_transformation()
  return optimizer
