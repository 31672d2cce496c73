"""VQ-VAE: an autoencoder whose code is made of entries of a codebook.

Van den Oord, Vinyals, Kavukcuoglu, "Neural Discrete Representation Learning", NeurIPS 2017,
https://arxiv.org/abs/1711.00937, equation 3; the codebook's moving averages are those of appendix A.1.
"""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import linen as nn

from jaxssl import core, losses, ops
from jaxssl.methods import _checks
from jaxssl.models.forward import forward
from jaxssl.models.vector_quantizer import VectorQuantizer, follow


class VQVAENetwork(nn.Module):
  """An encoder, a linear map to vectors z_e, the codes nearest to them, and a decoder.

  Attributes:
    encoder: any module `(x, train) -> [b, h, w, c]`, or [b, d].
    decoder: any module `(z, shape, train) -> [b, *shape]` of z [b, h, w, groups * code_dim], or [b, groups * code_dim].
    quantizer: z_e [..., code_dim] -> (codes [..., code_dim], indices [...]).
    groups: how many vectors there are at each place.
  """

  encoder: nn.Module
  decoder: nn.Module
  quantizer: VectorQuantizer
  groups: int

  def setup(self):
    self.code = nn.Dense(self.groups * self.quantizer.code_dim)

  def __call__(self, x: jax.Array, train: bool = False) -> tuple[jax.Array, jax.Array, jax.Array, jax.Array]:
    """Returns the reconstruction [b, ...], z_e and codes [b, ..., groups, code_dim], and indices [b, ..., groups]."""
    z_e, codes, indices = self.quantize(self.encoder(x, train=train))
    return self.decode(self.passed(z_e, codes), x.shape[1:], train), z_e, codes, indices

  def quantize(self, h: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
    z_e = self.code(h)
    z_e = z_e.reshape(*z_e.shape[:-1], self.groups, -1)
    return z_e, *self.quantizer(z_e)

  def passed(self, z_e: jax.Array, codes: jax.Array) -> jax.Array:
    """Returns z [b, ..., groups * code_dim]: the codes, through which gradients reach z_e as it is."""
    z = losses.straight_through(z_e, codes)
    return z.reshape(*z.shape[:-2], -1)

  def decode(self, z: jax.Array, shape: tuple[int, ...], train: bool = False) -> jax.Array:
    return self.decoder(z, shape, train)

  def grid(self, x: jax.Array, quantized: bool, train: bool = False) -> jax.Array:
    """Returns the encoder's output, or z."""
    h = self.encoder(x, train=train)
    return self.passed(*self.quantize(h)[:2]) if quantized else h

  def codes(self, x: jax.Array) -> jax.Array:
    return self.quantize(self.encoder(x))[2]


class VQVAEFeatures(nn.Module):
  """The encoding half as one encoder: inputs -> [b, d], all places side by side, or their mean."""

  network: VQVAENetwork
  quantized: bool
  mean: bool

  def __call__(self, x: Any, train: bool = False) -> jax.Array:
    grid = self.network.grid(ops.single(x), self.quantized, train)
    places = grid.reshape(grid.shape[0], -1, grid.shape[-1])
    return jnp.mean(places, axis=1) if self.mean else places.reshape(grid.shape[0], -1)


@dataclasses.dataclass(frozen=True)
class VQVAE:
  """Reconstructs the first view from codes: places of a grid or, of an encoder that returns [b, d], one vector cut up.

  The terms of the loss are scaled as in the authors' code (Sonnet's example for CIFAR-10): the mean squared error over
  the variance of the data, here of the batch, and means over the elements of z_e. So the weight between them does not
  depend on the size of the images; in the paper the error is a sum over pixels.
  """

  encoder: nn.Module  # x [b, ...] -> h [b, h, w, c], such as ConvEncoder(pool='grid'), or [b, d].
  decoder: nn.Module  # z, shape -> [b, *shape]; z is [b, h, w, groups * code_dim], or [b, groups * code_dim].
  optimizer: optax.GradientTransformation  # Adam, 2e-4, batch 128, 250,000 steps (section 4.1).
  num_codes: int = 512  # K, section 4.1.
  code_dim: int = 64
  groups: int = 1  # Codes for each place; a vector needs more than one.
  commitment: float = 0.25  # beta, section 3.2.
  decay: float | None = 0.99  # gamma of the codebook's moving averages; None: it has a loss, equation 3's second term.
  # Entries used less than this share of what is even restart at random outputs of the encoder, and all do after the
  # first step; 0, as in the paper: none does. See `vector_quantizer.follow`.
  restart_below: float = 0.0

  representations = ('h', 'h_mean', 'z', 'z_mean')  # The encoder's output and the codes, side by side or averaged.

  def __post_init__(self):
    _checks.positive(num_codes=self.num_codes, code_dim=self.code_dim, groups=self.groups)
    _checks.not_negative(commitment=self.commitment, restart_below=self.restart_below)
    if self.decay is not None and not 0 <= self.decay < 1:
      raise ValueError(f'decay must lie in [0, 1), or be None, got {self.decay}')
    if self.decay is None and self.restart_below:
      raise ValueError(f'restart_below is of a codebook with decay alone, got {self.restart_below} with decay=None')

  @property
  def network(self) -> VQVAENetwork:
    quantizer = VectorQuantizer(self.num_codes, self.code_dim, moving=self.decay is not None)
    return VQVAENetwork(self.encoder, self.decoder, quantizer, self.groups)

  def init(self, key: jax.Array, batch: core.Batch) -> core.State:
    return core.init_state(self.network, self.optimizer, key, ops.single(batch['views']))

  def loss(self, params, stats, x, key, step=1):
    """Returns the loss of x [b, ...], and (stats with the codebook of the next step, metrics)."""
    dropout = {'dropout': jax.random.fold_in(key, 2)}  # A split makes 0 and 1.
    (output, z_e, codes, indices), stats = forward(self.network, params, stats, x, rngs=dropout)
    squared_error = jnp.mean(jnp.square(output - x))
    commitment = losses.commitment_loss(z_e, codes) / self.code_dim
    loss = squared_error / jnp.maximum(jnp.var(x), 1e-6) + self.commitment * commitment  # Of one colour: no 0 / 0.
    if self.decay is None:
      loss += losses.codebook_loss(z_e, codes) / self.code_dim
    else:
      codebook = follow(
          stats['codebook']['quantizer'], jax.lax.stop_gradient(z_e), indices, key, decay=self.decay,
          restart_below=self.restart_below, first=step == 0)
      stats = {**stats, 'codebook': {'quantizer': codebook}}
    counts = jnp.sum(jax.nn.one_hot(indices.reshape(-1), self.num_codes), axis=0)
    return loss, (stats, {
        'squared_error': squared_error, 'commitment_loss': commitment,
        'perplexity': losses.codebook_perplexity(counts), 'codes_used': jnp.mean(counts > 0)})

  def step(self, state: core.State, batch: core.Batch, key: jax.Array) -> tuple[core.State, core.Metrics]:
    x = ops.single(batch['views'])
    return core.descend(lambda params: self.loss(params, state.stats, x, key, state.step), self.optimizer, state)

  def represent(self, state: core.State, inputs: Any, name: str | None = None, mask=None) -> jax.Array:
    """Returns features [n, d] of inputs [n, ...]: the encoder's output h, before the linear map to z_e, or the codes z.

    Those of a grid are side by side, [n, h * w * c], or averaged, [n, c].
    """
    encoder, variables = self.backbone(state, name)
    features: Any = encoder.apply(variables, inputs)
    return features

  def backbone(self, state: core.State, name: str | None = None) -> tuple[nn.Module, Any]:
    """Returns the network up to a representation as a module of inputs, and its variables: what fine-tuning trains.

    Gradients pass codes straight through; the codebook stays as it is.
    """
    name = core.choose(name, {name: name for name in self.representations})
    quantized = name.startswith('z')
    used = ('encoder', 'code', 'quantizer') if quantized else ('encoder',)
    return VQVAEFeatures(self.network, quantized, name.endswith('mean')), core.part_of(state, used)

  def codes(self, state: core.State, inputs: Any) -> jax.Array:
    """Returns which entries of the codebook stand for inputs [b, ...]: int32 [b, h, w, groups], or [b, groups]."""
    codes: Any = self._apply(state, ops.single(inputs), method='codes')
    return codes

  def reconstruct(self, state: core.State, inputs: Any, key: jax.Array) -> dict[str, jax.Array]:
    """Returns what the codes of inputs [b, ...] stand for."""
    output, *_ = self._apply(state, ops.single(inputs))
    return {'reconstruction': output}

  def score(self, state: core.State, inputs: Any, key: jax.Array, samples: int = 1) -> core.Metrics:
    """Returns the squared error of each example, averaged over its pixels, [b]; nothing is drawn."""
    x = ops.single(inputs)
    error = jnp.square(self.reconstruct(state, x, key)['reconstruction'] - x)
    return {'squared_error': jnp.mean(error, axis=range(1, x.ndim))}

  def decode(self, state: core.State, z: jax.Array, shape: tuple[int, ...]) -> jax.Array:
    """Returns what z, as `represent` returns it under that name, stands for, [b, *shape]; also between codes."""
    one = jnp.zeros((1, *shape))
    grid = jax.eval_shape(lambda: self._apply(state, one, True, method='grid'))
    output: Any = self._apply(state, z.reshape(-1, *grid.shape[1:]), shape, method='decode')
    return output

  def embed(self, state: core.State, batch: core.Batch) -> tuple[jax.Array, ...]:
    """Returns the mean code [b, groups * code_dim] of the first view, centred, for the health of the embedding."""
    z = self.represent(state, ops.single(batch['views']), 'z_mean')
    return (z - jnp.mean(z, axis=0, keepdims=True),)

  def _apply(self, state, *arguments, method=None) -> Any:
    return self.network.apply({'params': state.params, **state.stats}, *arguments, method=method)
