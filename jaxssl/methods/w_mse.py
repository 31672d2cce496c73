"""W-MSE: views agree after each batch of embeddings is whitened, which leaves no way to collapse.

Ermolov, Siarohin, Sangineto, Sebe, "Whitening for Self-Supervised Representation Learning", ICML 2021,
https://arxiv.org/abs/2007.06346.
"""

import dataclasses
import itertools

import jax
import jax.numpy as jnp
import optax
from flax import linen as nn

from jaxssl import core, losses
from jaxssl.methods import _checks, _projected
from jaxssl.models.forward import forward_views
from jaxssl.models.heads import MLP, Projected


@dataclasses.dataclass(frozen=True)
class WMSE:
  """Needs two or more views, 4 in the paper's better variant: the mean over all their pairs."""

  encoder: nn.Module  # images [b, h, w, c] -> h [b, d]
  head: MLP  # h [b, d] -> z [b, p]; MLP((1024, 64), output_bn=False, output_bias=True) (section 4).
  optimizer: optax.GradientTransformation  # Adam, 3e-3, weight decay 1e-6 (CIFAR-10), batch 512, 1000 epochs.
  whitening_size: int = 128  # Examples that are whitened together, drawn anew in each step; more than p.
  whitening_draws: int = 1  # How often they are drawn in a step; the loss is the mean. 4 for Tiny ImageNet and others.
  shrinkage: float = 1e-4  # Of their covariance towards the identity, ours; 0 in the paper's code.

  def __post_init__(self):
    _checks.positive(whitening_size=self.whitening_size, whitening_draws=self.whitening_draws)
    _checks.below_one(shrinkage=self.shrinkage)

  @property
  def network(self) -> Projected:
    return Projected(self.encoder, self.head)

  def init(self, key: jax.Array, batch: core.Batch) -> core.State:
    _checks.views(batch)
    b = len(batch['views'][0])
    if b % self.whitening_size:
      raise ValueError(f'whitening_size must divide the batch, {b}, got {self.whitening_size}')
    if self.whitening_size <= self.head.features[-1]:
      raise ValueError(f'whitening_size must be more than the dimensions of z, {self.head.features[-1]}, got '
                       f'{self.whitening_size}')
    return core.init_state(self.network, self.optimizer, key, batch['views'][0])

  def loss(self, params, stats, views, key):
    """Returns the mean distance of the pairs of whitened views, and (updated stats, metrics)."""
    outputs, stats = forward_views(self.network, params, stats, views)
    each, b = [], len(views[0])
    for draw in jax.random.split(key, self.whitening_draws):
      order = jax.random.permutation(draw, b)
      z = [z[order] for _, z in outputs]
      each += [losses.in_groups(self._distance, *pair, groups=b // self.whitening_size)
               for pair in itertools.combinations(z, 2)]
    return sum(each) / len(each), (stats, {})

  def _distance(self, z1, z2):
    return losses.whitened_mse(z1, z2, epsilon=self.shrinkage)

  def step(self, state: core.State, batch: core.Batch, key: jax.Array) -> tuple[core.State, core.Metrics]:
    return core.descend(lambda params: self.loss(params, state.stats, batch['views'], key), self.optimizer, state)

  representations = property(_projected.representations)  # h, the layers of the head, z.
  represent, backbone = _projected.represent, _projected.backbone

  def embed(self, state: core.State, batch: core.Batch) -> tuple[jax.Array, ...]:
    """Returns z [b, p] of the first two views, less their mean as the loss sees them, for the embedding's health."""
    return tuple(z - jnp.mean(z, axis=0, keepdims=True) for z in _projected.embed(self, state, batch))
