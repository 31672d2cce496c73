"""Generators and discriminators of generative adversarial networks.

A generator is a module `(z, shape, train=False) -> [b, *shape]`, as decoders are: `Generator` makes one of any decoder.
DCGAN's (Radford et al. 2015, https://arxiv.org/abs/1511.06434) for 28 pixels is
`Generator(ConvDecoder((256, 128), batch_norm=True))`, which starts from 7 x 7 places; one more width for 56 pixels or a
start from 4 x 4. `Generator(ResNetDecoder())` is that of WGAN-GP and SNGAN for 32 pixels, and
`Generator(MLPDecoder((1024, 1024), batch_norm=True))` that of BiGAN for MNIST.

A discriminator is a module `(x, train=False) -> scores [b]`, logits in float32, with `names` and a method
`layers(x, train)`: the features of its layers by name, the last before the score at the end, and the scores. Their norm
is None, 'batch', which mixes the examples of a batch and so allows no penalty of slopes, or 'layer'. Spectral
normalisation is Flax's: one step of power iteration at each forward pass in training, whose state is the collection
'spectral'.
"""

from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from jaxssl.models import _checks

OUTPUTS = {'sigmoid': nn.sigmoid, 'tanh': nn.tanh, 'linear': lambda x: x}
NORMS = (None, 'batch', 'layer')
LEAK = 0.2  # Of leaky ReLU, in DCGAN, BiGAN and WGAN-GP's code.
PLACES = 4  # DCGAN, section 5.1: the features of each layer are max-pooled to 4 x 4 places.


class Generator(nn.Module):
  """A decoder whose output is brought into the range of the data: z [b, d] -> [b, *shape].

  Attributes:
    decoder: any module `(z, shape, train) -> [b, *shape]`.
    output: 'sigmoid', for images from 0 to 1, as they are here; 'tanh', from -1 to 1; 'linear', for any.
  """

  decoder: nn.Module
  output: str = 'sigmoid'

  def __call__(self, z: jax.Array, shape: tuple[int, ...], train: bool = False) -> jax.Array:
    _checks.choice('output', self.output, OUTPUTS)
    return OUTPUTS[self.output](self.decoder(z, shape, train))


class ResNetDecoder(nn.Module):
  """Residual blocks, each of which doubles the resolution: codes [b, d] -> images [b, h, w, c] of any size.

  The generator of SNGAN (Miyato et al. 2018, https://arxiv.org/abs/1802.05957) for 32 pixels; that of WGAN-GP
  has 128 channels. Sides that are not a multiple are cropped on the way.

  Attributes:
    widths: channels at each resolution, the coarsest first: one more than there are doublings.
    batch_norm: before every 3x3 convolution.
    dtype: of the computation; parameters and outputs are float32.
  """

  widths: tuple[int, ...] = (256, 256, 256, 256)
  batch_norm: bool = True
  dtype: Any = jnp.float32

  @nn.compact
  def __call__(self, z: jax.Array, shape: tuple[int, ...], train: bool = False) -> jax.Array:
    _checks.sizes('widths', self.widths)
    if z.ndim != 2 or len(shape) != 3:
      raise ValueError(f'z must be [b, d] and shape (h, w, c), got shape {list(z.shape)} and {tuple(shape)}')
    sizes = [tuple(-(-side // 2**i) for side in shape[:2]) for i in range(len(self.widths) - 1, -1, -1)]
    (height, breadth), width = sizes[0], self.widths[0]
    x = nn.Dense(height * breadth * width, dtype=self.dtype, name='start')(z)
    x = x.reshape(-1, height, breadth, width)
    for i, (width, size) in enumerate(zip(self.widths[1:], sizes[1:], strict=True)):
      x = UpBlock(width, size, self.batch_norm, self.dtype, name=f'block{i + 1}')(x, train)
    x = nn.relu(_normalized(x, 'batch' if self.batch_norm else None, train, 'bn'))
    return nn.Conv(shape[2], (3, 3), dtype=self.dtype, name='output')(x).astype(jnp.float32)


class UpBlock(nn.Module):
  """Norm, ReLU, doubling, 3x3 convolution, norm, ReLU, 3x3 convolution, added to its doubled input."""

  width: int
  size: tuple[int, int]  # Of the output; at most twice that of the input.
  batch_norm: bool
  dtype: Any

  @nn.compact
  def __call__(self, x: jax.Array, train: bool = False) -> jax.Array:
    # No batch norm, not even one that comes after more blocks, lets the mean of a channel pass.
    conv = lambda side, name: nn.Conv(
        self.width, (side, side), use_bias=not self.batch_norm, dtype=self.dtype, name=name)
    norm = 'batch' if self.batch_norm else None
    y = conv(3, 'conv1')(self._doubled(nn.relu(_normalized(x, norm, train, 'bn1'))))
    y = conv(3, 'conv2')(nn.relu(_normalized(y, norm, train, 'bn2')))
    # A convolution of single places is the same before the doubling, and cheaper.
    return y + self._doubled(conv(1, 'shortcut')(x))

  def _doubled(self, x: jax.Array) -> jax.Array:
    x = jnp.repeat(jnp.repeat(x, 2, axis=1), 2, axis=2)
    return x[:, :self.size[0], :self.size[1]]


class ConvDiscriminator(nn.Module):
  """DCGAN's: 4x4 convolutions that halve the resolution, with leaky ReLU, then one linear map: [b, h, w, c] -> [b].

  Attributes:
    widths: channels of each convolution. From 28 or 32 pixels three lead to 4 x 4 places, from 128 five.
    norm: of every convolution but the first.
    spectral_norm: of all weights.
    score_bias: of the linear map; for 'wasserstein' and 'relativistic' losses, which see no offset, False.
    dtype: of the computation; parameters and outputs are float32.
  """

  widths: tuple[int, ...] = (64, 128, 256)
  norm: str | None = None
  spectral_norm: bool = False
  score_bias: bool = True
  dtype: Any = jnp.float32

  @property
  def names(self) -> tuple[str, ...]:
    return tuple(f'layer{i + 1}' for i in range(len(self.widths)))

  def __call__(self, x: jax.Array, train: bool = False) -> jax.Array:
    return self.layers(x, train)[1]

  @nn.compact
  def layers(self, x: jax.Array, train: bool = False) -> tuple[dict[str, jax.Array], jax.Array]:
    """Returns the output of every convolution, [b, h, w, width], by name, and the scores [b]."""
    _checks.sizes('widths', self.widths)
    _check_images(x)
    outputs = {}
    for i, width in enumerate(self.widths):
      norm = self.norm if i else None
      conv = nn.Conv(width, (4, 4), 2, use_bias=norm != 'batch', dtype=self.dtype, name=f'conv{i + 1}')
      x = _spectral(conv, x, self.spectral_norm, train)
      x = nn.leaky_relu(_normalized(x, norm, train, f'norm{i + 1}'), LEAK)
      outputs[f'layer{i + 1}'] = x
    score = nn.Dense(1, use_bias=self.score_bias, dtype=self.dtype, name='score')
    return outputs, _scores(score, x, self.spectral_norm, train)


class ResNetDiscriminator(nn.Module):
  """Residual blocks, of which the first halve the resolution, then a sum over places and one linear map.

  The discriminator of SNGAN for 32 pixels (Miyato et al. 2018, https://arxiv.org/abs/1802.05957); WGAN-GP's is
  the same with a mean over places.

  Attributes:
    widths: channels of each block.
    downsamplings: how many of the blocks, the first, halve the resolution.
    norm: before every 3x3 convolution of all blocks but the first.
    spectral_norm: of all weights.
    score_bias: of the linear map; for 'wasserstein' and 'relativistic' losses, which see no offset, False.
    dtype: of the computation; parameters and outputs are float32.
  """

  widths: tuple[int, ...] = (128, 128, 128, 128)
  downsamplings: int = 2
  norm: str | None = None
  spectral_norm: bool = False
  score_bias: bool = True
  dtype: Any = jnp.float32

  @property
  def names(self) -> tuple[str, ...]:
    return (*(f'layer{i + 1}' for i in range(len(self.widths))), 'pooled')

  def __call__(self, x: jax.Array, train: bool = False) -> jax.Array:
    return self.layers(x, train)[1]

  @nn.compact
  def layers(self, x: jax.Array, train: bool = False) -> tuple[dict[str, jax.Array], jax.Array]:
    """Returns the output of every block, [b, h, w, width], and their sum over places, by name, and the scores [b]."""
    _checks.sizes('widths', self.widths)
    if not 0 <= self.downsamplings <= len(self.widths):
      raise ValueError(
          f'downsamplings must be at least 0 and at most the {len(self.widths)} blocks, got {self.downsamplings}')
    _check_images(x, 2**self.downsamplings)
    outputs = {}
    for i, width in enumerate(self.widths):
      x = DownBlock(
          width, i == 0, i < self.downsamplings, self.norm if i else None, self.spectral_norm, self.dtype,
          name=f'block{i + 1}')(x, train)
      outputs[f'layer{i + 1}'] = x
    x = jnp.sum(nn.relu(x), axis=(1, 2), dtype=jnp.float32)
    outputs['pooled'] = x
    score = nn.Dense(1, use_bias=self.score_bias, dtype=self.dtype, name='score')
    return outputs, _scores(score, x, self.spectral_norm, train)


class DownBlock(nn.Module):
  """ReLU and 3x3 convolution, twice, and a mean of 2x2 places, added to its input; of pixels, no ReLU comes first."""

  width: int
  of_pixels: bool
  halves: bool
  norm: str | None
  spectral_norm: bool
  dtype: Any

  @nn.compact
  def __call__(self, x: jax.Array, train: bool = False) -> jax.Array:
    conv = lambda x, side, name, bias=True: _spectral(
        nn.Conv(self.width, (side, side), use_bias=bias, dtype=self.dtype, name=name), x, self.spectral_norm, train)
    y = x if self.of_pixels else nn.relu(_normalized(x, self.norm, train, 'norm1'))
    y = nn.relu(_normalized(conv(y, 3, 'conv1', self.norm != 'batch'), self.norm, train, 'norm2'))
    y = self._halved(conv(y, 3, 'conv2'))
    x = self._halved(x)
    # A mean over places and a convolution of single places may change their order.
    return y + (conv(x, 1, 'shortcut') if self.halves or x.shape[-1] != self.width else x)

  def _halved(self, x: jax.Array) -> jax.Array:
    return nn.avg_pool(x, (2, 2), (2, 2)) if self.halves else x


class MLPDiscriminator(nn.Module):
  """Linear layers with leaky ReLU: inputs of any shape, flattened, [b, ...] -> [b].

  The size of BiGAN's for MNIST (Donahue et al. 2016, https://arxiv.org/abs/1605.09782). Given also latents z [b, d], it
  adds a learned linear map of them to every linear layer.

  Attributes:
    features: size of each hidden layer.
    norm: of every hidden layer but the first.
    spectral_norm: of all weights.
    score_bias: of the linear map; for 'wasserstein' and 'relativistic' losses, which see no offset, False.
    dtype: of the computation; parameters and outputs are float32.
  """

  features: tuple[int, ...] = (1024, 1024)
  norm: str | None = None
  spectral_norm: bool = False
  score_bias: bool = True
  dtype: Any = jnp.float32

  @property
  def names(self) -> tuple[str, ...]:
    return tuple(f'layer{i + 1}' for i in range(len(self.features)))

  def __call__(self, x: jax.Array, train: bool = False, z: jax.Array | None = None) -> jax.Array:
    return self.layers(x, train, z)[1]

  @nn.compact
  def layers(
      self, x: jax.Array, train: bool = False, z: jax.Array | None = None
  ) -> tuple[dict[str, jax.Array], jax.Array]:
    """Returns the output of every hidden layer, [b, size], by name, and the scores [b]."""
    _checks.sizes('features', self.features)
    outputs, x = {}, x.reshape(x.shape[0], -1)
    for i, size in enumerate(self.features):
      norm = self.norm if i else None
      linear = nn.Dense(size, use_bias=norm != 'batch', dtype=self.dtype, name=f'linear{i + 1}')
      x = _spectral(linear, x, self.spectral_norm, train) + self._of_latents(z, size, f'latent{i + 1}', train)
      x = nn.leaky_relu(_normalized(x, norm, train, f'norm{i + 1}'), LEAK)
      outputs[f'layer{i + 1}'] = x
    score = nn.Dense(1, use_bias=self.score_bias, dtype=self.dtype, name='score')
    scores = _scores(score, x, self.spectral_norm, train)
    return outputs, scores if z is None else scores + self._of_latents(z, 1, 'latent_score', train)[:, 0]

  def _of_latents(self, z: jax.Array | None, size: int, name: str, train: bool) -> Any:
    """Returns a linear map of the latents, [b, size]; 0 without any."""
    if z is None:
      return 0.0
    return _spectral(nn.Dense(size, use_bias=False, dtype=self.dtype, name=name), z, self.spectral_norm, train)


class DiscriminatorFeatures(nn.Module):
  """A discriminator up to one of its layers, or all of them side by side, as one encoder: inputs -> [b, d], float32.

  Grids of features with more than 4 x 4 places are max-pooled to as many, as in DCGAN (section 5.1).

  Attributes:
    network: a discriminator.
    layer: one of its `names`, or 'all'.
  """

  network: nn.Module
  layer: str

  def __call__(self, x: jax.Array, train: bool = False) -> jax.Array:
    outputs, _ = self.network.layers(x, train)
    chosen = outputs if self.layer == 'all' else {self.layer: outputs[self.layer]}
    flat = [max_pooled(each, PLACES).reshape(x.shape[0], -1).astype(jnp.float32) for each in chosen.values()]
    return jnp.concatenate(flat, axis=1)


def max_pooled(x: jax.Array, places: int) -> jax.Array:
  """Returns the maxima of `places` x `places` parts of a grid [b, h, w, c]; sides that are no longer stay as they are.

  Parts of a side that `places` does not divide overlap. Features without places, [b, d], are returned as they are.
  """
  for axis in range(1, x.ndim - 1):
    side = x.shape[axis]
    if side > places:
      parts = [(i * side // places, -(-(i + 1) * side // places)) for i in range(places)]
      x = jnp.stack([jnp.max(jax.lax.slice_in_dim(x, *part, axis=axis), axis=axis) for part in parts], axis=axis)
  return x


def _normalized(x: jax.Array, norm: str | None, train: bool, name: str) -> jax.Array:
  _checks.choice('norm', norm, NORMS)
  if norm == 'batch':
    return nn.BatchNorm(use_running_average=not train, momentum=0.9, epsilon=1e-5, dtype=x.dtype, name=name)(x)
  if norm == 'layer':  # Over the whole example, as in WGAN-GP.
    return nn.LayerNorm(epsilon=1e-5, reduction_axes=range(1, x.ndim), dtype=x.dtype, name=name)(x)
  return x


def _spectral(layer: nn.Module, x: jax.Array, spectral_norm: bool, train: bool) -> jax.Array:
  """Applies a layer to x, its weights over their largest singular value if so asked."""
  if not spectral_norm:
    return layer(x)
  normalized: Any = nn.SpectralNorm(layer, collection_name='spectral', name=f'{layer.name}_spectral')
  return normalized(x, update_stats=train)


def _scores(layer: nn.Module, x: jax.Array, spectral_norm: bool, train: bool) -> jax.Array:
  """Returns one number for each example, [b], float32."""
  return _spectral(layer, x.reshape(x.shape[0], -1), spectral_norm, train)[:, 0].astype(jnp.float32)


def _check_images(x: jax.Array, least: int = 1) -> None:
  if x.ndim != 4 or min(x.shape[1:3]) < least:
    raise ValueError(f'x must be images [b, h, w, c], sides at least {least}, got shape {list(x.shape)}')
