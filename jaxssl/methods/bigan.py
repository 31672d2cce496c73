"""BiGAN: an encoder learns to invert a generator, since the discriminator sees inputs and latents together.

Donahue, Krähenbühl, Darrell 2016, https://arxiv.org/abs/1605.09782; ALI, the same with a stochastic encoder, Dumoulin
et al. 2016, https://arxiv.org/abs/1606.00704. With unary scores BigBiGAN: Donahue and Simonyan 2019,
https://arxiv.org/abs/1907.02544.
"""

import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from flax import linen as nn

from jaxssl import core, ops
from jaxssl.losses import adversarial
from jaxssl.methods import _adversarial, _checks
from jaxssl.methods._adversarial import LATENTS
from jaxssl.models.autoencoder import Coded
from jaxssl.models.bigan import BidirectionalNetwork, LastLayers, Scores
from jaxssl.models.forward import forward


def joint(encoded: Scores, generated: Scores) -> adversarial.Terms:
  """Returns BiGAN's losses: of encoder and generator it is the discriminator's with the labels swapped."""
  swapped = adversarial.jensen_shannon(generated.joint, encoded.joint).discriminator
  return adversarial.jensen_shannon(encoded.joint, generated.joint)._replace(generator=swapped)


def unary(encoded: Scores, generated: Scores) -> adversarial.Terms:
  """Returns BigBiGAN's losses: the sum over three scores of their hinge losses, and of their differences.

  The divergence is that of the joint score.
  """
  scores: list[Any] = list(zip(encoded, generated, strict=True))
  hinge = [adversarial.hinge(*each) for each in scores]
  differences = [jnp.mean(real) - jnp.mean(fake) for real, fake in scores]
  discriminator = jnp.sum(jnp.stack([each.discriminator for each in hinge]))
  return adversarial.Terms(discriminator, jnp.sum(jnp.stack(differences)), hinge[0].divergence)


OBJECTIVES = {'joint': joint, 'unary': unary}


class State(NamedTuple):
  """`opt_state` has an entry for the discriminator, and one for encoder and generator."""

  step: jax.Array  # int32: updates done so far.
  failed_step: jax.Array  # int32: -1, or the first step of which a loss or a gradient was not finite.
  params: Any  # {'encoder': …, 'latent': …, 'generator': …, 'discriminator': …}
  stats: Any  # Batch norm and power iteration: {collection: {'encoder': …, 'generator': …, 'discriminator': …}}.
  opt_state: Any  # {'encoder': …, 'discriminator': …}
  average: Any  # The generator's variables, averaged over steps: what `sample` uses.


@dataclasses.dataclass(frozen=True)
class BiGAN:
  """Tells pairs (x, E(x)) of the first view from pairs (G(z), z), and makes them alike; then E and G are inverses.

  A step evaluates both losses once and updates all networks together, encoder and generator by one optimizer.

  Presets: of the size of the paper's for permutation-invariant MNIST are z uniform of 50 numbers, the default,
  `MLPEncoder((1024, 1024))`, `Generator(MLPDecoder((1024, 1024), batch_norm=True))`, and `MLPJointDiscriminator((1024,
  1024), norm='batch')`; there E has leaky ReLU. Batch 128, Adam, 2e-4, b1 0.5, weight decay 2.5e-5 (an L2 term there),
  200 epochs and 200 more in which the rate falls to a hundredth. ALI:
  stochastic, z normal, Adam, 1e-4, b1 0.5, batch 100. BigBiGAN: objective 'unary', z normal of 120 numbers,
  `JointDiscriminator`, spectral norms. None of them has r1 or r2.
  """

  encoder: nn.Module  # x [b, ...] -> h [b, ...], flattened; one that keeps positions, such as ConvEncoder.
  generator: nn.Module  # z [b, latent_size], shape -> [b, *shape]: models.Generator.
  discriminator: nn.Module  # x, z -> models.Scores [b]: models.MLPJointDiscriminator, models.JointDiscriminator.
  optimizer: optax.GradientTransformation  # Of encoder and generator.
  discriminator_optimizer: optax.GradientTransformation
  latent_size: int = 50
  latent: str = 'uniform'  # From -1 to 1; or 'normal'.
  objective: str = 'joint'  # Or 'unary', BigBiGAN's.
  r1: float = 0.0  # Gamma of half the mean squared slope at pairs (x, E(x)), by x and z together, and
  r2: float = 0.0  # at pairs (G(z), z).
  stochastic: bool = False  # Whether E(x) is drawn from a Gaussian, as in ALI; its mean is what represents.
  generator_momentum: float = 0.999  # Of the average of the generator; lower in the first steps. 0: no average.

  def __post_init__(self):
    if hasattr(self.discriminator, 'names'):
      raise ValueError('discriminator must score pairs (x, z), as JointDiscriminator and MLPJointDiscriminator do, got '
                       f'{type(self.discriminator).__name__}, which scores single inputs')
    _checks.choice('latent', self.latent, LATENTS)
    _checks.choice('objective', self.objective, OBJECTIVES)
    _checks.positive(latent_size=self.latent_size)
    _checks.not_negative(r1=self.r1, r2=self.r2)
    _checks.below_one(generator_momentum=self.generator_momentum)

  @property
  def representations(self) -> tuple[str, ...]:
    """E's last hidden layer, which BiGAN's paper evaluates; E(x); and ALI's, if E shows its layers."""
    return ('h', 'z', 'layers') if callable(getattr(self.encoder, 'layers', None)) else ('h', 'z')

  @property
  def network(self) -> BidirectionalNetwork:
    return BidirectionalNetwork(
        self.encoder, self.generator, self.discriminator, self.latent_size, self.stochastic)

  @property
  def updates(self) -> dict[str, _adversarial.Update]:
    """The updates of a step by name."""
    moved = ('encoder', 'latent', 'generator', *(('log_std',) if self.stochastic else ()))
    return {'encoder': _adversarial.Update(self.optimizer, moved),
            'discriminator': _adversarial.Update(self.discriminator_optimizer, ('discriminator',))}

  def init(self, key: jax.Array, batch: core.Batch) -> State:
    x = ops.single(batch['views'])
    z = jnp.zeros((len(x), self.latent_size))
    state = _adversarial.init_state(self.network, self.updates, key, x, z, z)
    scores, _ = jax.eval_shape(self.network.apply, {'params': state.params, **state.stats}, x, z, z)
    if self.objective == 'unary' and None in scores:
      raise ValueError("discriminator must also score x and z alone for objective='unary', which "
                       'JointDiscriminator and MLPJointDiscriminator(unary=True) do')
    batch_stats = state.stats.get('batch_stats', {}).get('discriminator')
    weights = {'r1': self.r1, 'r2': self.r2}
    _adversarial.check_penalties({name: weight for name, weight in weights.items() if weight}, batch_stats)
    return State(*state, average=jax.tree.map(jnp.copy, _generator(state)))  # Buffers may be donated.

  def discriminator_loss(self, params, stats, x, key):
    """Returns the discriminator's loss of x [b, ...] and as many latents, with penalties, and (stats, metrics)."""
    keys = jax.random.split(key, 3)
    (encoded, generated), stats = self._pairs(params, stats, x, keys[0])
    terms, stats = self._terms(params, stats, encoded, generated, keys[1])
    metrics = {'discriminator_loss': terms.discriminator, 'divergence': terms.divergence}
    if not (self.r1 or self.r2):
      return terms.discriminator, (stats, metrics)
    penalty = jnp.float32(0)
    for weight, pairs in ((self.r1, encoded), (self.r2, generated)):
      if weight:
        penalty += weight * self._penalty(params, stats, *pairs, keys[2])
    return terms.discriminator + penalty, (stats, {**metrics, 'penalty': penalty})

  def encoder_loss(self, params, stats, x, key):
    """Returns the loss of encoder and generator of x [b, ...] and as many latents, and (updated stats, metrics)."""
    keys = jax.random.split(key, 3)
    pairs, stats = self._pairs(params, stats, x, keys[0])
    terms, stats = self._terms(params, stats, *pairs, keys[1])
    return terms.generator, (stats, {})

  def step(self, state: State, batch: core.Batch, key: jax.Array) -> tuple[State, core.Metrics]:
    """Returns the next state and metrics; `loss` and `gradient_norm` are those of encoder and generator."""
    x = ops.single(batch['views'])
    # Both losses are of the same pairs and the same parameters: the forward pass, though written twice, runs once.
    other, of_discriminator = self._update('discriminator', self.discriminator_loss, state, x, key)
    after, metrics = self._update('encoder', self.encoder_loss, state, x, key)
    metrics |= {('discriminator_gradient_norm' if key == 'gradient_norm' else key): x
                for key, x in of_discriminator.items() if key != 'loss'}  # The loss without penalties is there.
    after = after._replace(
        step=state.step + 1, params={**after.params, 'discriminator': other.params['discriminator']},
        opt_state={**after.opt_state, 'discriminator': other.opt_state['discriminator']})
    after = after._replace(
        average=_adversarial.averaged(state.average, _generator(after), self.generator_momentum, state.step))
    # Nothing moves in a step in which either update fails.
    return _adversarial.settled(after, state, (after.failed_step >= 0) | (other.failed_step >= 0)), metrics

  def represent(self, state: State, inputs: Any, name: str | None = None, mask=None) -> jax.Array:
    """Returns h [n, d], the encoder's last hidden layer, z [n, latent_size], E(x) or its mean, or layers [n, d].

    Those are the last three hidden layers of the encoder and z, side by side (Dumoulin et al. 2016).
    """
    encoder, variables = self.backbone(state, name)
    features: Any = encoder.apply(variables, inputs)
    return features

  def backbone(self, state: State, name: str | None = None) -> tuple[nn.Module, Any]:
    """Returns the network up to a representation as a module of inputs, and its variables: what fine-tuning trains."""
    name = core.choose(name, {each: each for each in self.representations})
    network = self.network.clone(stochastic=False)  # The mean needs no deviation.
    encoder = LastLayers(network) if name == 'layers' else Coded(network, name == 'z')
    return encoder, core.part_of(state, ('encoder',) if name == 'h' else ('encoder', 'latent'))

  def reconstruct(self, state: State, inputs: Any, key: jax.Array) -> dict[str, jax.Array]:
    """Returns G(E(x)) of inputs [b, ...]."""
    x = ops.single(inputs)
    return {'reconstruction': self.decode(state, self.represent(state, x, 'z'), x.shape[1:])}

  def score(self, state: State, inputs: Any, key: jax.Array, samples: int = 1) -> core.Metrics:
    """Returns of each example, [b], the squared error of G(E(x)), averaged over its pixels, and the latent error.

    The latter is the squared distance of E(G(z)) from z over that of two independent draws of z, the mean over
    `samples` draws: 0 if E inverts G, 1 by chance, 1/2 if E always returns the mean of z.
    """
    x = ops.single(inputs)
    error = jnp.square(self.reconstruct(state, x, key)['reconstruction'] - x)

    def distance(key):
      z = self.latents(key, len(x))
      return jnp.sum(jnp.square(self.represent(state, self.decode(state, z, x.shape[1:]), 'z') - z), axis=1)

    variance = 1 / 3 if self.latent == 'uniform' else 1.0
    latent_error = jnp.mean(jax.lax.map(distance, jax.random.split(key, samples)), axis=0)
    return {'squared_error': jnp.mean(error, axis=range(1, x.ndim)),
            'latent_error': latent_error / (2 * self.latent_size * variance)}

  def decode(self, state: State, z: jax.Array, shape: tuple[int, ...]) -> jax.Array:
    """Returns G(z) of z [n, latent_size], [n, *shape], by the generator that the encoder was trained with."""
    images: Any = self.network.apply({'params': state.params, **state.stats}, z, shape, method='generate')
    return images

  def sample(self, state: State, key: jax.Array, n: int, shape: tuple[int, ...]) -> jax.Array:
    """Returns what the averaged generator makes of n draws of z, [n, *shape]."""
    images: Any = self.generator.apply(state.average, self.latents(key, n), shape)
    return images

  def latents(self, key: jax.Array, n: int) -> jax.Array:
    """Returns n draws of z, [n, latent_size]."""
    return _adversarial.latents(self.latent, key, (n, self.latent_size))

  def embed(self, state: State, batch: core.Batch) -> tuple[jax.Array, ...]:
    """Returns h [b, d] of the first view, less its mean, for the health of the embedding."""
    h = self.represent(state, ops.single(batch['views']))
    return (h - jnp.mean(h, axis=0, keepdims=True),)

  def _pairs(self, params, stats, x, key) -> Any:
    """Returns ((x, E(x)), (G(z), z)), of draws of z and of what E(x) is drawn by, and the updated stats."""
    keys = jax.random.split(key, 3)
    z, noise = self.latents(keys[0], len(x)), jax.random.normal(keys[1], (len(x), self.latent_size))
    (encoded, generated), stats = self._forward('halves', params, stats, keys[2], x, z, noise)
    return ((x, encoded), (generated, z)), stats

  def _terms(self, params, stats, encoded, generated, key) -> Any:
    keys = jax.random.split(key)
    of_encoded, stats = self._forward('discriminate', params, stats, keys[0], *encoded)
    of_generated, stats = self._forward('discriminate', params, stats, keys[1], *generated)
    return OBJECTIVES[self.objective](of_encoded, of_generated), stats

  def _penalty(self, params, stats, x, z, key) -> jax.Array:
    """Returns half the mean squared slope at pairs of the score, or the sum of all that the objective uses."""

    def critic(pairs):
      zs, xs = jnp.split(pairs, [self.latent_size], axis=1)
      scores, _ = self._forward('discriminate', params, stats, key, xs.reshape(x.shape), zs)
      return sum(scores) if self.objective == 'unary' else scores.joint

    pairs = jnp.concatenate([z, x.reshape(len(x), -1)], axis=1)
    return adversarial.zero_centered_penalty(critic, pairs)

  def _forward(self, method: str, params, stats, key, *inputs) -> Any:
    return forward(self.network, params, stats, *inputs, rngs={'dropout': key}, method=method)

  def _update(self, name, loss, state, x, key):
    return _adversarial.descend(
        lambda params: loss(params, state.stats, x, key), name, self.updates[name], state)


def _generator(state: Any) -> dict[str, Any]:
  """Returns the variables of the generator alone."""
  variables = {'params': state.params, **state.stats}
  return {kind: tree['generator'] for kind, tree in variables.items() if 'generator' in tree}
