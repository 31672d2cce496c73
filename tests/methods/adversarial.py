"""What the tests of the adversarial methods share: what moved and how close it is, and layers in float64."""

import jax
import jax.numpy as jnp
import numpy as np


def same(a, b):
  return all(bool(jnp.all(x == y)) for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True))


def close(found, expected, tolerance=1e-5):
  jax.tree.map(lambda x, y: np.testing.assert_allclose(
      x, y, rtol=tolerance, atol=tolerance * float(jnp.abs(y).max()) + 1e-7), found, expected)


def moved(before, after):
  """The names of the networks whose parameters differ."""
  return {name for name in before.params if not same(before.params[name], after.params[name])}


def softplus(x):
  return np.logaddexp(0, x)


def dense(params, x):
  return x @ np.float64(params['kernel']) + np.float64(params.get('bias', 0.0))
