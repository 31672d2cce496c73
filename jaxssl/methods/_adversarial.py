"""What the methods with discriminators share: divergences, priors, and steps in which several optimizers take turns."""

import functools
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from flax import linen as nn

from jaxssl import core
from jaxssl.losses import adversarial

DIVERGENCES = {
    'jensen_shannon': adversarial.jensen_shannon,
    'saturating': functools.partial(adversarial.jensen_shannon, saturating=True),
    'least_squares': adversarial.least_squares,
    'pearson': functools.partial(adversarial.least_squares, coding='pearson'),
    'hinge': adversarial.hinge,
    'wasserstein': adversarial.wasserstein,
    'relativistic': adversarial.relativistic,
}
LATENTS = ('normal', 'uniform')


class Update(NamedTuple):
  """One of the updates of a step: its optimizer, and the networks that it moves, by their names in `params`."""

  optimizer: optax.GradientTransformation
  moves: tuple[str, ...]


def init_state(network: nn.Module, updates: Mapping[str, Update], key: jax.Array, *inputs) -> core.State:
  """Returns the state of a freshly initialised `network`, whose `opt_state` has an entry for each of the updates."""
  state = core.init_state(network, optax.identity(), key, *inputs)
  return state._replace(opt_state={
      name: optimizer.init(_part(state.params, moves)) for name, (optimizer, moves) in updates.items()})


def descend(
    loss_fn: Callable[[Any], tuple[jax.Array, tuple[Any, core.Metrics]]], name: str, update: Update, state: Any,
) -> tuple[Any, core.Metrics]:
  """Takes one of the updates of a step, as `core.descend`, on `loss_fn(params)`, a function of all networks.

  `state.step` stays; once an update has failed, nothing moves any more.
  """
  part = core.State(
      state.step, state.failed_step, _part(state.params, update.moves), state.stats, state.opt_state[name])
  part, metrics = core.descend(lambda params: loss_fn({**state.params, **params}), update.optimizer, part)
  after = state._replace(
      failed_step=part.failed_step, params={**state.params, **part.params}, stats=part.stats,
      opt_state={**state.opt_state, name: part.opt_state})
  return after, metrics


def settled(after: Any, before: Any, failed: jax.Array) -> Any:
  """Returns the state after a step, or if any of its updates failed that before it, with the step recorded."""
  after = jax.tree.map(lambda new, old: jnp.where(failed, old, new), after, before)
  is_first = failed & (before.failed_step < 0)
  return after._replace(failed_step=jnp.where(is_first, before.step, before.failed_step))


def averaged(average: Any, variables: Any, momentum: float, step: jax.Array) -> Any:
  """Returns the average of variables over the steps: `momentum` of the old one, less in the first steps.

  So a short run does not sample from what it started with.
  """
  kept = jnp.minimum(momentum, (1 + step) / (10 + step))
  return optax.incremental_update(variables, average, 1 - kept)


def latents(kind: str, key: jax.Array, shape: tuple[int, ...]) -> jax.Array:
  """Returns draws of the standard normal distribution, or of the uniform one from -1 to 1."""
  if kind == 'uniform':
    return jax.random.uniform(key, shape, minval=-1.0)
  return jax.random.normal(key, shape)


def check_discriminator(discriminator: nn.Module) -> None:
  """Raises ValueError unless a module is a discriminator of single inputs, with layers to be evaluated."""
  if not hasattr(discriminator, 'names'):
    raise ValueError('discriminator must be one of single inputs with `names` and `layers`, as ConvDiscriminator, '
                     f'ResNetDiscriminator and MLPDiscriminator are, got {type(discriminator).__name__}')


def check_penalties(weights: Mapping[str, float], batch_stats: Any) -> None:
  """Raises ValueError if there are penalties, whose weights are given by name, of a discriminator with batch norm."""
  if weights and batch_stats:
    raise ValueError(
        f'discriminator must not have batch norm under {next(iter(weights))}: it mixes the slopes of examples')


def _part(params: Mapping[str, Any], names: tuple[str, ...]) -> dict[str, Any]:
  """Returns the parameters of some networks; one without any has no entry."""
  return {name: params[name] for name in names if name in params}
