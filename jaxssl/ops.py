"""Small functions of arrays, without parameters."""

import jax
import jax.numpy as jnp


def l2_normalize(x: jax.Array, axis: int = -1, epsilon: float = 1e-12) -> jax.Array:
  """Scales `x` to unit Euclidean length along `axis`; a zero vector stays zero, with a zero gradient.

  Computes in float32 and returns float32, whatever float type comes in.
  """
  x = x.astype(jnp.float32)
  squared = jnp.sum(x * x, axis=axis, keepdims=True)
  is_zero = squared <= epsilon**2
  return jnp.where(is_zero, 0.0, x * jax.lax.rsqrt(jnp.where(is_zero, 1.0, squared)))
