"""The contract between a method and everything around it, and the one gradient step."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp
import optax
from flax import linen as nn

Batch = dict[str, Any]
Metrics = dict[str, jax.Array]


class State(NamedTuple):
  """What a one-network method carries from step to step; other methods define their own."""

  step: jax.Array  # int32: updates done so far.
  failed_step: jax.Array  # int32: -1, or the first step whose loss or gradient was not finite.
  params: Any
  stats: Any  # Variables that are not trained, such as batch-norm averages.
  opt_state: Any


class Method(Protocol):
  """A way to train an encoder: a frozen dataclass of networks, optimizer and hyper-parameters.

  A batch is a dict: `views` (a tuple of [b, ...] arrays, one a view), `inputs` [b, ...] (not augmented; of data of
  several views a tuple), `index` [b] (int32, the example's number in its data set), and for some sources `label`,
  `group`, `mask`.
  """

  representations: tuple[str, ...]  # What `represent` can return; the first is the default.

  def init(self, key: jax.Array, batch: Batch) -> Any:
    """Returns the initial state: any pytree with `step` and `failed_step`, holding all that a resume needs."""

  def step(self, state: Any, batch: Batch, key: jax.Array) -> tuple[Any, Metrics]:
    """Returns the next state and scalar metrics. Pure, and written for the global batch."""

  def represent(self, state: Any, inputs: Any, name: str | None = None, mask: jax.Array | None = None):
    """Returns features [n, d] of un-augmented inputs [n, ...]."""

  def backbone(self, state: Any, name: str | None = None) -> tuple[nn.Module, Any]:
    """Returns the network up to a representation, a module of inputs and `train`, and its variables, to fine-tune."""


def init_state(network: nn.Module, optimizer: optax.GradientTransformation, key: jax.Array, *inputs) -> State:
  """Returns the state of a freshly initialised `network`, applied to `inputs` to learn their shapes."""
  variables = dict(network.init(key, *inputs))
  params = variables.pop('params')
  return State(jnp.int32(0), jnp.int32(-1), params, variables, optimizer.init(params))


def descend(
    loss_fn: Callable[[Any], tuple[jax.Array, tuple[Any, Metrics]]],
    optimizer: optax.GradientTransformation,
    state: Any,
    project: Callable[[Any, Any], Any] = lambda new, old: new,
) -> tuple[Any, Metrics]:
  """Takes one optimizer step on `loss_fn(params) -> (loss, (stats, metrics))`.

  `project(new, old)` returns the parameters to keep: those after the update, brought back to where they may be.
  At the first loss or gradient that is not finite, the state stays as it was, `failed_step` records the step, and the
  state is frozen from then on, so that the trainer can find out later, without a host sync at every step.
  """
  (loss, (stats, metrics)), grads = jax.value_and_grad(loss_fn, has_aux=True)(state.params)
  gradient_norm = optax.tree.norm(grads)
  updates, opt_state = optimizer.update(grads, state.opt_state, state.params)
  params = project(optax.apply_updates(state.params, updates), state.params)
  after = state._replace(step=state.step + 1, params=params, stats=stats, opt_state=opt_state)
  finite = jnp.isfinite(loss) & jnp.isfinite(gradient_norm)
  failed = jnp.where(finite | (state.failed_step >= 0), state.failed_step, state.step)
  after = jax.tree.map(lambda new, old: jnp.where(failed < 0, new, old), after, state)
  return after._replace(failed_step=failed), {**metrics, 'loss': loss, 'gradient_norm': gradient_norm}


def choose(name: str | None, representations: dict[str, Any]) -> Any:
  """Returns the representation called `name`, or the first of them."""
  name = next(iter(representations)) if name is None else name
  if name not in representations:
    raise ValueError(f'name must be one of {", ".join(map(repr, representations))}, got {name!r}')
  return representations[name]


def part_of(state: Any, names: tuple[str, ...]) -> dict[str, Any]:
  """Returns the variables of the network's submodules `names` alone, as those of a module that calls it `network`."""
  variables = {'params': state.params, **state.stats}
  parts = {kind: {name: tree[name] for name in names if name in tree} for kind, tree in variables.items()
           if isinstance(tree, Mapping)}
  return {kind: {'network': tree} for kind, tree in parts.items() if tree or kind == 'params'}
