"""BiGAN's networks: an encoder and a generator in one, and discriminators of pairs of an input and a latent.

A joint discriminator is a module `(x, z, train=False) -> Scores`, of inputs x [b, ...] and latents z [b, d].
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import linen as nn

from jaxssl import ops
from jaxssl.models.gan import MLPDiscriminator

LAYERS = 3  # Of the encoder, in ALI's representation.


class Scores(NamedTuple):
  """Logits of pairs, [b], float32: of both together and, where they are, of each alone (BigBiGAN's unary scores)."""

  joint: jax.Array
  x: jax.Array | None = None
  z: jax.Array | None = None


class BidirectionalNetwork(nn.Module):
  """The way from inputs to latents, E, the way back, G, and the discriminator of pairs from either.

  Attributes:
    encoder: any module `(x, train) -> [b, ...]`; what it returns is flattened to h [b, d].
    generator: any module `(z, shape, train) -> [b, *shape]`.
    discriminator: a joint discriminator.
    latent_size: length of z.
    stochastic: whether E(x) is a Gaussian, with a mean and a variance of its own for each dimension, as in ALI.
  """

  encoder: nn.Module
  generator: nn.Module
  discriminator: nn.Module
  latent_size: int
  stochastic: bool = False

  def setup(self):
    self.latent = nn.Dense(self.latent_size)
    if self.stochastic:
      self.log_std = nn.Dense(self.latent_size, kernel_init=nn.initializers.zeros)  # 1 at first.

  def __call__(self, x: jax.Array, z: jax.Array, noise: jax.Array, train: bool = False) -> tuple[Scores, Scores]:
    """Returns the scores of the pairs (x, E(x)) and (G(z), z).

    Args:
      x: inputs [b, ...].
      z: latents [b, latent_size].
      noise: standard normal, [b, latent_size], that a stochastic E(x) is made of.
      train: whether batch norm uses the batch.
    """
    encoded, generated = self.halves(x, z, noise, train)
    return self.discriminate(x, encoded, train), self.discriminate(generated, z, train)

  def halves(self, x: jax.Array, z: jax.Array, noise: jax.Array, train: bool = False) -> tuple[jax.Array, jax.Array]:
    """Returns what the pairs are completed by: E(x), or a draw of it, [b, latent_size], and G(z), [b, ...]."""
    return self.encode(x, noise, train), self.generate(z, x.shape[1:], train)

  def discriminate(self, x: jax.Array, z: jax.Array, train: bool = False) -> Scores:
    """Returns the scores of pairs (x, z)."""
    return self.discriminator(x, z, train)

  def encode(self, x: jax.Array, noise: jax.Array, train: bool = False) -> jax.Array:
    """Returns E(x), or a draw of it, [b, latent_size]."""
    h, z = self.layers(x, train)
    return z + jnp.exp(self.log_std(h)) * noise if self.stochastic else z

  def layers(self, x: jax.Array, train: bool = False) -> tuple[jax.Array, jax.Array]:
    """Returns h [b, d], and E(x) or its mean, [b, latent_size]."""
    h = self.features(x, train)
    return h, self.latent(h)

  def features(self, x: jax.Array, train: bool = False) -> jax.Array:
    """Returns h [b, d]."""
    h = self.encoder(x, train=train)
    return h.reshape(h.shape[0], -1)

  def last_layers(self, x: jax.Array, train: bool = False) -> jax.Array:
    """Returns the last three hidden layers, flattened, and E(x) or its mean side by side, [b, d], as ALI evaluates."""
    hidden = self.encoder.layers(x, train)[-LAYERS:]
    flat = [each.reshape(x.shape[0], -1).astype(jnp.float32) for each in hidden]
    return jnp.concatenate([*flat, self.layers(x, train)[1]], axis=1)

  def generate(self, z: jax.Array, shape: tuple[int, ...], train: bool = False) -> jax.Array:
    """Returns G(z), [b, *shape]."""
    return self.generator(z, shape, train)


class LastLayers(nn.Module):
  """The encoder of a `BidirectionalNetwork` up to its `last_layers`, as one encoder: inputs -> [b, d]."""

  network: BidirectionalNetwork

  def __call__(self, x: jax.Array, train: bool = False) -> jax.Array:
    return self.network.last_layers(ops.single(x), train)


class MLPJointDiscriminator(nn.Module):
  """Linear layers of x, flattened, to each of which a learned linear map of z is added.

  Of the size of BiGAN's for MNIST (Donahue et al. 2016, https://arxiv.org/abs/1605.09782).

  Attributes:
    features: size of each hidden layer.
    norm: of every hidden layer but the first: None, 'batch' or 'layer'.
    spectral_norm: of all weights.
    unary: whether two more perceptrons of these sizes score x and z alone.
    dtype: of the computation; parameters and outputs are float32.
  """

  features: tuple[int, ...] = (1024, 1024)
  norm: str | None = None
  spectral_norm: bool = False
  unary: bool = False
  dtype: Any = jnp.float32

  def setup(self):
    perceptron = lambda: MLPDiscriminator(self.features, self.norm, self.spectral_norm, dtype=self.dtype)
    self.joint = perceptron()
    if self.unary:
      self.of_x, self.of_z = perceptron(), perceptron()

  def __call__(self, x: jax.Array, z: jax.Array, train: bool = False) -> Scores:
    joint = self.joint(x, train, z)
    return Scores(joint, self.of_x(x, train), self.of_z(z, train)) if self.unary else Scores(joint)


class JointDiscriminator(nn.Module):
  """A discriminator of x and one of z, and a third of the last features of both, side by side.

  So it is in BigBiGAN (Donahue and Simonyan 2019, https://arxiv.org/abs/1907.02544), where they are called F, H and J,
  and in ALI (Dumoulin et al. 2016, https://arxiv.org/abs/1606.00704). The scores of the first two are the unary ones.

  Attributes:
    of_x: any discriminator with `names` and `layers`, such as `ConvDiscriminator`.
    of_z: one of vectors: `MLPDiscriminator`.
    joint: one of vectors: `MLPDiscriminator`.
  """

  of_x: nn.Module
  of_z: nn.Module
  joint: nn.Module

  def __call__(self, x: jax.Array, z: jax.Array, train: bool = False) -> Scores:
    features, scores = [], []
    for network, inputs in ((self.of_x, x), (self.of_z, z)):
      outputs, score = network.layers(inputs, train)
      features.append(outputs[network.names[-1]].reshape(len(inputs), -1).astype(jnp.float32))
      scores.append(score)
    return Scores(self.joint(jnp.concatenate(features, axis=1), train), *scores)
