"""Matrices of log-scores whose diagonal holds the pairs that belong together."""

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from jaxssl.losses import _checks


def joint_and_marginal(scores: ArrayLike) -> tuple[jax.Array, jax.Array]:
  """Returns the diagonal [n] of scores [n, n], and the rest row by row, [n, n - 1]; raises unless they are such."""
  scores = _checks.floating('scores', scores)
  if scores.ndim != 2 or scores.shape[0] != scores.shape[1] or len(scores) < 2:
    raise ValueError(f'scores must have shape [n, n], n above 1, got {list(scores.shape)}')
  n = len(scores)
  # After the first, every (n + 1)th entry is on the diagonal.
  marginal = scores.reshape(-1)[1:].reshape(n - 1, n + 1)[:, :-1].reshape(n, n - 1)
  return jnp.diagonal(scores), marginal


def per_row(name: str, value: ArrayLike, n: int) -> jax.Array:
  """Returns `value`, a scalar or [n], as float32 [n]."""
  x = _checks.scalar(name, value) if np.ndim(value) == 0 else _checks.floating(name, value)
  if x.shape not in ((), (n,)):
    raise ValueError(f'{name} must be a scalar or of shape [{n}], got {list(x.shape)}')
  return jnp.broadcast_to(x, (n,))


def log_mean_exp(x: jax.Array) -> jax.Array:
  """Returns log(mean(exp(x))) over all of `x`, a scalar."""
  return jax.nn.logsumexp(x) - jnp.log(x.size)


def log_sum_exp_of_others(x: jax.Array) -> jax.Array:
  """Returns [n, k] for `x` [n, k], k above 1: log-sum-exp of each row without this entry."""
  total = jax.nn.logsumexp(x, axis=1, keepdims=True)
  largest = jnp.arange(x.shape[1])[None] == jnp.argmax(x, axis=1)[:, None]
  of_rest = jax.nn.logsumexp(jnp.where(largest, -jnp.inf, x), axis=1, keepdims=True)
  # All but the largest hold at most half of the sum, so that taking them off is exact.
  share = jnp.where(largest, 0, jnp.exp(x - total))
  return jnp.where(largest, of_rest, total + jnp.log1p(-share))
