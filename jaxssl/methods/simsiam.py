"""SimSiam: the network predicts, of one view, what it makes of the other, which is held fixed.

Chen and He, "Exploring Simple Siamese Representation Learning", CVPR 2021,
https://arxiv.org/abs/2011.10566, Algorithm 1.
"""

import dataclasses

import jax
import optax
from flax import linen as nn

from jaxssl import core, losses
from jaxssl.methods import _checks, _projected
from jaxssl.models.forward import forward
from jaxssl.models.heads import MLP, Predicted


@dataclasses.dataclass(frozen=True)
class SimSiam:
  """Needs two or more views; each predicts every other. Each has a forward pass, and batch statistics, of its own."""

  encoder: nn.Module  # images [b, h, w, c] -> h [b, d]
  head: MLP  # h [b, d] -> z [b, p]; MLP((2048, 2048, 2048), output_scale=False) (section 3).
  predictor: MLP  # z [b, p] -> [b, p]; MLP((512, 2048), output_bn=False, output_bias=True), a bottleneck.
  optimizer: optax.GradientTransformation  # SGD, 0.05 x batch / 256, weight decay 1e-4 on everything, batch 512.
  # Of the predictor; None: the same. The paper's: a constant learning rate, as it should keep up (section 4.2).
  predictor_optimizer: optax.GradientTransformation | None = None

  @property
  def network(self) -> Predicted:
    return Predicted(self.encoder, self.head, self.predictor)

  @property
  def both_optimizers(self) -> optax.GradientTransformation:
    """The optimizer of all parameters."""
    if self.predictor_optimizer is None:
      return self.optimizer
    which = lambda params: {name: 'predictor' if name == 'predictor' else 'rest' for name in params}
    return optax.partition({'predictor': self.predictor_optimizer, 'rest': self.optimizer}, which)

  def init(self, key: jax.Array, batch: core.Batch) -> core.State:
    _checks.views(batch)
    return core.init_state(self.network, self.both_optimizers, key, batch['views'][0])

  def loss(self, params, stats, views):
    """Returns the mean negative cosine of predictions and of what they predict, and (updated stats, metrics)."""
    predictions, z = [], []
    for view in views:
      (_, projection, prediction), stats = forward(self.network, params, stats, view)
      predictions.append(prediction)
      z.append(self.target(projection))
    each = [losses.negative_cosine(prediction, z[j])
            for i, prediction in enumerate(predictions) for j in range(len(z)) if i != j]
    return sum(each) / len(each), (stats, {})

  def target(self, z: jax.Array) -> jax.Array:
    """Returns what is predicted: z without its gradient, without which all embeddings become the same (section 4.1)."""
    return jax.lax.stop_gradient(z)

  def step(self, state: core.State, batch: core.Batch, key: jax.Array) -> tuple[core.State, core.Metrics]:
    del key  # All randomness is in the views.
    return core.descend(lambda params: self.loss(params, state.stats, batch['views']), self.both_optimizers, state)

  representations = property(_projected.representations)  # h, the layers of the head, z.
  represent, backbone, embed = _projected.represent, _projected.backbone, _projected.embed
