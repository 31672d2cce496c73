"""Queues of the embeddings of past batches, rows of length 1, the oldest of which make room for new ones."""

import math

import jax
import jax.numpy as jnp

from jaxssl import ops


def random(key: jax.Array, size: int, width: int) -> jax.Array:
  """Returns a queue [size, width] of random directions."""
  return ops.l2_normalize(jax.random.normal(key, (size, width)))


def enqueue(queue: jax.Array, rows: jax.Array, step: jax.Array | int) -> jax.Array:
  """Returns the queue [K, d] after rows [b, d] have come in at a step; all steps bring as many."""
  size, count = len(queue), len(rows)
  period = size // math.gcd(size, count)  # Steps after which the places are the same again: step * count may overflow.
  place = (step % period * count + jnp.arange(count)) % size
  return queue.at[place].set(ops.l2_normalize(jax.lax.stop_gradient(rows)))


def accuracy(query: jax.Array, key: jax.Array, queue: jax.Array) -> jax.Array:
  """Returns the share of queries [b, d] that are nearer to their key than to any row of the queue: MoCo's accuracy."""
  query, key = ops.l2_normalize(query), ops.l2_normalize(key)
  nearest = jnp.max(jnp.matmul(query, queue.T, precision=jax.lax.Precision.HIGHEST), axis=1)
  return jnp.mean(jnp.sum(query * key, axis=1) > nearest)


def check_size(name: str, size: int, batch_size: int) -> None:
  """Raises ValueError for a queue that does not hold a batch."""
  if size < batch_size:
    raise ValueError(f'{name} must be at least the batch, {batch_size}, got {size}')
