"""MoCo: a view's key, by a slowly moving copy of the network, is told from the keys of past batches in a queue.

He, Fan, Wu, Xie, Girshick, "Momentum Contrast for Unsupervised Visual Representation Learning", CVPR 2020,
https://arxiv.org/abs/1911.05722, Algorithm 1; v2: Chen, Fan, Girshick, He 2020, https://arxiv.org/abs/2003.04297.
"""

import dataclasses
import functools

import jax
import optax
from flax import linen as nn

from jaxssl import core, losses
from jaxssl.methods import _checks, _projected, _queue, _scheduled, _target
from jaxssl.methods._scheduled import Scheduled
from jaxssl.models.forward import forward
from jaxssl.models.heads import MLP, Projected

OBJECTIVES = ('info_nce', 'ml_cpc', 'relational')


@dataclasses.dataclass(frozen=True)
class MoCo:
  """Needs two views: the first is the query, the second the key.

  Batch norm spans the whole batch, so that there is no need to shuffle it over devices, as the paper does; in a small
  batch its statistics may still tell which key is of the same batch.
  """

  encoder: nn.Module  # images [b, h, w, c] -> h [b, d]
  head: MLP  # h [b, d] -> z [b, p]; v2: MLP((2048, 128), hidden_bn=False, output_bn=False, output_bias=True).
  optimizer: optax.GradientTransformation  # SGD, 0.03, momentum 0.9, weight decay 1e-4, batch 256.
  temperature: float = 0.2  # v2; v1: 0.07.
  momentum: Scheduled = 0.999  # This and the size of the queue are the defaults of the authors' code.
  queue_size: int = 65_536
  objective: str = 'info_nce'  # Or 'ml_cpc'; 'relational': ReSSL (arXiv:2107.09282), whose second view is a weak one.
  # Of 'ml_cpc', multi-label CPC (arXiv:2007.09852); may be a schedule of the step. The loss is not divided by it.
  alpha: Scheduled = 1.0
  target_temperature: float = 0.04  # Of the keys' similarities in 'relational', beside temperature 0.1.

  def __post_init__(self):
    _checks.positive(
        temperature=self.temperature, target_temperature=self.target_temperature, queue_size=self.queue_size)
    _checks.momentum(self.momentum)
    _checks.choice('objective', self.objective, OBJECTIVES)
    _checks.alpha(self.alpha, self.objective)

  @property
  def network(self) -> Projected:
    return Projected(self.encoder, self.head)

  def init(self, key: jax.Array, batch: core.Batch) -> core.State:
    _checks.views(batch, most=2)
    _queue.check_size('queue_size', self.queue_size, len(batch['views'][0]))
    network_key, queue_key = jax.random.split(key)
    state = core.init_state(self.network, self.optimizer, network_key, batch['views'][0])
    state = _target.begin(state, ('encoder', 'head'))
    queue = _queue.random(queue_key, self.queue_size, self.head.features[-1])
    return state._replace(stats={**state.stats, 'queue': queue})

  def loss(self, params, stats, batch, step=0):
    """Returns the loss of finding each query's key beside the queue, and (updated stats, metrics)."""
    stats, target, queue = _target.take(stats, 'target', 'queue')
    average, average_stats = _target.follow(target, params, self.momentum, step)
    (_, query), stats = forward(self.network, params, stats, batch['views'][0])
    (_, key), average_stats = forward(self.network, average, average_stats, batch['views'][1])
    key = jax.lax.stop_gradient(key)
    loss = self._contrast(step)(query, key, queue, temperature=self.temperature)
    stats = {**stats, 'target': {'params': average, **average_stats}, 'queue': _queue.enqueue(queue, key, step)}
    return loss, (stats, {'retrieval_accuracy': _queue.accuracy(query, key, queue)})

  def _contrast(self, step):
    """The loss of queries and keys [b, p], and a queue."""
    if self.objective == 'ml_cpc':
      return functools.partial(losses.multi_label_info_nce, alpha=_scheduled.at(self.alpha, step))
    if self.objective == 'relational':
      return functools.partial(losses.relational, target_temperature=self.target_temperature)
    return losses.info_nce

  def step(self, state: core.State, batch: core.Batch, key: jax.Array) -> tuple[core.State, core.Metrics]:
    del key  # All randomness is in the views.
    return core.descend(lambda params: self.loss(params, state.stats, batch, state.step), self.optimizer, state)

  representations = property(_projected.representations)  # h, the layers of the head, z.
  represent, backbone, embed = _projected.represent, _projected.backbone, _projected.embed
  health = _target.health
