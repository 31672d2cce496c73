"""The train loop: any method, any batches. Logging, saving and probing are the caller's."""

import itertools
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import jax

from jaxssl import core


def train(
    method: core.Method,
    prepare: Callable[[core.Batch, jax.Array], core.Batch],
    state: Any,
    batches: Iterable[core.Batch],
    key: jax.Array,
    start: int = 0,
    steps: int | None = None,
) -> Iterator[tuple[int, Any, core.Metrics, core.Batch]]:
  """Yields (steps done, state, metrics, batch as it came), one update at a time.

  Step i draws all its randomness from fold_in(key, i), so a run resumed at `start` continues the exact stream. The
  device half of the augmentation is compiled into the step. `state` is donated when the next update is asked for.
  Ends with `steps` done, or with the batches.
  """

  def step(state, batch, i):
    prepare_key, step_key = keys(key, i)
    return method.step(state, prepare(batch, prepare_key), step_key)

  layout = jax.tree.map(lambda leaf: leaf.sharding, state)  # Kept as it is, for donation and to compile once.
  compiled = jax.jit(step, donate_argnums=0, out_shardings=(layout, None))
  for i, batch in zip(itertools.count(start) if steps is None else range(start, steps), batches, strict=False):
    state, metrics = compiled(state, batch, i)
    yield i + 1, state, metrics, batch


def keys(key: jax.Array, i: jax.Array | int) -> tuple[jax.Array, jax.Array]:
  """Returns the keys of step i: for the augmentation, and for the method."""
  prepare_key, step_key = jax.random.split(jax.random.fold_in(key, i))
  return prepare_key, step_key
