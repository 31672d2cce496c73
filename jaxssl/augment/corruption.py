"""Noise that a denoising autoencoder takes away again: `corrupt(key, x) -> x` of the same shape, any shape [b, ...].

Vincent et al. 2010, "Stacked Denoising Autoencoders", JMLR 11, section 3.3. Every pixel draws its own, and each of its
channels by itself.
"""

import dataclasses

import jax
import jax.numpy as jnp


@dataclasses.dataclass(frozen=True)
class MaskingNoise:
  """Sets a random share of the entries to zero."""

  rate: float = 0.25  # One of those of Vincent et al. 2010, table 3: 0.1, 0.25, 0.4.

  def __post_init__(self):
    _check_rate(self.rate)

  def __call__(self, key: jax.Array, x: jax.Array) -> jax.Array:
    return jnp.where(jax.random.bernoulli(key, float(self.rate), x.shape), 0.0, x)


@dataclasses.dataclass(frozen=True)
class GaussianNoise:
  """Adds noise of mean 0; the result may leave [0, 1]."""

  sigma: float = 0.25  # Standard deviation, in units of x.

  def __post_init__(self):
    if not 0 <= self.sigma < float('inf'):
      raise ValueError(f'sigma must be finite and not negative, got {self.sigma}')

  def __call__(self, key: jax.Array, x: jax.Array) -> jax.Array:
    return x + self.sigma * jax.random.normal(key, x.shape, x.dtype)


@dataclasses.dataclass(frozen=True)
class SaltAndPepperNoise:
  """Sets a random share of the entries to 0 or 1, with the same probability."""

  rate: float = 0.25

  def __post_init__(self):
    _check_rate(self.rate)

  def __call__(self, key: jax.Array, x: jax.Array) -> jax.Array:
    where, which = jax.random.split(key)
    noise = jax.random.bernoulli(which, 0.5, x.shape).astype(x.dtype)
    return jnp.where(jax.random.bernoulli(where, float(self.rate), x.shape), noise, x)


def _check_rate(rate: float) -> None:
  if not 0 <= rate <= 1:
    raise ValueError(f'rate must lie in [0, 1], got {rate}')
