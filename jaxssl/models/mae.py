"""The networks of masked autoencoders: a ViT of the visible patches, and a light decoder of all.

He, Chen, Xie, Li, Dollár, Girshick, "Masked Autoencoders Are Scalable Vision Learners", CVPR 2022,
https://arxiv.org/abs/2111.06377, section 3 and appendix A.1.
"""

from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from jaxssl import ops
from jaxssl.models import _checks
from jaxssl.models.vit import TOKEN_INIT, Block, RowDense, ViT, sincos_positions


class MAEDecoder(nn.Module):
  """Tokens of the visible patches -> pixels of all, float32.

  Attributes:
    width: of the tokens; the paper's is 512 beside a ViT-B and larger ones alike (table 1b).
    depth: number of blocks; the paper's is 8, and 1 fine-tunes as well (table 1a).
    heads: attention heads, a divisor of `width`.
    mlp_ratio: width of the blocks' perceptrons, in `width`.
    epsilon: of the norms.
    dtype: of the computation; parameters, the residual stream and outputs are float32.
    remat: compute each block again in the backward pass, to hold the activations of only one.
  """

  width: int = 512
  depth: int = 8
  heads: int = 16
  mlp_ratio: float = 4.0
  epsilon: float = 1e-6
  dtype: Any = jnp.float32
  remat: bool = False

  @nn.compact
  def __call__(
      self, tokens: jax.Array, restore: jax.Array, grid: tuple[int, int], pixels: int, num_prefix: int) -> jax.Array:
    """Returns predictions [b, n, pixels] of the n patches of the grid.

    Args:
      tokens: [b, num_prefix + k, d], those of no patch, and those of the k visible patches.
      restore: int [b, n], the place of each patch in the order in which the visible ones come first.
      grid: rows and columns of patches.
      pixels: numbers of a patch.
      num_prefix: how many tokens belong to no patch, such as the class token.
    """
    _checks.transformer(self)
    dense = lambda features, name: RowDense(
        features, kernel_init=nn.initializers.xavier_uniform(), dtype=self.dtype, name=name)
    x = dense(self.width, 'embed')(tokens).astype(jnp.float32)
    prefix, visible = x[:, :num_prefix], x[:, num_prefix:]
    mask_token = self.param('mask_token', TOKEN_INIT, (self.width,))
    # Filled where there is nothing, so that no two patches read, and in the backward pass add to, the same token.
    placed = jnp.take_along_axis(visible, restore[..., None], axis=1, mode='fill', fill_value=0)
    x = jnp.where((restore < visible.shape[1])[..., None], placed, mask_token[None, None])
    x = jnp.concatenate([prefix, x + jnp.asarray(sincos_positions(grid, self.width))[None]], axis=1)
    block = nn.remat(Block) if self.remat else Block
    for i in range(self.depth):
      x = block(self.heads, self.mlp_ratio, epsilon=self.epsilon, dtype=self.dtype, name=f'block{i}')(x)
    x = nn.LayerNorm(self.epsilon, dtype=self.dtype, name='norm')(x[:, num_prefix:])
    return dense(pixels, 'pixels')(x).astype(jnp.float32)


class MAENetwork(nn.Module):
  """Images and which patches to see -> predictions of all patches."""

  encoder: ViT
  decoder: MAEDecoder

  def __call__(self, x: jax.Array, keep: jax.Array, restore: jax.Array, train: bool = False) -> jax.Array:
    """Returns predictions [b, n, pixels], as `ops.to_patches` cuts x [b, h, w, c].

    Args:
      x: images.
      keep: int [b, k], the visible patches.
      restore: int [b, n], the place of each patch in an order in which those of `keep` come first, in its order.
      train: whether the encoder drops paths.
    """
    tokens = self.encoder.tokens(x, keep, train)
    grid = ops.patch_grid(x, self.encoder.patch)
    return self.decoder(tokens, restore, grid, x[0].size // restore.shape[1], self.encoder.num_prefix)
