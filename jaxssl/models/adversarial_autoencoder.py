"""The network of an adversarial autoencoder: an autoencoder and the discriminators of its code."""

import jax
import jax.numpy as jnp
from flax import linen as nn

from jaxssl import ops


class AdversarialAutoencoderNetwork(nn.Module):
  """An encoder with a linear code z, a decoder, and a discriminator of the code; with categories y beside z.

  The code is z [b, code_size], and with categories z and y, side by side, [b, code_size + categories]; y is a
  distribution over the categories. Each has a discriminator of its own.

  Attributes:
    encoder: any module `(x, train) -> [b, ...]`; what it returns is flattened to h [b, d].
    decoder: any module `(code, shape, train) -> [b, *shape]`.
    discriminator: of z: any module `(z, train) -> [b]`.
    category_discriminator: of y; None without categories.
    code_size: length of z.
    categories: length of y; 0: none.
  """

  encoder: nn.Module
  decoder: nn.Module
  discriminator: nn.Module
  category_discriminator: nn.Module | None
  code_size: int
  categories: int = 0

  def setup(self):
    self.code = nn.Dense(self.code_size)
    if self.categories:
      self.category = nn.Dense(self.categories)

  def __call__(self, x: jax.Array, train: bool = False) -> tuple[jax.Array, tuple[jax.Array, ...]]:
    """Returns the reconstruction of x [b, ...], and the scores of its code."""
    return self.reconstruct(x, train), self.discriminate(self.encode(x, train), train)

  def reconstruct(self, x: jax.Array, train: bool = False) -> jax.Array:
    """Returns what the code of x [b, ...] is decoded to, [b, ...]."""
    return self.decode(self.encode(x, train), x.shape[1:], train)

  def encode(self, x: jax.Array, train: bool = False) -> jax.Array:
    """Returns the code of x [b, ...]."""
    h = self.features(x, train)
    return jnp.concatenate([self.code(h), self.clustered(h)], axis=1) if self.categories else self.code(h)

  def features(self, x: jax.Array, train: bool = False) -> jax.Array:
    """Returns h [b, d], the layer before the code."""
    h = self.encoder(x, train=train)
    return h.reshape(h.shape[0], -1)

  def clustered(self, h: jax.Array) -> jax.Array:
    """Returns y [b, categories] of h [b, d]."""
    return nn.softmax(self.category(h))

  def decode(self, code: jax.Array, shape: tuple[int, ...], train: bool = False) -> jax.Array:
    """Returns what codes stand for, [b, *shape]."""
    return self.decoder(code, shape, train)

  def discriminate(self, code: jax.Array, train: bool = False) -> tuple[jax.Array, ...]:
    """Returns scores [b] of z, and with categories also of y: high where they seem to be draws of the prior."""
    of_z = self.discriminator(code[:, :self.code_size], train)
    if self.category_discriminator is None:
      return (of_z,)
    return of_z, self.category_discriminator(code[:, self.code_size:], train)


class Represented(nn.Module):
  """The encoding half of such a network as one encoder: inputs -> 'h', 'y', or 'z', the code, [b, d]."""

  network: nn.Module
  representation: str

  def __call__(self, x: jax.Array, train: bool = False) -> jax.Array:
    x = ops.single(x)
    if self.representation == 'z':
      return self.network.encode(x, train)
    h = self.network.features(x, train)
    return self.network.clustered(h) if self.representation == 'y' else h
