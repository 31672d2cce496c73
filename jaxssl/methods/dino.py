"""DINO: a student of all crops predicts the sharpened, centred output of its moving average, which sees large ones.

Caron, Touvron, Misra, Jégou, Mairal, Bojanowski, Joulin, "Emerging Properties in Self-Supervised Vision Transformers",
ICCV 2021, https://arxiv.org/abs/2104.14294, Algorithm 1.
"""

import dataclasses

import jax
import jax.numpy as jnp
import optax
from flax import linen as nn

from jaxssl import core, losses
from jaxssl.methods import _checks, _projected, _prototypes, _scheduled, _target
from jaxssl.methods._scheduled import Scheduled
from jaxssl.models.forward import forward_views
from jaxssl.models.heads import MLP, Assigned, Prototypes


@dataclasses.dataclass(frozen=True)
class DINO:
  """Needs two or more views (multi-crop: two large ones, then small ones): targets are of the first two.

  Views of one size share batch statistics, where there are any.
  """

  encoder: nn.Module  # images [b, h, w, c] -> h [b, d]; drops paths at rate 0.1.
  # h [b, d] -> z [b, p]; MLP((2048, 2048, 256), hidden_bn=False, output_bn=False, output_bias=True, activation='gelu').
  head: MLP
  prototypes: Prototypes  # z [b, p] -> scores [b, k]; Prototypes(65_536, weight_norm=True).
  optimizer: optax.GradientTransformation  # AdamW, 5e-4 x batch / 256, weight decay 0.04 to 0.4, batch 1024.
  temperature: float = 0.1  # Of the student.
  target_temperature: Scheduled = 0.04  # Raised to 0.07 in the first 30 epochs in longer runs.
  momentum: Scheduled = 0.996  # The paper raises it to 1 along a cosine.
  center_momentum: float = 0.9
  freeze_steps: int = 1251  # In which the prototypes stay as they are: an epoch of ImageNet at batch 1024.
  koleo_weight: float = 0.0  # Of keeping h of different examples apart; DINOv2 (arXiv:2304.07193): 0.1.

  def __post_init__(self):
    _checks.positive(temperature=self.temperature, target_temperature=self.target_temperature)
    _checks.momentum(self.momentum)
    _checks.below_one(center_momentum=self.center_momentum)
    _checks.not_negative(freeze_steps=self.freeze_steps, koleo_weight=self.koleo_weight)
    if not self.prototypes.weight_norm:
      raise ValueError('weight_norm of the prototypes must be True: nothing else keeps them of one length in DINO')

  @property
  def network(self) -> Assigned:
    return Assigned(self.encoder, self.head, self.prototypes)

  @property
  def target_network(self) -> Assigned:
    """The same without stochastic depth, which the targets of the authors' code do not have."""
    drops = getattr(self.encoder, 'drop_path', 0.0)
    return Assigned(self.encoder.clone(drop_path=0.0) if drops else self.encoder, self.head, self.prototypes)

  def init(self, key: jax.Array, batch: core.Batch) -> core.State:
    _checks.views(batch)
    state = core.init_state(self.network, self.optimizer, key, batch['views'][0])
    state = _target.begin(state, ('encoder', 'head', 'prototypes'))
    return state._replace(stats={**state.stats, 'center': jnp.zeros((self.prototypes.count,))})

  def loss(self, params, stats, views, key, step=0):
    """Returns the mean cross-entropy of student and target over pairs of views, and (updated stats, metrics)."""
    stats, target, center = _target.take(stats, 'target', 'center')
    average, average_stats = _target.follow(target, params, self.momentum, step)
    outputs, stats = forward_views(self.network, params, stats, views, key=key)
    seen, average_stats = forward_views(self.target_network, average, average_stats, views[:2])
    targets = [jax.lax.stop_gradient(scores) for _, _, scores in seen]
    sharpness = _scheduled.at(self.target_temperature, step)
    each, sharp = [], [jax.nn.softmax((scores - center[None]) / sharpness, axis=1) for scores in targets]
    for i, (_, _, scores) in enumerate(outputs):
      each += [losses.soft_cross_entropy(scores, q, temperature=self.temperature)
               for j, q in enumerate(sharp) if i != j]
    loss = sum(each) / len(each)
    if self.koleo_weight:
      loss += self.koleo_weight * sum(losses.koleo(h) for h, _, _ in outputs[:2])
    center = optax.incremental_update(
        jnp.mean(jnp.concatenate(targets), axis=0), center, 1 - self.center_momentum)  # Equation 4.
    stats = {**stats, 'target': {'params': average, **average_stats}, 'center': center}
    return loss, (stats, _prototypes.usage(jnp.concatenate(sharp)))

  def step(self, state: core.State, batch: core.Batch, key: jax.Array) -> tuple[core.State, core.Metrics]:
    return core.descend(
        lambda params: self.loss(params, state.stats, batch['views'], key, state.step), self.optimizer, state,
        lambda new, old: _prototypes.kept(new, old, state.step < self.freeze_steps))

  representations = property(_projected.representations)  # h, the layers of the head, z.
  represent, backbone, embed = _projected.represent, _projected.backbone, _projected.embed
  health = _target.health
