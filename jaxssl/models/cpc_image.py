"""Contrastive predictive coding of images: patches to a grid of z, contexts that see the rows above, predictions below.

CPC v1: van den Oord et al. 2018, https://arxiv.org/abs/1807.03748, section 3.2. CPC v2: Hénaff et al. 2019,
https://arxiv.org/abs/1905.09272. Greedy InfoMax: Löwe et al. 2019, https://arxiv.org/abs/1905.11786.

Rows are steps and columns are sequences: after `GridPredictor` a loss for sequences [B, t, d] serves images too.
"""

from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from jaxssl import ops
from jaxssl.models.cpc import RNNContext

Pairs = dict[str, tuple[jax.Array, jax.Array]]  # By direction: predictions [s, t, K, d], targets [s, t, d].

# Quarter turns, counter-clockwise, that make each direction of prediction 'down'.
DIRECTIONS = {'down': 0, 'left': 1, 'up': 2, 'right': 3}


class PatchEncoder(nn.Module):
  """Encodes each patch of an image by itself, [b, h, w, c] -> z [b, rows, columns, d].

  CPC v1 cuts 256 pixels into 7 x 7 patches of 64, 32 apart; CPC v2 260 pixels into 6 x 6 of 80, 36 apart; Greedy
  InfoMax 64 pixels into 7 x 7 of 16, 8 apart.

  Attributes:
    network: images [n, size, size, c] and `train` -> [n, d]: a `ResNet` with `norm='layer'`, CPC v2's choice since
      batch norm lets patches see each other, or None. CPC v1's, but for its pre-activations, is
      `ResNet((3, 4, 23), widths=(64, 128, 256), norm=None)`, d = 1024.
    size: side of a patch, in pixels.
    stride: distance from one patch to the next, in pixels.
  """

  network: nn.Module
  size: int = 64
  stride: int = 32

  def __call__(self, x: jax.Array, train: bool = False) -> jax.Array:
    """Takes images, or their patches [b, rows, columns, size, size, c] (`ops.patchify`), where those are augmented.

    Raises:
      ValueError: for images that patches do not fit exactly, and for other shapes.
    """
    patches = x if x.ndim == 6 else ops.patchify(x, self.size, self.stride)
    grid, patch = patches.shape[:3], patches.shape[3:]
    if patch[:2] != (self.size, self.size):
      raise ValueError(f'x must be patches [b, rows, columns, {self.size}, {self.size}, c], got shape {x.shape}')
    return self.network(patches.reshape(-1, *patch), train=train).reshape(*grid, -1)


class MaskedConvContext(nn.Module):
  """CPC v2's PixelCNN (its appendix), z [b, rows, columns, d] -> c [b, rows, columns, d], float32.

  Residual blocks of 1x1, ReLU, 1x3, 2x1 (on this row and the row above), ReLU and 1x1 convolutions; a ReLU at the end.
  c at row r and column q sees rows r - blocks to r and columns q - blocks to q + blocks, and nothing below row r.

  Attributes:
    features: channels inside the blocks.
    blocks: how many.
    dtype: of the computation; parameters, the residual stream and c are float32.
  """

  features: int = 256
  blocks: int = 5
  dtype: Any = jnp.float32

  @nn.compact
  def __call__(self, z: jax.Array, train: bool = False) -> jax.Array:
    _check_grid(z)
    z = z.astype(jnp.float32)
    for i in range(self.blocks):
      z = z + self._block(z, f'block{i + 1}')
    return nn.relu(z)

  def _block(self, z: jax.Array, name: str) -> jax.Array:
    conv = lambda features, size, padding, index: nn.Conv(
        features, size, padding=padding, dtype=self.dtype, name=f'{name}_conv{index}')
    c = nn.relu(conv(self.features, (1, 1), 'VALID', 1)(z))
    c = conv(self.features, (1, 3), ((0, 0), (1, 1)), 2)(c)
    c = nn.relu(conv(self.features, (2, 1), ((1, 0), (0, 0)), 3)(c))
    return conv(z.shape[-1], (1, 1), 'VALID', 4)(c)


class RowGRUContext(nn.Module):
  """A GRU down the rows, z [b, rows, columns, d] -> c [b, rows, columns, features], float32.

  CPC v1 found a row-GRU similar to its PixelCNN. Here one GRU runs down each column, all with the same weights; before
  it, a convolution within the row mixes columns, so that c at row r and column q sees rows 0 to r, of each the columns
  q - mix // 2 to q + mix // 2, and nothing below row r.

  Attributes:
    features: size of the state.
    mix: width of the convolution, odd; 1: columns do not mix.
    dtype: of the computation; parameters and the state are float32.
  """

  features: int = 256
  mix: int = 3
  dtype: Any = jnp.float32

  @nn.compact
  def __call__(self, z: jax.Array, train: bool = False) -> jax.Array:
    _check_grid(z)
    if self.mix < 1 or self.mix % 2 == 0:
      raise ValueError(f'mix must be odd and positive, got {self.mix}')
    side = self.mix // 2
    x = nn.Conv(self.features, (1, self.mix), padding=((0, 0), (side, side)), dtype=self.dtype, name='mix')(z)
    c = RNNContext('gru', self.features, dtype=self.dtype, name='rows')(columns(nn.relu(x)))
    return jnp.swapaxes(c.reshape(z.shape[0], z.shape[2], z.shape[1], -1), 1, 2)


class GridPredictor(nn.Module):
  """Context and predictions over a grid z [b, rows, columns, d], in one or several directions, each with own weights.

  For 'down', row i predicts the rows i + k + skip of its column, k = 1 .. K; `skip` is for the rows that overlap. The
  other directions do the same to a grid turned by quarters. CPC v1 predicts down, CPC v2 in all four directions.

  Attributes:
    context: grid and `train` -> c, seeing no row below its own: `MaskedConvContext` or `RowGRUContext`.
    predictor: sequences [B, t, d'] and `train` -> predictions [B, t, K, d]: `LinearPredictor(K, d)`, W_k as 1x1
      convolutions without bias.
    directions: of 'down', 'left', 'up', 'right'.
    skip: rows between context and first prediction; 1 in Greedy InfoMax, with patches that overlap by a half.
    target_features: size of a linear map of the targets, d of the predictor; CPC v2's is 64. None: z are the targets.
  """

  context: nn.Module
  predictor: nn.Module
  directions: tuple[str, ...] = ('down',)
  skip: int = 1
  target_features: int | None = None

  def setup(self):
    wrong = set(self.directions) - set(DIRECTIONS)
    if wrong or not self.directions or len(set(self.directions)) < len(self.directions):
      raise ValueError(f'directions must be some of {tuple(DIRECTIONS)}, each once, got {self.directions}')
    if not isinstance(self.skip, int) or self.skip < 0:
      raise ValueError(f'skip must be an integer of at least 0, got {self.skip!r}')
    if self.target_features is not None and self.target_features < 1:
      raise ValueError(f'target_features must be at least 1, or None, got {self.target_features}')
    self.contexts = {direction: self.context.clone() for direction in self.directions}
    self.predictors = {direction: self.predictor.clone() for direction in self.directions}
    if self.target_features is not None:
      self.targets = {direction: nn.Dense(self.target_features) for direction in self.directions}

  def __call__(self, z: jax.Array, train: bool = False) -> Pairs:
    """Returns, for each direction, predictions [b columns, t, K, d] and targets [b columns, t, d], t = rows - skip.

    Row b and column q of the turned grid is sequence b columns + q. predictions[:, i, k - 1] is for targets[:, i + k],
    as in audio: the targets have lost their first `skip` rows, which nothing predicts, the predictions their last. The
    first target, row `skip`, is a negative alone.

    Raises:
      ValueError: if no row is left to predict.
    """
    _check_grid(z)
    outputs = {}
    for direction in self.directions:
      turned = turn(z, direction)
      length = turned.shape[1] - self.skip
      if length < 2:
        raise ValueError(f'skip must leave two rows in direction {direction!r} of z {z.shape}, got {self.skip}')
      predictions = self.predictors[direction](columns(self.contexts[direction](turned, train=train)), train=train)
      targets = columns(turned)
      if self.target_features is not None:
        targets = self.targets[direction](targets)
      outputs[direction] = predictions[:, :length], targets[:, self.skip:]
    return outputs

  def represent(self, z: jax.Array, train: bool = False) -> jax.Array:
    """Returns the contexts of all directions side by side at each place of z, [b, rows, columns, n d']."""
    contexts = [
        turn_back(self.contexts[direction](turn(z, direction), train=train), direction)
        for direction in self.directions]
    return jnp.concatenate(contexts, axis=-1)


class CPCImageNetwork(nn.Module):
  """Encoder and predictions: images or their patches -> (z [b, rows, columns, d], pairs)."""

  encoder: PatchEncoder
  predictor: GridPredictor

  def __call__(self, x: jax.Array, train: bool = False) -> tuple[jax.Array, Pairs]:
    z = self.encoder(x, train=train)
    return z, self.predictor(z, train=train)


class CPCImageRepresentation(nn.Module):
  """z, or with a predictor its contexts c, of images [b, h, w, c], averaged over the patches: [b, d]."""

  encoder: PatchEncoder
  predictor: GridPredictor | None = None

  def __call__(self, x: jax.Array, train: bool = False) -> jax.Array:
    grid = self.encoder(x, train=train)
    if self.predictor is not None:
      grid = self.predictor.represent(grid, train=train)
    return grid.mean(axis=(1, 2))


def turn(grid: jax.Array, direction: str) -> jax.Array:
  """Turns [b, rows, columns, ...] so that `direction` becomes 'down': 'right' makes of column q the row q."""
  return jnp.rot90(grid, DIRECTIONS[direction], axes=(1, 2))


def turn_back(grid: jax.Array, direction: str) -> jax.Array:
  """Undoes `turn`."""
  return jnp.rot90(grid, -DIRECTIONS[direction], axes=(1, 2))


def columns(grid: jax.Array) -> jax.Array:
  """Makes a sequence down the rows of every column, [b, rows, columns, ...] -> [b columns, rows, ...]."""
  swapped = jnp.swapaxes(grid, 1, 2)
  return swapped.reshape(-1, *swapped.shape[2:])


def _check_grid(z: jax.Array) -> None:
  if z.ndim != 4:
    raise ValueError(f'z must be a grid [b, rows, columns, d], got shape {z.shape}')
