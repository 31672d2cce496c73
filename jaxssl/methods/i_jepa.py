"""I-JEPA: from one large block of an image, predict what a moving average of the encoder makes of four others.

Assran, Duval, Misra, Bojanowski, Vincent, Rabbat, LeCun, Ballas, "Self-Supervised Learning from Images with a
Joint-Embedding Predictive Architecture", CVPR 2023, https://arxiv.org/abs/2301.08243.

What differs from the authors' code (facebookresearch/ijepa):
- Sizes are drawn for each block of each image; there, once for all blocks of a batch. Scale and aspect are drawn
  independently; there, from one number.
- Blocks also reach the last row and the last column of the grid, and a context may be the whole of it.
- Contexts have room for `context_share` of the patches, and what does not fit is left out at random. There, all of a
  process's batch are cut, row by row from the top, to the length of the shortest.
- Where the targets would leave no context, the last of them cost nothing; there, blocks are drawn again, and after 20
  tries contexts may overlap targets.
- Weights start as those of MAE. Class token and registers, if the encoder has them, are given to the predictor.
"""

import dataclasses
import math
from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import linen as nn

from jaxssl import core, losses, ops
from jaxssl.methods import _checks, _target
from jaxssl.methods._scheduled import Scheduled
from jaxssl.models.forward import forward
from jaxssl.models.i_jepa import Blocks, JEPANetwork, JEPAPredictor
from jaxssl.models.vit import ViT

Range = tuple[float, float]
SQUARE = (1.0, 1.0)  # The aspect of the context's block (section 3).


@dataclasses.dataclass(frozen=True)
class IJEPA:
  """Of the first view, whose side must be a multiple of the encoder's patch.

  Scales are shares of the image's area, and an aspect is height / width in those of the image. In each image the
  context has as many patches as its targets leave: on a grid of 14 x 14 their mean is 46 % of all, and 5 % of the
  images have more than 61 % (20,000 draws), hence `context_share`. A smaller one saves work, in the encoder and for
  each block in the predictor; the shortest of 128 contexts, to which the authors' code would cut all, has about 25 %.
  """

  encoder: ViT  # images [b, h, w, c] -> tokens [b, t, d]; the paper's has class_token=False and pool='mean'.
  predictor: JEPAPredictor  # tokens of the context -> those of the targets; 12 blocks beside ViT-L and larger ones.
  optimizer: optax.GradientTransformation  # AdamW, 1e-3, batch 2048, weight decay 0.04 to 0.4 (appendix A.1).
  momentum: Scheduled = 0.996  # The paper raises it to 1 in a straight line: {'name': 'linear', …} in a config.
  num_targets: int = 4  # Section 3, as the three that follow.
  target_scale: Range = (0.15, 0.2)
  target_aspect: Range = (0.75, 1.5)
  context_scale: Range = (0.85, 1.0)
  context_share: float = 0.6  # Of the patches: room for so many of the context.

  def __post_init__(self):
    _checks.kinds(encoder=(self.encoder, ViT), predictor=(self.predictor, JEPAPredictor))
    _checks.momentum(self.momentum)
    _checks.positive(num_targets=self.num_targets)
    for name, most in (('target_scale', 1.0), ('target_aspect', math.inf), ('context_scale', 1.0)):
      value = getattr(self, name)
      if len(value) != 2 or not 0 < value[0] <= value[1] <= most or value[1] == math.inf:
        limits = 'above 0' if most == math.inf else f'in (0, {most:g}]'
        raise ValueError(f'{name} must be two numbers {limits}, the smaller first, got {value}')
    if not 0 < self.context_share <= 1:
      raise ValueError(f'context_share must lie in (0, 1], got {self.context_share}')

  @property
  def representations(self) -> tuple[str, ...]:
    return ('mean', 'online', *(('class',) if self.encoder.class_token else ()))

  @property
  def network(self) -> JEPANetwork:
    return JEPANetwork(self.encoder, self.predictor)

  def init(self, key: jax.Array, batch: core.Batch) -> core.State:
    x = ops.single(batch['views'])
    block_key, network_key = jax.random.split(key)
    state = core.init_state(self.network, self.optimizer, network_key, x, self.draw_blocks(block_key, x))
    return _target.begin(state, ('encoder',))

  def draw_blocks(self, key: jax.Array, x: jax.Array) -> Blocks:
    """Draws the context and the targets of each image of x [b, h, w, c] alone, from `key` and its place in the batch.

    Raises:
      ValueError: if the grid of patches is so small that one target might leave no context.
    """
    grid = ops.patch_grid(x, self.encoder.patch)
    least = math.prod(max(1, math.floor(math.sqrt(self.context_scale[0]) * side + 0.5 - 1e-4)) for side in grid)
    most = largest_block(grid, self.target_scale, self.target_aspect)
    if most >= least:
      raise ValueError(
          f'target_scale and context_scale must leave some context: of {grid[0]} x {grid[1]} patches a target may take '
          f'{most}, and the context have {least}, with {self.target_scale} and {self.context_scale}')
    keys = jax.vmap(jax.random.fold_in, (None, 0))(key, jnp.arange(len(x)))
    return jax.vmap(lambda key: self._draw(key, grid, most))(keys)

  def _draw(self, key: jax.Array, grid: tuple[int, int], most: int) -> Blocks:
    """Draws the blocks of one image, without the axis of the batch."""
    numbers = 4 * (1 + self.num_targets)
    drawn = jax.random.uniform(key, (numbers + math.prod(grid),))  # At once: every draw takes long to compile.
    first, others = jnp.split(drawn[:numbers].reshape(-1, 4), [1])
    targets = jax.vmap(lambda u: place_block(u, grid, self.target_scale, self.target_aspect))(others)
    within = jax.vmap(lambda block: inside(block, grid))(targets)  # [m, n]
    context = inside(place_block(first[0], grid, self.context_scale, SQUARE), grid)
    taken = jnp.cumsum(within, axis=0) > 0  # By a block and those before it.
    leaves_some = jnp.any(context[None] & ~taken, axis=1)  # [m]: first true, then perhaps false.
    context &= ~jnp.any(within & leaves_some[:, None], axis=0)
    room = max(1, int(self.context_share * len(context) + 1e-6))
    order = jnp.argsort(jnp.where(context, drawn[numbers:], 2.0))[:room]
    patches, real = jax.vmap(lambda block: patches_of(block, grid, most))(targets)
    return Blocks(order, context[order], patches, real & leaves_some[:, None])

  def target(self, params: Any, x: jax.Array) -> jax.Array:
    """Returns what an encoder of these parameters makes of the patches of whole images, normalised: [b, n, d]."""
    tokens: Any = self.encoder.apply({'params': params}, x, method='tokens')
    return jax.nn.standardize(tokens[:, self.encoder.num_prefix:], axis=-1, epsilon=1e-5)

  def loss(self, params, stats, x, key, step=0):
    """Returns the smooth L1 distance of predictions and targets, a mean over the patches of all blocks, and the rest.

    The rest is (updated stats, metrics): `target_deviation` is the standard deviation of targets of the same place over
    the images of the batch; near 0 they tell the place alone, which is a collapse too.
    """
    stats, target = _target.take(stats, 'target')
    average, others = _target.follow(target, params, self.momentum, step)
    block_key, drop_key = jax.random.split(key)
    blocks = self.draw_blocks(block_key, x)
    tokens = jax.lax.stop_gradient(self.target(average['encoder'], x))
    prediction, stats = forward(self.network, params, stats, x, blocks, rngs={'dropout': drop_key})
    expected = jax.vmap(lambda tokens, patches: tokens[patches])(tokens, blocks.targets)
    loss = losses.smooth_l1(prediction, expected, mask=blocks.real)
    metrics = {'target_deviation': jnp.sqrt(jnp.mean(jnp.var(tokens, axis=0)))}
    return loss, ({**stats, 'target': {'params': average, **others}}, metrics)

  def step(self, state: core.State, batch: core.Batch, key: jax.Array) -> tuple[core.State, core.Metrics]:
    x = ops.single(batch['views'])
    return core.descend(lambda params: self.loss(params, state.stats, x, key, state.step), self.optimizer, state)

  def represent(self, state: core.State, inputs: Any, name: str | None = None, mask=None) -> jax.Array:
    """Returns features [n, d] of whole images [n, h, w, c].

    'mean': the mean of the patches' tokens by the moving average, which is what the paper evaluates; 'online': the same
    by the encoder that is trained; 'class': the class token, if there is one, by the moving average.
    """
    encoder, variables = self.backbone(state, name)
    features: Any = encoder.apply(variables, ops.single(inputs))
    return features

  def backbone(self, state: core.State, name: str | None = None) -> tuple[nn.Module, Any]:
    """Returns the encoder alone, with its pool, and its variables: what fine-tuning trains."""
    name = core.choose(name, {each: each for each in self.representations})
    average, _ = _target.follow(state.stats['target'], state.params, self.momentum, state.step)
    params = state.params if name == 'online' else average
    return self.encoder.clone(pool='class' if name == 'class' else 'mean'), {'params': params['encoder']}

  def embed(self, state: core.State, batch: core.Batch) -> tuple[jax.Array, ...]:
    """Returns the mean of the first view's tokens [b, d], less that of the batch, for the health of the embedding."""
    h = self.represent(state, batch['views'], 'mean')
    return (h - jnp.mean(h, axis=0, keepdims=True),)

  health = _target.health


def place_block(u: jax.Array, grid: tuple[int, int], scale: Range, aspect: Range) -> jax.Array:
  """Returns a rectangle of patches: top, left, height and width, int [4]; `IJEPA` says what scale and aspect are.

  u: [4], uniform in [0, 1), of which come its scale, aspect, and place among all where it fits.
  """
  low, high = jnp.array([scale, aspect]).T
  area, ratio = low + u[:2] * (high - low)
  sides = jnp.array(grid)
  shape = jnp.sqrt(jnp.stack([area * ratio, area / ratio])) * sides
  size = jnp.clip(jnp.floor(shape + 0.5).astype(int), 1, sides)
  return jnp.concatenate([jnp.floor(u[2:] * (sides - size + 1)).astype(int), size])


def largest_block(grid: tuple[int, int], scale: Range, aspect: Range) -> int:
  """Returns the most patches that `place_block` may take.

  At every aspect those of the largest scale: of each height, the widest is where that height is just reached.
  """
  narrow, wide = math.sqrt(scale[1] * aspect[0]), math.sqrt(scale[1] * aspect[1])  # Heights, in the image's.
  most = 1
  for height in range(1, grid[0] + 1):
    reached = (height - 0.5) / grid[0] if height > 1 else 0.0
    if reached <= wide:
      width = math.floor(scale[1] / max(reached, narrow) * grid[1] + 0.5 + 1e-4)  # And a bit, for float32.
      most = max(most, height * min(max(width, 1), grid[1]))
  return most


def inside(block: jax.Array, grid: tuple[int, int]) -> jax.Array:
  """Returns which of the n patches of the grid are in a block: bool [n]."""
  top, left, height, width = block
  row, column = jnp.divmod(jnp.arange(math.prod(grid)), grid[1])
  return (row >= top) & (row < top + height) & (column >= left) & (column < left + width)


def patches_of(block: jax.Array, grid: tuple[int, int], most: int) -> tuple[jax.Array, jax.Array]:
  """Returns the numbers of a block's patches, row by row, int [most], and which of them are real, bool [most]."""
  top, left, height, width = block
  row, column = jnp.divmod(jnp.arange(most), width)
  real = row < height
  return jnp.where(real, (top + row) * grid[1] + left + column, 0), real
