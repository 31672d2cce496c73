"""The networks of I-JEPA: a ViT of the context's patches, and a narrow one that predicts the tokens of target blocks.

Assran, Duval, Misra, Bojanowski, Vincent, Rabbat, LeCun, Ballas, "Self-Supervised Learning from Images with a
Joint-Embedding Predictive Architecture", CVPR 2023, https://arxiv.org/abs/2301.08243, section 3 and appendix A.1.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import linen as nn

from jaxssl import ops
from jaxssl.models import _checks
from jaxssl.models.vit import TOKEN_INIT, Block, RowDense, ViT, sincos_positions


class Blocks(NamedTuple):
  """Which patches are seen and which are predicted, numbered row by row; rows of one length, whose ends may be idle."""

  context: jax.Array  # int [b, k]: the patches that the encoder is given.
  seen: jax.Array  # bool [b, k]: which of them count; at least one of each image.
  targets: jax.Array  # int [b, m, t]: the patches of each of the m target blocks.
  real: jax.Array  # bool [b, m, t]: which of them count.


class JEPAPredictor(nn.Module):
  """Tokens of the context, and where the targets lie -> the targets' tokens, float32, each block by itself.

  Attributes:
    width: of the tokens; the paper's is 384 beside every encoder.
    depth: number of blocks; the paper's is 6 beside a ViT-B, 12 beside larger ones.
    heads: attention heads, a divisor of `width`; the authors' are as many as the encoder's.
    mlp_ratio: width of the blocks' perceptrons, in `width`.
    epsilon: of the norms.
    dtype: of the computation; parameters, the residual stream and outputs are float32.
    remat: compute each block again in the backward pass, to hold the activations of only one.
  """

  width: int = 384
  depth: int = 12
  heads: int = 12
  mlp_ratio: float = 4.0
  epsilon: float = 1e-6
  dtype: Any = jnp.float32
  remat: bool = False

  @nn.compact
  def __call__(self, tokens: jax.Array, blocks: Blocks, grid: tuple[int, int]) -> jax.Array:
    """Returns predictions [b, m, t, d]; those that do not count are arbitrary.

    Args:
      tokens: [b, p + k, d], p of no patch, such as the class token, and those of `blocks.context`.
      blocks: what is seen and what is to be predicted.
      grid: rows and columns of patches.
    """
    _checks.transformer(self)
    dense = lambda features, name: RowDense(
        features, kernel_init=nn.initializers.xavier_uniform(), dtype=self.dtype, name=name)
    positions = jnp.asarray(sincos_positions(grid, self.width))
    prefix = tokens.shape[1] - blocks.context.shape[1]
    context = dense(self.width, 'embed')(tokens).astype(jnp.float32)
    context = context + jnp.pad(positions[blocks.context], ((0, 0), (prefix, 0), (0, 0)))
    mask_token = self.param('mask_token', TOKEN_INIT, (self.width,))
    x = _beside_each(context, mask_token[None, None, None] + positions[blocks.targets])
    mask = _beside_each(jnp.pad(blocks.seen, ((0, 0), (prefix, 0)), constant_values=True), blocks.real)
    block = nn.remat(Block) if self.remat else Block
    for i in range(self.depth):
      x = block(self.heads, self.mlp_ratio, epsilon=self.epsilon, dtype=self.dtype, name=f'block{i}')(x, None, mask)
    x = nn.LayerNorm(self.epsilon, dtype=self.dtype, name='norm')(x[:, tokens.shape[1]:])
    return dense(tokens.shape[-1], 'out')(x).astype(jnp.float32).reshape(*blocks.targets.shape, -1)


class JEPANetwork(nn.Module):
  """Images and their blocks -> predictions of the targets' tokens."""

  encoder: ViT
  predictor: JEPAPredictor

  def __call__(self, x: jax.Array, blocks: Blocks, train: bool = False) -> jax.Array:
    """Returns predictions [b, m, t, d] of images x [b, h, w, c]; `train` is whether the encoder drops paths."""
    tokens = self.encoder.tokens(x, blocks.context, train, blocks.seen)
    return self.predictor(tokens, blocks, ops.patch_grid(x, self.encoder.patch))


def _beside_each(context: jax.Array, targets: jax.Array) -> jax.Array:
  """Puts what all blocks share, [b, s, ...], in front of each of them, [b, m, t, ...]: [b m, s + t, ...]."""
  b, m = targets.shape[:2]
  shared = jnp.broadcast_to(context[:, None], (b, m, *context.shape[1:]))
  both = jnp.concatenate([shared, targets], axis=2)
  return both.reshape(b * m, *both.shape[2:])
