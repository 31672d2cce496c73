"""The baseline of audio: mean and standard deviation of MFCC over time."""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from jaxssl import spectral


def statistics(features: jax.Array, mask: jax.Array | None = None) -> jax.Array:
  """Mean and standard deviation of features [..., t, d] over the steps that count: float32 [..., 2 d].

  `mask` [..., t], bool, says which; None is all of them. Where none counts, zeros.
  """
  features = features.astype(jnp.float32)
  weight = jnp.ones(features.shape[:-1], bool) if mask is None else mask
  share = weight / jnp.maximum(jnp.sum(weight, axis=-1, keepdims=True), 1)
  mean = jnp.sum(share[..., None] * features, axis=-2)
  variance = jnp.sum(share[..., None] * (features - mean[..., None, :]) ** 2, axis=-2)
  return jnp.concatenate([mean, jnp.sqrt(variance)], axis=-1)


def encoder(rate: int, coefficients: int = 13) -> Callable[[jax.Array, jax.Array], jax.Array]:
  """Returns `encode(waves, mask)`: [b, samples] and bool [b, samples] -> [b, 2 * coefficients], at `rate` Hz."""

  def encode(waves, mask):
    return statistics(spectral.mfcc(waves, rate, coefficients), spectral.frame_mask(mask, rate))

  return encode
