"""VICReg: two views' embeddings agree, every dimension varies over the batch, and no two vary together.

Bardes, Ponce, LeCun, "VICReg: Variance-Invariance-Covariance Regularization for Self-Supervised Learning", ICLR 2022,
https://arxiv.org/abs/2105.04906, Algorithm 1.
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
class VICReg:
  """Needs two or more views: the mean over their pairs. Each has a forward pass, and batch statistics, of its own."""

  encoder: nn.Module  # images [b, h, w, c] -> h [b, d]
  head: MLP  # h [b, d] -> z [b, p], the expander; MLP((8192, 8192, 8192), output_bn=False) (section 4.2).
  optimizer: optax.GradientTransformation  # LARS, 0.2 x batch / 256, weight decay 1e-6, batch 2048, 1000 epochs.
  invariance: float = 25.0  # lambda (section 4.2).
  variance: float = 25.0  # mu; of half the sum over both views, as in the code.
  covariance: float = 1.0  # nu.

  def __post_init__(self):
    _checks.not_negative(invariance=self.invariance, variance=self.variance, covariance=self.covariance)

  @property
  def network(self) -> Projected:
    return Projected(self.encoder, self.head)

  def init(self, key: jax.Array, batch: core.Batch) -> core.State:
    _checks.views(batch)
    return core.init_state(self.network, self.optimizer, key, batch['views'][0])

  def loss(self, params, stats, views):
    """Returns the weighted sum of the three terms, the mean over the pairs of views, and (updated stats, metrics)."""
    z = []
    for view in views:
      (_, projection), stats = forward(self.network, params, stats, view)
      z.append(projection)
    weights = {name: getattr(self, name) for name in ('invariance', 'variance', 'covariance')}
    pairs = list(itertools.combinations(z, 2))
    return sum(losses.vicreg(*pair, **weights) for pair in pairs) / len(pairs), (stats, {})

  def step(self, state: core.State, batch: core.Batch, key: jax.Array) -> tuple[core.State, core.Metrics]:
    del key  # All randomness is in the views.
    return core.descend(lambda params: self.loss(params, state.stats, batch['views']), self.optimizer, state)

  representations = property(_projected.representations)  # h, the layers of the head, z.
  represent, backbone, embed = _projected.represent, _projected.backbone, _projected.embed

  def health(self, state: core.State, batch: core.Batch) -> core.Metrics:
    """Returns the mean standard deviation of the first view's dimensions, and the three terms without their weights."""
    z1, z2 = self.embed(state, batch)
    return {
        'deviation': jnp.mean(jnp.std(z1, axis=0)),
        'invariance_term': jnp.mean(jnp.square(z1 - z2)),
        'variance_term': (losses.variance_hinge(z1) + losses.variance_hinge(z2)) / 2,
        'covariance_term': losses.covariance_penalty(z1) + losses.covariance_penalty(z2),
    }
