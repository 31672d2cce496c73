"""The target network: a slowly moving average of the trained one, which makes what is to be predicted.

It lives in `stats['target']`, a dict of variables. Its parameters are those of past steps; its batch norm sees its own
inputs. BYOL writes `target = momentum target + (1 - momentum) online` at the end of a step; here that is done at the
beginning of the next, so that one call of `forward` with the new parameters suffices: the sequence is the same.
"""

from typing import Any

import jax
import jax.numpy as jnp
import optax

from jaxssl import core
from jaxssl.methods import _scheduled
from jaxssl.methods._scheduled import Scheduled


def begin(state: core.State, names: tuple[str, ...]) -> core.State:
  """Returns the state with a target, at first equal, of the submodules `names`."""
  variables = {'params': state.params, **state.stats}
  target = {kind: {name: tree[name] for name in names if name in tree} for kind, tree in variables.items()}
  return state._replace(stats={**state.stats, 'target': jax.tree.map(jnp.copy, target)})  # Buffers may be donated.


def take(stats: dict[str, Any], *names: str) -> tuple[Any, ...]:
  """Returns what is left of stats without `names`, and each of these."""
  return {name: tree for name, tree in stats.items() if name not in names}, *(stats[name] for name in names)


def follow(target: dict[str, Any], params: Any, momentum: Scheduled, step: jax.Array | int) -> tuple[Any, Any]:
  """Returns the target's parameters after the update that ended the last step, and its other variables."""
  rate = 1 - _scheduled.at(momentum, jnp.maximum(step - 1, 0))
  own = {name: jax.lax.stop_gradient(params[name]) for name in target['params']}
  moved = optax.incremental_update(own, target['params'], rate)
  return moved, {kind: tree for kind, tree in target.items() if kind != 'params'}


def health(method: Any, state: core.State, batch: core.Batch) -> core.Metrics:
  """Returns how far the target is from the parameters it follows, relative to their length; written as a method."""
  del method, batch
  target = state.stats['target']['params']
  own = {name: state.params[name] for name in target}
  return {'target_distance': optax.tree.norm(optax.tree.sub(own, target)) / optax.tree.norm(own)}
