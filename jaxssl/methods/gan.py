"""GAN: a generator learns to make inputs that a discriminator cannot tell from real ones; its features represent.

Goodfellow et al. 2014, https://arxiv.org/abs/1406.2661; features of the discriminator: DCGAN, Radford, Metz, Chintala
2015, https://arxiv.org/abs/1511.06434, section 5.1. By its fields also WGAN (https://arxiv.org/abs/1701.07875), WGAN-GP
(https://arxiv.org/abs/1704.00028), LSGAN (https://arxiv.org/abs/1611.04076), SNGAN (https://arxiv.org/abs/1802.05957)
and R3GAN (https://arxiv.org/abs/2501.05441).
"""

import dataclasses
import functools
import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from flax import linen as nn

from jaxssl import core, ops
from jaxssl.losses import adversarial
from jaxssl.methods import _adversarial, _checks
from jaxssl.methods._adversarial import DIVERGENCES, LATENTS
from jaxssl.models.forward import forward
from jaxssl.models.gan import DiscriminatorFeatures


class State(NamedTuple):
  """The discriminator is called 'encoder', as what represents is in every method, also to `init_from`."""

  step: jax.Array  # int32: updates of the generator done so far.
  failed_step: jax.Array  # int32: -1, or the first step of which a loss or a gradient was not finite.
  params: Any  # {'encoder': …, 'generator': …}
  stats: Any  # Batch norm and power iteration: {collection: {'encoder': …, 'generator': …}}.
  opt_state: Any  # {'encoder': …, 'generator': …}
  average: Any  # The generator's variables, averaged over steps: what `sample` uses.


@dataclasses.dataclass(frozen=True)
class GAN:
  """Imitates the first view. A step updates the discriminator `n_critic` times, and then the generator once.

  The batch is cut into `n_critic` parts: each update of the discriminator sees real inputs of its own and as many new
  generated ones, as in WGAN's algorithm 1, so that its m there is the batch size here over `n_critic`; the generator's
  update takes as many latents, and a relativistic one the last part. Schedules of both learning rates count steps.

  Views are floats, of images in [0, 1] for a generator that ends in a sigmoid.

  Presets: DCGAN is the default with latent 'uniform', generator_momentum 0, Adam, 2e-4, b1 0.5, batch 128. WGAN:
  divergence 'wasserstein', clip 0.01, n_critic 5, RMSProp, 5e-5 (Adam with b1 0 is near it). WGAN-GP: 'wasserstein',
  gradient_penalty 10, n_critic 5, Adam, 1e-4, b1 0.5 (the paper's algorithm: 0), b2 0.9. SNGAN: 'hinge' and spectral
  norms, n_critic 5, Adam, 2e-4, b1 0, b2 0.9. R3GAN: 'relativistic' with r1 and r2, and no norm anywhere.
  """

  discriminator: nn.Module  # x [b, ...] -> scores [b], with `names` and `layers`: see `jaxssl.models.gan`.
  generator: nn.Module  # z [b, latent_size], shape -> [b, *shape]: models.Generator.
  optimizer: optax.GradientTransformation  # The discriminator's.
  generator_optimizer: optax.GradientTransformation
  latent_size: int = 100  # DCGAN.
  latent: str = 'normal'  # Or 'uniform', from -1 to 1, as in DCGAN and BiGAN.
  divergence: str = 'jensen_shannon'
  gradient_penalty: float = 0.0  # Weight of the penalty of slopes other than 1; WGAN-GP: 10.
  r1: float = 0.0  # Gamma of half the mean squared slope at real inputs, and
  r2: float = 0.0  # at generated ones.
  clip: float | None = None  # Of each of the discriminator's parameters after every update; WGAN: 0.01.
  n_critic: int = 1
  generator_momentum: float = 0.999  # Of the average of the generator; lower in the first steps. 0: no average.

  def __post_init__(self):
    _adversarial.check_discriminator(self.discriminator)
    _checks.choice('latent', self.latent, LATENTS)
    _checks.choice('divergence', self.divergence, DIVERGENCES)
    _checks.positive(latent_size=self.latent_size, n_critic=self.n_critic)
    _checks.not_negative(**self._penalties)
    if self.clip is not None and not 0 < self.clip < math.inf:
      raise ValueError(f'clip must be positive and finite, or None, got {self.clip}')
    _checks.below_one(generator_momentum=self.generator_momentum)

  @property
  def _penalties(self) -> dict[str, float]:
    return {'gradient_penalty': self.gradient_penalty, 'r1': self.r1, 'r2': self.r2}

  @property
  def representations(self) -> tuple[str, ...]:
    """The discriminator's layers, the last first, and all of them side by side."""
    return (*self.discriminator.names[::-1], 'all')

  def init(self, key: jax.Array, batch: core.Batch) -> State:
    x = ops.single(batch['views'])
    self._check_batch(x)
    encoder_key, generator_key = jax.random.split(key)
    encoder = core.init_state(self.discriminator, self.optimizer, encoder_key, x)
    self._check_encoder(encoder)
    z = jnp.zeros((len(x), self.latent_size))
    generator = core.init_state(self.generator, self.generator_optimizer, generator_key, z, x.shape[1:])
    average = jax.tree.map(jnp.copy, {'params': generator.params, **generator.stats})  # Buffers may be donated.
    return State(jnp.int32(0), jnp.int32(-1), **_joined(encoder, generator), average=average)

  def discriminator_loss(self, params, stats, real, fake, key):
    """Returns the loss of scores of real and generated inputs [m, ...], with the penalties, and (stats, metrics).

    `discriminator_loss` among the metrics is without the penalties, `loss` in a step's with them.
    """
    keys = jax.random.split(key, 4)
    of_real, stats = self._scores(params, stats, real, keys[0])
    of_fake, stats = self._scores(params, stats, fake, keys[1])
    terms = DIVERGENCES[self.divergence](of_real, of_fake)
    critic = lambda x: self._scores(params, stats, x, keys[2])[0]
    metrics = {'discriminator_loss': terms.discriminator, 'divergence': terms.divergence}
    if not any(self._penalties.values()):
      return terms.discriminator, (stats, metrics)
    penalty = jnp.float32(0)
    if self.gradient_penalty:
      penalty += self.gradient_penalty * adversarial.gradient_penalty(critic, real, fake, keys[3])
    if self.r1:
      penalty += self.r1 * adversarial.zero_centered_penalty(critic, real)
    if self.r2:
      penalty += self.r2 * adversarial.zero_centered_penalty(critic, fake)
    return terms.discriminator + penalty, (stats, {**metrics, 'penalty': penalty})

  def generator_loss(self, params, stats, encoder, real, key):
    """Returns the loss of as many new inputs as there are real ones, [m, ...], and (updated stats, metrics).

    `encoder` is the discriminator's params and stats, which stay as they are.
    """
    keys = jax.random.split(key, 3)
    fake, stats = self._generate(params, stats, len(real), real.shape[1:], keys[0])
    of_real, of_fake = (self._scores(*encoder, x, keys[i])[0] for i, x in ((1, real), (2, fake)))
    loss = DIVERGENCES[self.divergence](of_real, of_fake).generator
    return loss, (stats, {'generator_loss': loss})

  def step(self, state: State, batch: core.Batch, key: jax.Array) -> tuple[State, core.Metrics]:
    """Returns the next state and metrics: those of the discriminator are of its last update."""
    x = ops.single(batch['views'])
    self._check_batch(x)
    # Part c holds the rows c, c + n_critic, …, so that each is spread over all devices that the batch is.
    parts = jnp.moveaxis(x.reshape(-1, self.n_critic, *x.shape[1:]), 1, 0)
    keys = jax.random.split(key, self.n_critic + 1)
    encoder, generator = (_network(state, name) for name in ('encoder', 'generator'))
    update = functools.partial(self._update_discriminator, generator=generator)
    encoder, metrics = _in_turn(update, encoder, (parts, keys[:-1]))
    loss = lambda params: self.generator_loss(
        params, generator.stats, (encoder.params, encoder.stats), parts[-1], keys[-1])
    generator, of_generator = core.descend(loss, self.generator_optimizer, generator)
    average = _adversarial.averaged(
        state.average, {'params': generator.params, **generator.stats}, self.generator_momentum, state.step)
    after = State(state.step + 1, state.failed_step, **_joined(encoder, generator), average=average)
    # Neither network moves in a step in which an update of either fails.
    failed = (encoder.failed_step >= 0) | (generator.failed_step >= 0)
    metrics |= {'generator_loss': of_generator['loss'], 'generator_gradient_norm': of_generator['gradient_norm']}
    return _adversarial.settled(after, state, failed), metrics

  def represent(self, state: State, inputs: Any, name: str | None = None, mask=None) -> jax.Array:
    """Returns features [n, d] of inputs [n, ...]: a layer of the discriminator, max-pooled to 4 x 4 places, or all."""
    encoder, variables = self.backbone(state, name)
    features: Any = encoder.apply(variables, ops.single(inputs))
    return features

  def backbone(self, state: State, name: str | None = None) -> tuple[nn.Module, Any]:
    """Returns the discriminator up to a representation as a module of inputs, and its variables, to fine-tune."""
    layer = core.choose(name, {each: each for each in self.representations})
    encoder = _network(state, 'encoder')
    variables = {'params': encoder.params, **encoder.stats}
    return DiscriminatorFeatures(self.discriminator, layer), {kind: {'network': x} for kind, x in variables.items()}

  def generate(self, state: State, z: jax.Array, shape: tuple[int, ...]) -> jax.Array:
    """Returns what the averaged generator makes of z [n, latent_size], [n, *shape]."""
    images: Any = self.generator.apply(state.average, z, shape)
    return images

  def sample(self, state: State, key: jax.Array, n: int, shape: tuple[int, ...]) -> jax.Array:
    """Returns what the averaged generator makes of n draws of z, [n, *shape]."""
    return self.generate(state, self.latents(key, n), shape)

  def latents(self, key: jax.Array, n: int) -> jax.Array:
    """Returns n draws of z, [n, latent_size]."""
    return _adversarial.latents(self.latent, key, (n, self.latent_size))

  def embed(self, state: State, batch: core.Batch) -> tuple[jax.Array, ...]:
    """Returns the last layer's features [b, d] of the first view, centred, for the health of the embedding."""
    h = self.represent(state, ops.single(batch['views']))
    return (h - jnp.mean(h, axis=0, keepdims=True),)

  def _update_discriminator(self, encoder, part, generator):
    real, key = part
    keys = jax.random.split(key)
    fake, _ = self._generate(generator.params, generator.stats, len(real), real.shape[1:], keys[0])
    loss = lambda params: self.discriminator_loss(params, encoder.stats, real, fake, keys[1])
    if self.n_critic > 1:
      encoder = _at_step(encoder, generator.step)
    encoder, metrics = core.descend(loss, self.optimizer, encoder)
    if self.clip is not None:
      clipped = jax.tree.map(lambda w: jnp.clip(w, -self.clip, self.clip), encoder.params)
      encoder = encoder._replace(params=clipped)
    return encoder, metrics

  def _scores(self, params, stats, x, key) -> Any:
    return forward(self.discriminator, params, stats, x, rngs={'dropout': key})

  def _generate(self, params, stats, n, shape, key) -> Any:
    keys = jax.random.split(key)
    z = self.latents(keys[0], n)
    return forward(self.generator, params, stats, z, shape, rngs={'dropout': keys[1]})

  def _check_batch(self, x):
    if len(x) % self.n_critic:
      raise ValueError(f'n_critic must divide the batch of {len(x)}, got {self.n_critic}')

  def _check_encoder(self, encoder):
    penalties = {name: weight for name, weight in self._penalties.items() if weight}
    _adversarial.check_penalties(penalties, encoder.stats.get('batch_stats'))
    if self.divergence == 'wasserstein' and not (penalties or self.clip or 'spectral' in encoder.stats):
      raise ValueError("divergence='wasserstein' needs a bound on the critic's slope: gradient_penalty, clip, r1 and "
                       'r2, or a discriminator with spectral norms')
    if self.n_critic > 1 and _of_type(optax.MultiStepsState, encoder.opt_state):
      raise ValueError(f'optimizer must not accumulate gradients with n_critic={self.n_critic}, above 1')


def _network(state: State, name: str) -> core.State:
  """Returns the part of a state that is one network's."""
  stats = {kind: tree[name] for kind, tree in state.stats.items() if name in tree}
  return core.State(state.step, state.failed_step, state.params[name], stats, state.opt_state[name])


def _joined(encoder: core.State, generator: core.State) -> dict[str, Any]:
  """Returns params, stats and opt_state of both."""
  both = {'encoder': encoder, 'generator': generator}
  kinds = sorted({*encoder.stats, *generator.stats})
  return {
      'params': {name: each.params for name, each in both.items()},
      'stats': {
          kind: {name: each.stats[kind] for name, each in both.items() if kind in each.stats} for kind in kinds},
      'opt_state': {name: each.opt_state for name, each in both.items()},
  }


def _at_step(network: core.State, step: jax.Array) -> core.State:
  """Returns the state with the schedule of its learning rate at `step`, however many updates there are in a step."""
  at_step = lambda x: x._replace(count=step) if isinstance(x, optax.ScaleByScheduleState) else x
  is_schedule = lambda x: isinstance(x, optax.ScaleByScheduleState)
  return network._replace(opt_state=jax.tree.map(at_step, network.opt_state, is_leaf=is_schedule))


def _of_type(kind: type, tree: Any) -> list[Any]:
  is_one = lambda x: isinstance(x, kind)
  return [leaf for leaf in jax.tree.leaves(tree, is_leaf=is_one) if is_one(leaf)]


def _in_turn(update, carry: Any, parts: Any) -> tuple[Any, Any]:
  """Calls `update(carry, part) -> (carry, metrics)` for parts [n, ...]; returns the last of both.

  On a CPU without a loop, in which convolutions would be slow.
  """
  if jax.default_backend() != 'cpu':
    carry, metrics = jax.lax.scan(update, carry, parts)
    return carry, jax.tree.map(lambda x: x[-1], metrics)
  for i in range(len(jax.tree.leaves(parts)[0])):
    carry, metrics = update(carry, jax.tree.map(lambda x, i=i: x[i], parts))
  return carry, metrics
