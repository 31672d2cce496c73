"""The baseline of audio, mean and standard deviation of MFCC over time, and the spectra of its pictures."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from jaxssl import spectral

HOP_SECONDS = spectral.HOP_SECONDS  # From one frame to the next.


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


def steps(rate: int, coefficients: int = 13) -> Callable[[jax.Array, jax.Array], tuple[jax.Array, jax.Array]]:
  """Returns the function of waves and mask, [b, samples] at `rate` Hz, that gives their MFCC and which are real.

  These are [b, t, coefficients] and bool [b, t].
  """
  return lambda waves, mask: (spectral.mfcc(waves, rate, coefficients), spectral.frame_mask(mask, rate))


def encoder(rate: int, coefficients: int = 13) -> Callable[[jax.Array, jax.Array], jax.Array]:
  """Returns the function of waves and mask that gives the statistics of the MFCC, [b, 2 * coefficients]."""
  return lambda waves, mask: statistics(*steps(rate, coefficients)(waves, mask))


def spectra(waves: jax.Array, mask: jax.Array, rate: int) -> list[np.ndarray]:
  """Returns the log-mel spectrum of what is real of each waveform [b, samples], [t, mels] each; a frame is a hop."""
  found, lengths = np.asarray(spectral.log_mel(waves, rate)), np.asarray(spectral.frame_mask(mask, rate)).sum(axis=1)
  return [spectrum[:length] for spectrum, length in zip(found, lengths, strict=True)]
