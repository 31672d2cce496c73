"""Vision transformers for images and spectrograms of any size.

ViT: Dosovitskiy et al. 2020, https://arxiv.org/abs/2010.11929; initialised and given fixed positions as in masked
autoencoders, He et al. 2021, https://arxiv.org/abs/2111.06377. Stochastic depth: Huang et al. 2016,
https://arxiv.org/abs/1603.09382. Layer scale: Touvron et al. 2021, https://arxiv.org/abs/2103.17239. Registers: Darcet
et al. 2023, https://arxiv.org/abs/2309.16588. Axial rotary positions: Heo et al. 2024,
https://arxiv.org/abs/2403.13298.
"""

import functools
import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from jaxssl import ops
from jaxssl.models import _checks

POOLS = ('class', 'mean')
POSITIONS = ('sincos', 'learned', 'rotary')
TOKEN_INIT = nn.initializers.normal(0.02)


class RowDense(nn.Dense):
  """nn.Dense of x [..., d] as one product of matrices: XLA's gradient of a kernel over two axes is slow on CPUs."""

  def __call__(self, x: jax.Array) -> jax.Array:
    rows: Any = super().__call__(x.reshape(-1, x.shape[-1]))
    return rows.reshape(*x.shape[:-1], self.features)


class Block(nn.Module):
  """A pre-norm transformer layer, x [b, t, d] -> [b, t, d], float32: self-attention, then a perceptron with GELU.

  Attributes:
    heads: attention heads, a divisor of d.
    mlp_ratio: width of the perceptron, in d.
    drop_path: probability that an example skips a branch, drawn for each of the two from the rng 'dropout'.
    layer_scale: initial scale of the branches' channels; None: they have none.
    qkv_bias: whether queries, keys and values have a bias.
    epsilon: of the norms.
    dtype: of the computation; parameters, norms' statistics and the residual stream are float32.
  """

  heads: int
  mlp_ratio: float = 4.0
  drop_path: float = 0.0
  layer_scale: float | None = None
  qkv_bias: bool = True
  epsilon: float = 1e-6
  dtype: Any = jnp.float32

  @nn.compact
  def __call__(self, x: jax.Array, angles: jax.Array | None = None, mask: jax.Array | None = None) -> jax.Array:
    """`angles` [b or 1, t, 1, d / heads / 2] turn queries and keys (`rotary_angles`); `mask`, bool [b, t]: who is seen.

    A token whose mask is false reaches no other; at least one of each example must be seen.
    """
    dense = functools.partial(RowDense, kernel_init=nn.initializers.xavier_uniform(), dtype=self.dtype)
    norm = functools.partial(nn.LayerNorm, self.epsilon, dtype=self.dtype)
    width = x.shape[-1]
    y = dense(3 * width, use_bias=self.qkv_bias, name='qkv')(norm(name='norm1')(x))
    query, key, value = jnp.moveaxis(y.reshape(*x.shape[:2], 3, self.heads, -1), 2, 0)
    if angles is not None:
      query, key = rotate(query, angles), rotate(key, angles)
    seen = None if mask is None else mask[:, None, None]
    y = jax.nn.dot_product_attention(query, key, value, mask=seen).reshape(x.shape)
    x = x + self._branch(dense(width, name='out')(y), 1)
    y = nn.gelu(dense(int(self.mlp_ratio * width), name='mlp1')(norm(name='norm2')(x)), approximate=False)
    return x + self._branch(dense(width, name='mlp2')(y), 2)

  def _branch(self, y: jax.Array, i: int) -> jax.Array:
    """What is added to the residual stream, float32."""
    y = y.astype(jnp.float32)
    if self.drop_path and not self.has_rng('dropout'):
      raise ValueError("drop_path must be 0: this training passes no rng 'dropout', as DINO, MAE and I-JEPA do")
    if self.layer_scale is not None:
      y = y * self.param(f'layer_scale{i}', nn.initializers.constant(self.layer_scale), y.shape[-1:])[None, None]
    return nn.Dropout(self.drop_path, broadcast_dims=(1, 2), name=f'drop_path{i}')(y, deterministic=False)


class ViT(nn.Module):
  """A vision transformer without its classifier: images [b, h, w, c] -> features [b, width], float32.

  Patches, which must divide the image, become tokens by one linear map. Fixed and rotary positions suit images of any
  size; learned ones only the size of `init`. In training with `drop_path` it needs the rng 'dropout':
  `vit.apply(variables, x, train=True, rngs={'dropout': key})`, or the argument `rngs` of `models.forward.forward`.

  Attributes:
    patch: side of a patch, in pixels, or (height, width), such as all frequencies by 4 frames of a spectrogram.
    width: d, of the tokens.
    depth: number of blocks.
    heads: attention heads, a divisor of `width`.
    mlp_ratio: width of the blocks' perceptrons, in `width`.
    pool: 'class', the class token after the last norm, or 'mean', the mean of the patches' tokens after it.
    class_token: whether there is one; pool='class' needs it.
    registers: tokens more that belong to no patch.
    positions: 'sincos', fixed and two-dimensional, as MAE has them; 'learned', one of the class token included;
      'rotary', which turn queries and keys by row and column in every block.
    drop_path: stochastic depth: the probability that the last block's branches are skipped; 0 for the first block's,
      linear in between.
    layer_scale: initial scale of the branches' channels, such as 1e-5; None: they have none.
    qkv_bias: whether queries, keys and values have a bias.
    epsilon: of the norms.
    dtype: of the computation, jnp.float32 or jnp.bfloat16; parameters, norms' statistics, the residual stream and the
      outputs are float32.
    remat: compute each block again in the backward pass, to hold the activations of only one.
  """

  patch: int | tuple[int, int]
  width: int
  depth: int
  heads: int
  mlp_ratio: float = 4.0
  pool: str = 'class'
  class_token: bool = True
  registers: int = 0
  positions: str = 'sincos'
  drop_path: float = 0.0
  layer_scale: float | None = None
  qkv_bias: bool = True
  epsilon: float = 1e-6
  dtype: Any = jnp.float32
  remat: bool = False

  def __call__(self, x: jax.Array, train: bool = False) -> jax.Array:
    if self.pool not in POOLS or (self.pool == 'class' and not self.class_token):
      choices = POOLS if self.class_token else ('mean',)
      raise ValueError(
          f'pool must be one of {", ".join(map(repr, choices))} with class_token={self.class_token}, got {self.pool!r}')
    tokens = self.tokens(x, train=train)
    return tokens[:, 0] if self.pool == 'class' else tokens[:, self.num_prefix:].mean(axis=1)

  @property
  def num_prefix(self) -> int:
    """How many tokens come before those of the patches."""
    return int(self.class_token) + self.registers

  @nn.compact
  def tokens(
      self, x: jax.Array, keep: jax.Array | None = None, train: bool = False, mask: jax.Array | None = None,
  ) -> jax.Array:
    """Returns all tokens after the last norm: class token, registers, patches row by row, [b, t, width], float32.

    Args:
      x: [b, h, w, c].
      keep: int [b, k], the numbers of the patches to encode, in the order of their tokens; each keeps its position.
        None: all.
      train: whether to drop paths.
      mask: bool [b, k], or [b, n] of all patches: which of them are seen. The others reach no other token, and are
        there so that each image has as many. None: all.
    """
    self._check()
    grid = ops.patch_grid(x, self.patch)
    patches = ops.to_patches(x, self.patch)
    if keep is not None:  # Of pixels, not of tokens: the rest is not even embedded.
      patches = jnp.take_along_axis(patches, keep[..., None], axis=1)
    tokens = RowDense(
        self.width, kernel_init=nn.initializers.xavier_uniform(), dtype=self.dtype, name='patch_embed')(patches)
    tokens = self._add_prefix(tokens.astype(jnp.float32), grid, keep)
    angles = self._angles(grid, keep) if self.positions == 'rotary' else None
    seen = None if mask is None else jnp.pad(mask, ((0, 0), (self.num_prefix, 0)), constant_values=True)
    block = nn.remat(Block) if self.remat else Block
    for i in range(self.depth):
      drop_path = self.drop_path * i / max(self.depth - 1, 1) if train else 0.0
      tokens = block(
          self.heads, self.mlp_ratio, drop_path, self.layer_scale, self.qkv_bias, self.epsilon, self.dtype,
          name=f'block{i}')(tokens, angles, seen)
    return nn.LayerNorm(self.epsilon, name='norm')(tokens)

  def _add_prefix(self, patches: jax.Array, grid: tuple[int, int], keep: jax.Array | None) -> jax.Array:
    """Adds positions to the patches' tokens, and puts the class token and registers in front."""
    class_position = jnp.zeros((1, self.width))
    if self.positions == 'learned':
      table = self._learned_positions(grid)
      class_position, table = table[:int(self.class_token)], table[int(self.class_token):]
    elif self.positions == 'sincos':
      table = jnp.asarray(sincos_positions(grid, self.width))
    if self.positions != 'rotary':
      patches = patches + (table[None] if keep is None else jnp.take(table, keep, axis=0))
    prefix = []
    if self.class_token:
      prefix.append(self.param('class_token', TOKEN_INIT, (self.width,))[None] + class_position)
    if self.registers:
      prefix.append(self.param('registers', TOKEN_INIT, (self.registers, self.width)))
    prefix = [jnp.broadcast_to(tokens[None], (patches.shape[0], *tokens.shape)) for tokens in prefix]
    return jnp.concatenate([*prefix, patches], axis=1)

  def _learned_positions(self, grid: tuple[int, int]) -> jax.Array:
    shape = (int(self.class_token) + math.prod(grid), self.width)
    if self.has_variable('params', 'positions'):
      found = jnp.shape(self.get_variable('params', 'positions'))
      if found != shape:
        raise ValueError(
            f'x must be of the size that the learned positions are for, {found[0] - int(self.class_token)} patches; '
            f"it has {grid[0]} x {grid[1]}. positions='sincos' and 'rotary' suit every size")
    return self.param('positions', TOKEN_INIT, shape)

  def _angles(self, grid: tuple[int, int], keep: jax.Array | None) -> jax.Array:
    """Rotary angles of all tokens, [b or 1, t, 1, width / heads / 2]; those before the patches are not turned."""
    table = jnp.asarray(rotary_angles(grid, self.width // self.heads))
    table = table[None] if keep is None else jnp.take(table, keep, axis=0)
    return jnp.pad(table, ((0, 0), (self.num_prefix, 0), (0, 0)))[:, :, None]

  def _check(self) -> None:
    name = self.name or type(self).__name__
    if min(self.width, self.depth, self.heads) < 1 or self.registers < 0:
      raise ValueError(
          f'{name}: width, depth and heads must be positive, and registers not negative, got {self.width}, '
          f'{self.depth}, {self.heads} and {self.registers}')
    _checks.choice(f'{name}: positions', self.positions, POSITIONS)
    if self.width % self.heads:
      raise ValueError(f'{name}: width must be a multiple of heads = {self.heads}, got {self.width}')
    if self.positions == 'rotary' and self.width // self.heads % 4:
      raise ValueError(
          f"{name}: width / heads must be a multiple of 4 for positions='rotary', got {self.width} / {self.heads}")
    if not 0 <= self.drop_path < 1:
      raise ValueError(f'{name}: drop_path must lie in [0, 1), got {self.drop_path}')


def sincos_positions(grid: tuple[int, int], width: int) -> np.ndarray:
  """Returns MAE's positions of a grid of patches, [rows x columns, width] float32.

  A half of the channels are sines, then cosines, of column / 10000^(4i / width); the other half the same of the row
  (facebookresearch/mae, `pos_embed.py`).

  Raises:
    ValueError: unless `width` is a multiple of 4.
  """
  if width % 4:
    raise ValueError(f"width must be a multiple of 4 for positions='sincos', got {width}")
  row, column = np.divmod(np.arange(math.prod(grid)), grid[1])
  frequency = 10_000 ** (-np.arange(0, width, 4) / width)
  angles = [place[:, None] * frequency[None] for place in (column, row)]
  return np.concatenate([f(angle) for angle in angles for f in (np.sin, np.cos)], axis=1).astype(np.float32)


def rotary_angles(grid: tuple[int, int], head_width: int) -> np.ndarray:
  """Returns the angles of a grid of patches, [rows x columns, head_width / 2] float32, for `rotate`.

  A half are row x 100^(-4i / head_width), the other half the same of the column: RoPE-Axial of Heo et al. 2024,
  https://arxiv.org/abs/2403.13298, section 3.2.
  """
  row, column = np.divmod(np.arange(math.prod(grid)), grid[1])
  frequency = 100.0 ** (-np.arange(0, head_width, 4) / head_width)
  return np.concatenate([place[:, None] * frequency[None] for place in (row, column)], axis=1).astype(np.float32)


def rotate(x: jax.Array, angles: jax.Array) -> jax.Array:
  """Turns channel i of x [b, t, heads, c] and channel i + c / 2 by angle i of [b or 1, t, 1, c / 2]."""
  first, second = jnp.split(x.astype(jnp.float32), 2, axis=-1)
  cos, sin = jnp.cos(angles), jnp.sin(angles)
  return jnp.concatenate([first * cos - second * sin, second * cos + first * sin], axis=-1).astype(x.dtype)


def vit_tiny(patch: int | tuple[int, int] = 16, **fields: Any) -> ViT:
  """ViT-Ti (Touvron et al. 2020, https://arxiv.org/abs/2012.12877, table 1), d = 192; `fields` are ViT's."""
  return ViT(patch, 192, 12, 3, **fields)


def vit_small(patch: int | tuple[int, int] = 16, **fields: Any) -> ViT:
  """ViT-S (Touvron et al. 2020, https://arxiv.org/abs/2012.12877, table 1), d = 384; `fields` are ViT's."""
  return ViT(patch, 384, 12, 6, **fields)


def vit_base(patch: int | tuple[int, int] = 16, **fields: Any) -> ViT:
  """ViT-B (Dosovitskiy et al. 2020, table 1), d = 768; `fields` are ViT's."""
  return ViT(patch, 768, 12, 12, **fields)


def vit_large(patch: int | tuple[int, int] = 16, **fields: Any) -> ViT:
  """ViT-L (Dosovitskiy et al. 2020, table 1), d = 1024; `fields` are ViT's."""
  return ViT(patch, 1024, 24, 16, **fields)


def vit_huge(patch: int | tuple[int, int] = 14, **fields: Any) -> ViT:
  """ViT-H (Dosovitskiy et al. 2020, table 1), d = 1280; `fields` are ViT's."""
  return ViT(patch, 1280, 32, 16, **fields)
