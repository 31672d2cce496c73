"""MoCo v3: predictions of one view find the other's key, by a moving average, among those of the batch.

Chen, Xie, He, "An Empirical Study of Training Self-Supervised Vision Transformers", ICCV 2021,
https://arxiv.org/abs/2104.02057, Algorithm 1.
"""

import dataclasses

import jax
import optax
from flax import linen as nn

from jaxssl import core, losses
from jaxssl.methods import _checks, _projected, _target
from jaxssl.methods._scheduled import Scheduled
from jaxssl.models.forward import forward
from jaxssl.models.heads import MLP, Predicted, Projected

PATCHES = 'patch_embed'  # What a ViT calls its linear map of patches.


@dataclasses.dataclass(frozen=True)
class MoCoV3:
  """Needs two views, and contrasts them both ways. Each has a forward pass, and batch statistics, of its own."""

  encoder: nn.Module  # images [b, h, w, c] -> h [b, d]
  # h [b, d] -> z [b, p]; ViT: MLP((4096, 4096, 256), output_scale=False), ResNet: MLP((4096, 256), output_scale=False).
  head: MLP
  # z [b, p] -> [b, p]; ViT: MLP((4096, 256), output_scale=False), ResNet: MLP((4096, 256), output_bn=False).
  predictor: MLP
  optimizer: optax.GradientTransformation  # ViT: AdamW, 1.5e-4 x batch / 256, weight decay 0.1; batch 4096.
  temperature: float = 0.2  # Of ViTs; the code's default, for ResNets, is 1.0.
  momentum: Scheduled = 0.99  # The paper raises it to 1 along a cosine.
  freeze_patches: bool = False  # A ViT's map of patches stays random, which makes training stable (section 4.2).

  def __post_init__(self):
    _checks.positive(temperature=self.temperature)
    _checks.momentum(self.momentum)

  @property
  def network(self) -> Predicted:
    return Predicted(self.encoder, self.head, self.predictor)

  def init(self, key: jax.Array, batch: core.Batch) -> core.State:
    _checks.views(batch, most=2)
    state = core.init_state(self.network, self.optimizer, key, batch['views'][0])
    if self.freeze_patches and PATCHES not in state.params['encoder']:
      raise ValueError('freeze_patches=True is for a ViT, and encoder has no map of patches')
    return _target.begin(state, ('encoder', 'head'))

  def loss(self, params, stats, views, step=0):
    """Returns the contrastive loss, both ways, and (updated stats, metrics)."""
    stats, target = _target.take(stats, 'target')
    average, average_stats = _target.follow(target, params, self.momentum, step)
    queries, keys = [], []
    for view in views:
      (_, _, query), stats = forward(self.network, params, stats, view)
      (_, key), average_stats = forward(Projected(self.encoder, self.head), average, average_stats, view)
      queries.append(query)
      keys.append(jax.lax.stop_gradient(key))
    pairs = list(zip(queries, keys[::-1], strict=True))
    loss = sum(2 * self.temperature * losses.info_nce(*pair, temperature=self.temperature) for pair in pairs)
    metrics = {'retrieval_accuracy': losses.retrieval_accuracy(*pairs[0])}
    return loss, ({**stats, 'target': {'params': average, **average_stats}}, metrics)

  def step(self, state: core.State, batch: core.Batch, key: jax.Array) -> tuple[core.State, core.Metrics]:
    del key  # All randomness is in the views.
    return core.descend(
        lambda params: self.loss(params, state.stats, batch['views'], state.step), self.optimizer, state, self._kept)

  def _kept(self, new, old):
    """Returns the new parameters, with the map of patches as it was where it is frozen."""
    if not self.freeze_patches:
      return new
    return {**new, 'encoder': {**new['encoder'], PATCHES: old['encoder'][PATCHES]}}

  representations = property(_projected.representations)  # h, the layers of the head, z.
  represent, backbone, embed = _projected.represent, _projected.backbone, _projected.embed
  health = _target.health
