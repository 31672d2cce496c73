"""LeJEPA: views agree, and embeddings are standard normal; no target network, no stop of gradients, no predictor.

Balestriero and LeCun, "LeJEPA: Provable and Scalable Self-Supervised Learning Without the Heuristics", 2025,
https://arxiv.org/abs/2511.08544, listing 2.
"""

import dataclasses

import jax
import jax.numpy as jnp
import optax
from flax import linen as nn

from jaxssl import core, losses
from jaxssl.methods import _checks, _projected
from jaxssl.models.forward import forward_views
from jaxssl.models.heads import MLP, Projected


@dataclasses.dataclass(frozen=True)
class LeJEPA:
  """Needs two or more views, the large ones first: all are near the mean of these. Each is regularised by itself.

  Views of one size share batch statistics, where there are any.
  """

  encoder: nn.Module  # images [b, h, w, c] -> h [b, d]
  head: MLP  # h [b, d] -> z [b, p]; MLP((2048, 2048, 16), output_bn=False, output_bias=True) in the authors' example.
  optimizer: optax.GradientTransformation  # AdamW, 5e-4, weight decay 0.05 (ViT) or 5e-4 (ResNet).
  weight: float = 0.02  # lambda, of SIGReg; 0.05 for large ViTs.
  directions: int = 1024  # Drawn anew in each step; 256 in the authors' example.
  global_views: int = 2  # The first so many are large; of SimCLR's views all are.

  def __post_init__(self):
    if not 0 < self.weight < 1:
      raise ValueError(f'weight must lie in (0, 1), got {self.weight}')
    _checks.positive(directions=self.directions, global_views=self.global_views)

  @property
  def network(self) -> Projected:
    return Projected(self.encoder, self.head)

  def init(self, key: jax.Array, batch: core.Batch) -> core.State:
    _checks.views(batch)
    if self.global_views > len(batch['views']):
      raise ValueError(f'global_views must be at most the {len(batch["views"])} views, got {self.global_views}')
    return core.init_state(self.network, self.optimizer, key, batch['views'][0])

  def loss(self, params, stats, views, key):
    """Returns (1 - weight) x mean squared distance to the mean + weight x SIGReg, and (updated stats, metrics)."""
    outputs, stats = forward_views(self.network, params, stats, views)
    z = [z for _, z in outputs]
    center = sum(z[: self.global_views]) / self.global_views
    invariance = sum(jnp.mean(jnp.square(each - center)) for each in z) / len(z)
    directions = losses.random_directions(key, self.directions, center.shape[1])
    normality = sum(losses.sigreg(each, directions) for each in z) / len(z)
    loss = (1 - self.weight) * invariance + self.weight * normality
    return loss, (stats, {'invariance': invariance, 'sigreg': normality})

  def step(self, state: core.State, batch: core.Batch, key: jax.Array) -> tuple[core.State, core.Metrics]:
    return core.descend(lambda params: self.loss(params, state.stats, batch['views'], key), self.optimizer, state)

  representations = property(_projected.representations)  # h, the layers of the head, z.
  represent, backbone, embed = _projected.represent, _projected.backbone, _projected.embed
