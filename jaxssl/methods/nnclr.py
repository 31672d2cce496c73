"""NNCLR: SimCLR in which a view's nearest neighbour among past examples stands in for it.

Dwibedi, Aytar, Tompson, Sermanet, Zisserman, "With a Little Help from My Friends: Nearest-Neighbor Contrastive Learning
of Visual Representations", ICCV 2021, https://arxiv.org/abs/2104.14548, equations 2 to 4.
"""

import dataclasses

import jax
import jax.numpy as jnp
import optax
from flax import linen as nn

from jaxssl import core, losses, ops
from jaxssl.methods import _checks, _projected, _queue, _target
from jaxssl.models.forward import forward
from jaxssl.models.heads import MLP, Predicted


@dataclasses.dataclass(frozen=True)
class NNCLR:
  """Needs two views, and contrasts them both ways. Each has a forward pass, and batch statistics, of its own."""

  encoder: nn.Module  # images [b, h, w, c] -> h [b, d]
  head: MLP  # h [b, d] -> z [b, p]; MLP((2048, 2048, 256), output_bias=True) (section 4.1).
  predictor: MLP  # z [b, p] -> [b, p]; MLP((4096, 256), output_bn=False, output_bias=True).
  optimizer: optax.GradientTransformation  # LARS, 0.3 x batch / 256, weight decay 1e-6, batch 4096, 1000 epochs.
  temperature: float = 0.1
  queue_size: int = 98_304  # Of the support set, filled with the first view's embeddings (section 4.1).

  def __post_init__(self):
    _checks.positive(temperature=self.temperature, queue_size=self.queue_size)

  @property
  def network(self) -> Predicted:
    return Predicted(self.encoder, self.head, self.predictor)

  def init(self, key: jax.Array, batch: core.Batch) -> core.State:
    _checks.views(batch, most=2)
    _queue.check_size('queue_size', self.queue_size, len(batch['views'][0]))
    network_key, queue_key = jax.random.split(key)
    state = core.init_state(self.network, self.optimizer, network_key, batch['views'][0])
    queue = _queue.random(queue_key, self.queue_size, self.head.features[-1])
    return state._replace(stats={**state.stats, 'queue': queue})

  def loss(self, params, stats, views, step=0):
    """Returns the loss of finding a view's prediction by the other's neighbour, and (updated stats, metrics)."""
    stats, queue = _target.take(stats, 'queue')
    z, predictions = [], []
    for view in views:
      (_, projection, prediction), stats = forward(self.network, params, stats, view)
      z.append(projection)
      predictions.append(prediction)
    pairs = [(nearest(queue, each), prediction) for each, prediction in zip(z, predictions[::-1], strict=True)]
    loss = sum(losses.info_nce(*pair, temperature=self.temperature) for pair in pairs) / 2
    metrics = {'retrieval_accuracy': losses.retrieval_accuracy(*pairs[0])}
    return loss, ({**stats, 'queue': _queue.enqueue(queue, z[0], step)}, metrics)

  def step(self, state: core.State, batch: core.Batch, key: jax.Array) -> tuple[core.State, core.Metrics]:
    del key  # All randomness is in the views.
    return core.descend(
        lambda params: self.loss(params, state.stats, batch['views'], state.step), self.optimizer, state)

  representations = property(_projected.representations)  # h, the layers of the head, z.
  represent, backbone, embed = _projected.represent, _projected.backbone, _projected.embed


def nearest(queue: jax.Array, z: jax.Array) -> jax.Array:
  """Returns the row of the queue [K, p] that is nearest to each of z [b, p], without a gradient."""
  scores = jnp.matmul(ops.l2_normalize(jax.lax.stop_gradient(z)), queue.T, precision=jax.lax.Precision.HIGHEST)
  return queue[jnp.argmax(scores, axis=1)]
