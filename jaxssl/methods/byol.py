"""BYOL: the network predicts, of one view, what its own moving average makes of the other.

Grill et al., "Bootstrap your own latent: A new approach to self-supervised learning", NeurIPS 2020,
https://arxiv.org/abs/2006.07733.
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


@dataclasses.dataclass(frozen=True)
class BYOL:
  """Needs two or more views; with more (multi-crop), targets are of the first two, and all others predict both.

  Each view has a forward pass, and batch statistics, of its own, in the network that is trained and in its average.
  """

  encoder: nn.Module  # images [b, h, w, c] -> h [b, d]
  head: MLP  # h [b, d] -> z [b, p]; MLP((4096, 256), output_bn=False, output_bias=True) (section 3.3).
  predictor: MLP  # z [b, p] -> [b, p]; the same.
  optimizer: optax.GradientTransformation  # LARS, 0.2 x batch / 256, weight decay 1.5e-6, batch 4096, 1000 epochs.
  momentum: Scheduled = 0.996  # The paper raises it to 1 along a cosine: {'name': 'cosine', …} in a config.

  def __post_init__(self):
    _checks.momentum(self.momentum)

  @property
  def network(self) -> Predicted:
    return Predicted(self.encoder, self.head, self.predictor)

  def init(self, key: jax.Array, batch: core.Batch) -> core.State:
    _checks.views(batch)
    state = core.init_state(self.network, self.optimizer, key, batch['views'][0])
    return _target.begin(state, ('encoder', 'head'))

  def loss(self, params, stats, views, step=0):
    """Returns the squared distance of scaled predictions and targets, both ways, and (updated stats, metrics)."""
    stats, target = _target.take(stats, 'target')
    average, average_stats = _target.follow(target, params, self.momentum, step)
    predictions, targets = [], []
    for view in views:
      (_, _, prediction), stats = forward(self.network, params, stats, view)
      predictions.append(prediction)
    for view in views[:2]:
      (_, z), average_stats = forward(Projected(self.encoder, self.head), average, average_stats, view)
      targets.append(jax.lax.stop_gradient(z))
    each = [2 + 2 * losses.negative_cosine(prediction, z)  # Equation 2.
            for i, prediction in enumerate(predictions) for j, z in enumerate(targets) if i != j]
    loss = 2 * sum(each) / len(each)  # The sum of both ways, where there are two.
    return loss, ({**stats, 'target': {'params': average, **average_stats}}, {})

  def step(self, state: core.State, batch: core.Batch, key: jax.Array) -> tuple[core.State, core.Metrics]:
    del key  # All randomness is in the views.
    return core.descend(
        lambda params: self.loss(params, state.stats, batch['views'], state.step), self.optimizer, state)

  representations = property(_projected.representations)  # h, the layers of the head, z.
  represent, backbone, embed = _projected.represent, _projected.backbone, _projected.embed
  health = _target.health
