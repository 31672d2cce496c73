"""Variational autoencoders: a code is a distribution, kept near the prior that new inputs are made from.

Kingma and Welling, "Auto-Encoding Variational Bayes", 2013, https://arxiv.org/abs/1312.6114. β-VAE: Higgins et al.,
ICLR 2017. The importance-weighted bound: Burda, Grosse, Salakhutdinov 2015, https://arxiv.org/abs/1509.00519.
"""

import dataclasses
import math
from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import linen as nn

from jaxssl import core, losses, ops
from jaxssl.methods import _checks, _scheduled
from jaxssl.methods._scheduled import Scheduled
from jaxssl.models.autoencoder import Coded, VariationalNetwork
from jaxssl.models.forward import forward

LIKELIHOODS = ('bernoulli', 'gaussian')


@dataclasses.dataclass(frozen=True)
class VAE:
  """Maximises log p(x | z) - beta KL(q(z | x) || N(0, I)) of the first view, both in nats of a whole example.

  The representation z is the mean of q(z | x).
  """

  encoder: nn.Module  # x [b, ...] -> h [b, ...], flattened; one that keeps positions, such as ConvEncoder.
  decoder: nn.Module  # z [b, latent_size], shape -> [b, *shape].
  optimizer: optax.GradientTransformation
  latent_size: int = 64
  beta: Scheduled = 1.0  # May be a schedule of the step, such as a warm-up from 0.
  likelihood: str = 'bernoulli'  # Of a pixel: 'bernoulli', or 'gaussian'.
  variance: float | None = 1.0  # Of a Gaussian pixel; None: learned, one for all.
  # Draw black or white for every pixel, anew at each step, with its grey as the probability (Burda et al., 5): then a
  # Bernoulli is a likelihood. Representations and reconstructions are of the grey input.
  binarize: bool = False

  representations = ('z', 'h')  # The mean of q(z | x), and the layer before it.

  def __post_init__(self):
    _checks.positive(latent_size=self.latent_size)
    _checks.choice('likelihood', self.likelihood, LIKELIHOODS)
    if self.variance is not None and not 0 < self.variance < math.inf:
      raise ValueError(f'variance must be positive and finite, or None, got {self.variance}')
    _checks.not_negative(beta=self.beta)
    if self.binarize and self.likelihood != 'bernoulli':
      raise ValueError(f"binarize is for likelihood='bernoulli', got {self.likelihood!r}")

  @property
  def unit_inputs(self) -> bool:
    """Whether inputs must lie in [0, 1], as a Bernoulli's do."""
    return self.likelihood == 'bernoulli'

  @property
  def network(self) -> VariationalNetwork:
    learned = self.likelihood == 'gaussian' and self.variance is None
    return VariationalNetwork(self.encoder, self.decoder, self.latent_size, learned)

  def init(self, key: jax.Array, batch: core.Batch) -> core.State:
    x = ops.single(batch['views'])
    return core.init_state(self.network, self.optimizer, key, x, jnp.zeros((len(x), self.latent_size)))

  def loss(self, params, stats, x, key, step=0):
    """Returns the negative ELBO of x [b, ...], with its weight beta, and (updated stats, metrics)."""
    noise_key, pixel_key = jax.random.split(key)
    target = self._target(pixel_key, x)
    noise = jax.random.normal(noise_key, (len(x), self.latent_size))
    (output, mean, log_variance), stats = forward(
        self.network, params, stats, target, noise, rngs={'dropout': jax.random.fold_in(key, 2)})
    log_likelihood = self._log_likelihood(params, output, target)
    kl = jnp.sum(losses.gaussian_kl(mean, log_variance), axis=1)
    beta = _scheduled.at(self.beta, step)
    metrics = {'elbo': losses.elbo(log_likelihood, kl), 'log_likelihood': jnp.mean(log_likelihood),
               'kl': jnp.mean(kl), 'beta': jnp.float32(beta)}
    return -losses.elbo(log_likelihood, kl, beta=beta), (stats, metrics)

  def step(self, state: core.State, batch: core.Batch, key: jax.Array) -> tuple[core.State, core.Metrics]:
    x = ops.single(batch['views'])
    return core.descend(lambda params: self.loss(params, state.stats, x, key, state.step), self.optimizer, state)

  def represent(self, state: core.State, inputs: Any, name: str | None = None, mask=None) -> jax.Array:
    """Returns z, the mean of q(z | x), [n, latent_size], or h [n, d], the layer before it, of inputs [n, ...]."""
    encoder, variables = self.backbone(state, name)
    features: Any = encoder.apply(variables, inputs)
    return features

  def backbone(self, state: core.State, name: str | None = None) -> tuple[nn.Module, Any]:
    """Returns the network up to z or h as a module of inputs, and its variables: what fine-tuning trains."""
    code = core.choose(name, {'z': True, 'h': False})
    network = self.network.clone(learned_variance=False)  # Which is no part of it.
    return Coded(network, code), core.part_of(state, ('encoder', 'mean') if code else ('encoder',))

  def reconstruct(self, state: core.State, inputs: Any, key: jax.Array) -> dict[str, jax.Array]:
    """Returns what the mean of q(z | x) stands for, of inputs [b, ...]."""
    x = ops.single(inputs)
    return {'reconstruction': self.decode(state, self.represent(state, x), x.shape[1:])}

  def score(self, state: core.State, inputs: Any, key: jax.Array, samples: int = 1) -> core.Metrics:
    """Returns of each example, [b], the squared error, the ELBO and the importance-weighted bound, and the KL.

    The error, averaged over pixels, is that of `reconstruct`. Both bounds are of log p(x), in nats, from the same
    `samples` draws of z, so that the second is never below the first; beta has no part in them. With `binarize`, of
    one draw of the pixels.
    """
    x = ops.single(inputs)
    pixel_key, key = jax.random.split(key)
    target = self._target(pixel_key, x)
    mean, log_variance = self._posterior(state, target)

    def log_weight(key):
      noise = jax.random.normal(key, mean.shape)
      z = mean + jnp.exp(0.5 * log_variance) * noise
      # Of log p(z) - log q(z | x) the constants cancel.
      log_ratio = 0.5 * jnp.sum(jnp.square(noise) + log_variance - jnp.square(z), axis=1)
      return self._log_likelihood(state.params, self._output(state, z, x.shape[1:]), target) + log_ratio

    log_weights = jax.lax.map(log_weight, jax.random.split(key, samples))
    reconstruction = self.reconstruct(state, x, key)['reconstruction']
    return {
        'squared_error': jnp.mean(jnp.square(reconstruction - x), axis=range(1, x.ndim)),
        'elbo': jnp.mean(log_weights, axis=0),
        'iwae': losses.importance_weighted_bound(log_weights),
        'kl': jnp.sum(losses.gaussian_kl(mean, log_variance), axis=1),
    }

  def latent_kl(self, state: core.State, inputs: Any) -> jax.Array:
    """Returns KL(q(z | x) || p(z)) of each latent dimension, [b, latent_size], in nats, of inputs [b, ...]."""
    return losses.gaussian_kl(*self._posterior(state, ops.single(inputs)))

  def decode(self, state: core.State, z: jax.Array, shape: tuple[int, ...]) -> jax.Array:
    """Returns the mean of p(x | z) for z [b, latent_size], [b, *shape]."""
    output = self._output(state, z, shape)
    return jax.nn.sigmoid(output) if self.likelihood == 'bernoulli' else output

  def sample(self, state: core.State, key: jax.Array, n: int, shape: tuple[int, ...]) -> jax.Array:
    """Returns the means of p(x | z) for n draws of z from the prior, [n, *shape]."""
    return self.decode(state, jax.random.normal(key, (n, self.latent_size)), shape)

  def embed(self, state: core.State, batch: core.Batch) -> tuple[jax.Array, ...]:
    """Returns z [b, latent_size] of the first view, less its mean, for the health of the embedding."""
    z = self.represent(state, ops.single(batch['views']))
    return (z - jnp.mean(z, axis=0, keepdims=True),)

  def _target(self, key, x):
    if not self.binarize:
      return x
    return jnp.where(jnp.isnan(x), x, jax.random.bernoulli(key, x).astype(jnp.float32))  # NaN must stop the run.

  def _posterior(self, state, x) -> Any:
    return self.network.apply({'params': state.params, **state.stats}, x, method='posterior')

  def _output(self, state, z, shape) -> Any:
    return self.network.apply({'params': state.params, **state.stats}, z, shape, method='decode')

  def _log_likelihood(self, params, output, target):
    if self.likelihood == 'bernoulli':
      return losses.bernoulli_log_likelihood(output, target)
    log_variance = params['log_variance'] if self.variance is None else jnp.float32(math.log(self.variance))
    return losses.gaussian_log_likelihood(output, target, log_variance)
