"""Barlow Twins: the dimensions of two views' embeddings agree one by one, and tell nothing twice.

Zbontar, Jing, Misra, LeCun, Deny, "Barlow Twins: Self-Supervised Learning via Redundancy Reduction", ICML 2021,
https://arxiv.org/abs/2103.03230, Algorithm 1.
"""

import dataclasses
import itertools

import jax
import jax.numpy as jnp
import optax
from flax import linen as nn

from jaxssl import core, losses
from jaxssl.methods import _checks, _projected
from jaxssl.models.forward import forward
from jaxssl.models.heads import MLP, Projected


@dataclasses.dataclass(frozen=True)
class BarlowTwins:
  """Needs two or more views: the mean over their pairs. Each has a forward pass, and batch statistics, of its own."""

  encoder: nn.Module  # images [b, h, w, c] -> h [b, d]
  head: MLP  # h [b, d] -> z [b, p]; MLP((8192, 8192, 8192), output_bn=False) (section 2.2).
  # LARS, 0.2 x batch / 256, biases and norms 0.0048 x batch / 256 (excluded_rate 0.024), weight decay 1.5e-6, batch
  # 2048; the code has 1e-6.
  optimizer: optax.GradientTransformation
  weight: float = 0.0051  # lambda, of the redundancy; 0.005 in section 2.2, this in the code.

  def __post_init__(self):
    _checks.positive(weight=self.weight)

  @property
  def network(self) -> Projected:
    return Projected(self.encoder, self.head)

  def init(self, key: jax.Array, batch: core.Batch) -> core.State:
    _checks.views(batch)
    return core.init_state(self.network, self.optimizer, key, batch['views'][0])

  def loss(self, params, stats, views):
    """Returns the loss of the cross-correlation, the mean over the pairs of views, and (updated stats, metrics)."""
    z = []
    for view in views:
      (_, projection), stats = forward(self.network, params, stats, view)
      z.append(projection)
    pairs = list(itertools.combinations(z, 2))
    return sum(losses.barlow_twins(*pair, weight=self.weight) for pair in pairs) / len(pairs), (stats, {})

  def step(self, state: core.State, batch: core.Batch, key: jax.Array) -> tuple[core.State, core.Metrics]:
    del key  # All randomness is in the views.
    return core.descend(lambda params: self.loss(params, state.stats, batch['views']), self.optimizer, state)

  representations = property(_projected.representations)  # h, the layers of the head, z.
  represent, backbone, embed = _projected.represent, _projected.backbone, _projected.embed

  def health(self, state: core.State, batch: core.Batch) -> core.Metrics:
    """Returns the mean correlation of a dimension with itself in the other view, and the root mean square of others."""
    correlation = losses.cross_correlation(*self.embed(state, batch))
    diagonal = jnp.diagonal(correlation)
    off = jnp.sum(jnp.square(correlation)) - jnp.sum(jnp.square(diagonal))
    count = max(len(diagonal) * (len(diagonal) - 1), 1)
    return {'correlation': jnp.mean(diagonal), 'correlation_off_diagonal': jnp.sqrt(jnp.maximum(off, 0.0) / count)}
