"""Autoencoders: an input is squeezed into a code and made again from it. Plain, denoising, sparse.

Hinton and Salakhutdinov, "Reducing the Dimensionality of Data with Neural Networks", Science 2006. Denoising: Vincent,
Larochelle, Lajoie, Bengio, Manzagol, "Stacked Denoising Autoencoders", JMLR 2010. Sparse: Ng, "Sparse autoencoder",
CS294A lecture notes; k-sparse: Makhzani and Frey 2013, https://arxiv.org/abs/1312.5663.
"""

import dataclasses
from collections.abc import Callable
from typing import Any, Protocol

import jax
import jax.numpy as jnp
import optax
from flax import linen as nn

from jaxssl import core, losses, ops
from jaxssl.methods import _checks
from jaxssl.models.autoencoder import AutoencoderNetwork, Coded
from jaxssl.models.forward import forward

LIKELIHOODS = ('gaussian', 'bernoulli')


class Sparsity(Protocol):
  """How a code is made sparse."""

  def bottleneck(self, z: jax.Array) -> jax.Array:
    """Returns the code [b, d] that is decoded and evaluated, from the linear map's output."""

  def penalty(self, z: jax.Array) -> jax.Array:
    """Returns what the loss adds for that code, a scalar."""


@dataclasses.dataclass(frozen=True)
class Dense:
  """No sparsity: the code is the linear map's output."""

  def bottleneck(self, z: jax.Array) -> jax.Array:
    return z

  def penalty(self, z: jax.Array) -> jax.Array:
    return jnp.float32(0)


@dataclasses.dataclass(frozen=True)
class KLSparsity:
  """A sigmoid code whose units are active `target` of the time (Ng, CS294A)."""

  weight: float = 6.0  # There 3, beside half the squared error.
  target: float = 0.05

  def __post_init__(self):
    _checks.not_negative(weight=self.weight)
    if not 0 < self.target < 1:
      raise ValueError(f'target must lie in (0, 1), got {self.target}')

  def bottleneck(self, z: jax.Array) -> jax.Array:
    return jax.nn.sigmoid(z)

  def penalty(self, z: jax.Array) -> jax.Array:
    return self.weight * losses.sparsity_kl(z, target=self.target)


@dataclasses.dataclass(frozen=True)
class L1Sparsity:
  """A ReLU code whose L1 norm costs."""

  weight: float = 1e-4

  def __post_init__(self):
    _checks.not_negative(weight=self.weight)

  def bottleneck(self, z: jax.Array) -> jax.Array:
    return nn.relu(z)

  def penalty(self, z: jax.Array) -> jax.Array:
    return self.weight * losses.l1_sparsity(z)


@dataclasses.dataclass(frozen=True)
class KSparse:
  """A code of which only the k largest entries are left."""

  k: int = 25  # For 1,000 units on MNIST, section 4.2 of the paper.

  def bottleneck(self, z: jax.Array) -> jax.Array:
    return losses.k_sparse(z, self.k)

  def penalty(self, z: jax.Array) -> jax.Array:
    return jnp.float32(0)


@dataclasses.dataclass(frozen=True)
class Autoencoder:
  """Reconstructs the first view; with `corruption`, from a noisy copy (the loss is of all of the clean one)."""

  encoder: nn.Module  # x [b, ...] -> h [b, ...], flattened; one that keeps positions, such as ConvEncoder.
  decoder: nn.Module  # z [b, code_size], shape -> [b, *shape].
  optimizer: optax.GradientTransformation
  code_size: int = 64
  # The loss: squared error, which is twice a Gaussian's, or 'bernoulli': binary cross-entropy with logits.
  likelihood: str = 'gaussian'
  corruption: Callable[[jax.Array, jax.Array], jax.Array] | None = None  # (key, x) -> x; see augment.corruption.
  sparsity: Sparsity = Dense()

  representations = ('z', 'h')  # The code, and the layer before it.

  def __post_init__(self):
    _checks.positive(code_size=self.code_size)
    _checks.choice('likelihood', self.likelihood, LIKELIHOODS)
    k = getattr(self.sparsity, 'k', 1)
    if not 1 <= k <= self.code_size:
      raise ValueError(f'sparsity.k must lie between 1 and code_size = {self.code_size}, got {k}')

  @property
  def unit_inputs(self) -> bool:
    """Whether inputs must lie in [0, 1], as a Bernoulli's do."""
    return self.likelihood == 'bernoulli'

  @property
  def network(self) -> AutoencoderNetwork:
    return AutoencoderNetwork(self.encoder, self.decoder, self.code_size, self.sparsity.bottleneck)

  def init(self, key: jax.Array, batch: core.Batch) -> core.State:
    return core.init_state(self.network, self.optimizer, key, ops.single(batch['views']))

  def loss(self, params, stats, x, key):
    """Returns the reconstruction error of x [b, ...], summed over an example, and (updated stats, metrics)."""
    corrupted = x if self.corruption is None else self.corruption(key, x)
    dropout = {'dropout': jax.random.fold_in(key, 2)}  # A split makes 0 and 1.
    (output, z), stats = forward(self.network, params, stats, corrupted, rngs=dropout)
    if self.likelihood == 'gaussian':
      error = losses.squared_error(output, x)
    else:
      error = -jnp.mean(losses.bernoulli_log_likelihood(output, x))
    penalty = self.sparsity.penalty(z)
    pixel_error = jnp.mean(jnp.square(self._mean(output) - x))
    return error + penalty, (stats, {'squared_error': pixel_error, 'sparsity_penalty': penalty})

  def step(self, state: core.State, batch: core.Batch, key: jax.Array) -> tuple[core.State, core.Metrics]:
    x = ops.single(batch['views'])
    return core.descend(lambda params: self.loss(params, state.stats, x, key), self.optimizer, state)

  def represent(self, state: core.State, inputs: Any, name: str | None = None, mask=None) -> jax.Array:
    """Returns the code z [n, code_size], or h [n, d], the layer before it, of clean inputs [n, ...]."""
    encoder, variables = self.backbone(state, name)
    features: Any = encoder.apply(variables, inputs)
    return features

  def backbone(self, state: core.State, name: str | None = None) -> tuple[nn.Module, Any]:
    """Returns the network up to z or h as a module of inputs, and its variables: what fine-tuning trains."""
    code = core.choose(name, {'z': True, 'h': False})
    used = ('encoder', 'code') if code else ('encoder',)
    return Coded(self.network, code), core.part_of(state, used)

  def reconstruct(self, state: core.State, inputs: Any, key: jax.Array) -> dict[str, jax.Array]:
    """Returns reconstructions of inputs [b, ...]; of a denoising one, what it was given and what it made of that."""
    x = ops.single(inputs)
    if self.corruption is None:
      return {'reconstruction': self._reconstruction(state, x)}
    noisy = self.corruption(key, x)
    return {'noisy': noisy, 'reconstruction': self._reconstruction(state, noisy)}

  def score(self, state: core.State, inputs: Any, key: jax.Array, samples: int = 1) -> core.Metrics:
    """Returns the squared error of each example, averaged over its pixels, [b]; of a denoising one also from noise.

    The latter is the mean over `samples` draws of the noise.
    """
    x = ops.single(inputs)
    error = lambda given: jnp.mean(jnp.square(self._reconstruction(state, given) - x), axis=range(1, x.ndim))
    found = {'squared_error': error(x)}
    if self.corruption is not None:
      noisy = lambda key: error(self.corruption(key, x))
      found['denoising_error'] = jnp.mean(jax.lax.map(noisy, jax.random.split(key, samples)), axis=0)
    return found

  def decode(self, state: core.State, z: jax.Array, shape: tuple[int, ...]) -> jax.Array:
    """Returns what codes z [b, code_size] stand for, [b, *shape]."""
    output: Any = self.network.apply({'params': state.params, **state.stats}, z, shape, method='decode')
    return self._mean(output)

  def embed(self, state: core.State, batch: core.Batch) -> tuple[jax.Array, ...]:
    """Returns z [b, code_size] of the first view, less its mean, for the health of the embedding."""
    z = self.represent(state, ops.single(batch['views']))
    return (z - jnp.mean(z, axis=0, keepdims=True),)

  def _reconstruction(self, state: core.State, x: jax.Array) -> jax.Array:
    output, _ = self.network.apply({'params': state.params, **state.stats}, x)
    return self._mean(output)

  def _mean(self, output: jax.Array) -> jax.Array:
    return output if self.likelihood == 'gaussian' else jax.nn.sigmoid(output)
