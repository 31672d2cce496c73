"""Adversarial autoencoder (AAE): an autoencoder whose code cannot be told from draws of a prior.

Makhzani, Shlens, Jaitly, Goodfellow, Frey 2015, https://arxiv.org/abs/1511.05644.
"""

import dataclasses
import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import linen as nn

from jaxssl import core, losses, ops
from jaxssl.methods import _adversarial, _checks
from jaxssl.methods._adversarial import DIVERGENCES
from jaxssl.models.adversarial_autoencoder import AdversarialAutoencoderNetwork, Represented
from jaxssl.models.forward import forward

PRIORS = ('normal', 'uniform', 'mixture')
COMPONENTS = 10  # Of the mixture.


@dataclasses.dataclass(frozen=True)
class AdversarialAutoencoder:
  """Reconstructs the first view from a code that is drawn to a prior, so that draws of the prior decode to new inputs.

  A step makes three updates: the encoder and the decoder learn to reconstruct, the discriminator to tell codes from
  draws of the prior, and the encoder alone to fool it. With categories, a softmax y stands beside z in the code; a
  second discriminator tells it from one-hot draws of the uniform categorical distribution, so that inputs fall into
  clusters without labels. Both discriminators are moved by one optimizer, in one update.

  The paper's size for MNIST: encoder and decoder of two layers of 1000, code of 8 to 15 numbers.
  """

  encoder: nn.Module  # x [b, ...] -> h [b, ...], flattened; one that keeps positions, such as ConvEncoder.
  decoder: nn.Module  # code [b, code_size + categories], shape -> [b, *shape]; models.Generator bounds its output.
  discriminator: nn.Module  # z [b, code_size] -> scores [b]: MLPDiscriminator. Another of the same kind is for y.
  optimizer: optax.GradientTransformation  # Of the encoder and the decoder.
  discriminator_optimizer: optax.GradientTransformation
  encoder_optimizer: optax.GradientTransformation  # Of the encoder alone.
  code_size: int = 8
  categories: int = 0  # How many clusters; 0: no y.
  # Normal, uniform, or a mixture of 10 Gaussians on a circle, for codes of two numbers.
  prior: str = 'normal'
  prior_scale: float = 1.0  # Standard deviation, the largest value, and the circle's radius, in that order.
  divergence: str = 'jensen_shannon'  # 'wasserstein' needs a discriminator with spectral norms.

  def __post_init__(self):
    _adversarial.check_discriminator(self.discriminator)
    _checks.choice('prior', self.prior, PRIORS)
    _checks.choice('divergence', self.divergence, DIVERGENCES)
    _checks.positive(code_size=self.code_size, prior_scale=self.prior_scale)
    if self.categories < 0 or self.categories == 1:
      raise ValueError(f'categories must be 0, for none, or at least 2, got {self.categories}')
    if self.prior == 'mixture' and self.code_size != 2:
      raise ValueError(f"code_size must be 2 for prior='mixture', got {self.code_size}")

  @property
  def representations(self) -> tuple[str, ...]:
    """The code, which is z, and with categories z and y side by side; the layer before it; y."""
    return ('z', 'h', 'y') if self.categories else ('z', 'h')

  @property
  def network(self) -> AdversarialAutoencoderNetwork:
    of_categories = self.discriminator.clone() if self.categories else None
    return AdversarialAutoencoderNetwork(
        self.encoder, self.decoder, self.discriminator, of_categories, self.code_size, self.categories)

  @property
  def updates(self) -> dict[str, _adversarial.Update]:
    """The updates of a step by name."""
    encoder = ('encoder', 'code', 'category') if self.categories else ('encoder', 'code')
    discriminators = ('discriminator', 'category_discriminator') if self.categories else ('discriminator',)
    return {
        'autoencoder': _adversarial.Update(self.optimizer, (*encoder, 'decoder')),
        'discriminator': _adversarial.Update(self.discriminator_optimizer, discriminators),
        'encoder': _adversarial.Update(self.encoder_optimizer, encoder),
    }

  def init(self, key: jax.Array, batch: core.Batch) -> core.State:
    return _adversarial.init_state(self.network, self.updates, key, ops.single(batch['views']))

  def reconstruction_loss(self, params, stats, x, key):
    """Returns the squared error of reconstructions of x [b, ...], summed over an example, and (stats, metrics)."""
    output, stats = self._forward('reconstruct', params, stats, key, x)
    return losses.squared_error(output, x), (stats, {'squared_error': jnp.mean(jnp.square(output - x))})

  def discriminator_loss(self, params, stats, x, key):
    """Returns what the discriminators lose, of z and y together, and (stats, metrics)."""
    keys = jax.random.split(key, 4)
    code, _ = self._forward('encode', params, stats, keys[0], x)
    of_real, stats = self._forward('discriminate', params, stats, keys[1], self.latents(keys[2], len(x)))
    of_fake, stats = self._forward('discriminate', params, stats, keys[3], code)
    terms = [DIVERGENCES[self.divergence](*scores) for scores in zip(of_real, of_fake, strict=True)]
    names = ('divergence', 'category_divergence')[:len(terms)]
    divergences = {name: each.divergence for name, each in zip(names, terms, strict=True)}
    return sum(each.discriminator for each in terms), (stats, divergences)

  def encoder_loss(self, params, stats, x, key):
    """Returns what the encoder loses against the discriminators, whose statistics stay, and (stats, metrics)."""
    keys = jax.random.split(key, 4)
    code, stats = self._forward('encode', params, stats, keys[0], x)
    of_real, _ = self._forward('discriminate', params, stats, keys[1], self.latents(keys[2], len(x)))
    of_fake, _ = self._forward('discriminate', params, stats, keys[3], code)
    terms = [DIVERGENCES[self.divergence](*scores) for scores in zip(of_real, of_fake, strict=True)]
    return sum(each.generator for each in terms), (stats, {})

  def step(self, state: core.State, batch: core.Batch, key: jax.Array) -> tuple[core.State, core.Metrics]:
    """Returns the next state and metrics; `loss` and `gradient_norm` are those of the reconstruction."""
    x = ops.single(batch['views'])
    keys = jax.random.split(key, 3)
    after, metrics = self._update('autoencoder', self.reconstruction_loss, state, x, keys[0])
    after, of_discriminator = self._update('discriminator', self.discriminator_loss, after, x, keys[1])
    after, of_encoder = self._update('encoder', self.encoder_loss, after, x, keys[2])
    for name, found in (('discriminator', of_discriminator), ('encoder', of_encoder)):
      metrics |= {(f'{name}_{key}' if key in ('loss', 'gradient_norm') else key): x for key, x in found.items()}
    # Nothing moves in a step in which an update fails.
    return _adversarial.settled(after._replace(step=state.step + 1), state, after.failed_step >= 0), metrics

  def represent(self, state: core.State, inputs: Any, name: str | None = None, mask=None) -> jax.Array:
    """Returns the code z [n, code_size + categories], h [n, d], the layer before it, or y [n, categories]."""
    encoder, variables = self.backbone(state, name)
    features: Any = encoder.apply(variables, inputs)
    return features

  def backbone(self, state: core.State, name: str | None = None) -> tuple[nn.Module, Any]:
    """Returns the network up to a representation as a module of inputs, and its variables: what fine-tuning trains."""
    name = core.choose(name, {each: each for each in self.representations})
    used = {'z': ('encoder', 'code', 'category'), 'h': ('encoder',), 'y': ('encoder', 'category')}[name]
    return Represented(self.network, name), core.part_of(state, tuple(each for each in used if each in state.params))

  def clusters(self, state: core.State, inputs: Any) -> jax.Array:
    """Returns the category that y is largest for, int32 [n], of inputs [n, ...]; there must be categories."""
    return jnp.argmax(self.represent(state, inputs, 'y'), axis=1).astype(jnp.int32)

  def reconstruct(self, state: core.State, inputs: Any, key: jax.Array) -> dict[str, jax.Array]:
    """Returns reconstructions of inputs [b, ...]."""
    x = ops.single(inputs)
    return {'reconstruction': self.decode(state, self.represent(state, x, 'z'), x.shape[1:])}

  def score(self, state: core.State, inputs: Any, key: jax.Array, samples: int = 1) -> core.Metrics:
    """Returns the squared error of each example, averaged over its pixels, [b]."""
    x = ops.single(inputs)
    error = jnp.square(self.reconstruct(state, x, key)['reconstruction'] - x)
    return {'squared_error': jnp.mean(error, axis=range(1, x.ndim))}

  def decode(self, state: core.State, z: jax.Array, shape: tuple[int, ...]) -> jax.Array:
    """Returns what codes z [b, code_size + categories] stand for, [b, *shape]."""
    output: Any = self.network.apply({'params': state.params, **state.stats}, z, shape, method='decode')
    return output

  def sample(self, state: core.State, key: jax.Array, n: int, shape: tuple[int, ...]) -> jax.Array:
    """Returns what n draws of the prior decode to, [n, *shape]."""
    return self.decode(state, self.latents(key, n), shape)

  def latents(self, key: jax.Array, n: int) -> jax.Array:
    """Returns n draws of the prior, [n, code_size + categories]: of z, and beside it of y, one-hot."""
    keys = jax.random.split(key)
    z = self.prior_scale * self._standard(keys[0], n)
    if not self.categories:
      return z
    y = jax.nn.one_hot(jax.random.randint(keys[1], (n,), 0, self.categories), self.categories)
    return jnp.concatenate([z, y], axis=1)

  def embed(self, state: core.State, batch: core.Batch) -> tuple[jax.Array, ...]:
    """Returns the code of the first view, less its mean, for the health of the embedding."""
    z = self.represent(state, ops.single(batch['views']))
    return (z - jnp.mean(z, axis=0, keepdims=True),)

  def _standard(self, key: jax.Array, n: int) -> jax.Array:
    """Returns n draws of the prior of scale 1, [n, code_size]."""
    if self.prior != 'mixture':
      return _adversarial.latents(self.prior, key, (n, self.code_size))
    keys = jax.random.split(key)
    angle = 2 * math.pi / COMPONENTS * jax.random.randint(keys[0], (n,), 0, COMPONENTS)
    deviation = math.sin(math.pi / COMPONENTS) / 3  # Neighbours, 2 sin(pi / 10) apart, hardly overlap: 6 deviations.
    return jnp.stack([jnp.cos(angle), jnp.sin(angle)], axis=1) + deviation * jax.random.normal(keys[1], (n, 2))

  def _update(self, name: str, loss: Callable, state: core.State, x: jax.Array, key: jax.Array):
    return _adversarial.descend(
        lambda params: loss(params, state.stats, x, key), name, self.updates[name], state)

  def _forward(self, method: str, params, stats, key, *inputs) -> Any:
    return forward(self.network, params, stats, *inputs, rngs={'dropout': key}, method=method)
