"""SwAV: of one view, the network predicts to which prototypes another is assigned, all prototypes being used alike.

Caron, Misra, Mairal, Goyal, Bojanowski, Joulin, "Unsupervised Learning of Visual Features by Contrasting Cluster
Assignments", NeurIPS 2020, https://arxiv.org/abs/2006.09882, Algorithm 1.
"""

import dataclasses

import jax
import jax.numpy as jnp
import optax
from flax import linen as nn

from jaxssl import core, losses
from jaxssl.methods import _checks, _projected, _prototypes, _queue
from jaxssl.models.forward import forward_views
from jaxssl.models.heads import MLP, Assigned, Prototypes


@dataclasses.dataclass(frozen=True)
class SwAV:
  """Needs two or more views (multi-crop: two large ones, then small ones): the first two are assigned to prototypes.

  Each of these assignments is predicted of every other view. Views of one size share batch statistics.
  """

  encoder: nn.Module  # images [b, h, w, c] -> h [b, d]
  head: MLP  # h [b, d] -> z [b, p]; MLP((2048, 128), output_bn=False, output_bias=True).
  prototypes: Prototypes  # z [b, p] -> scores [b, k]; Prototypes(3000).
  optimizer: optax.GradientTransformation  # LARS, 4.8 for batch 4096, weight decay 1e-6, cosine to 0.0048, 800 epochs.
  temperature: float = 0.1  # This, and what follows but for the queue, are the defaults of the authors' code.
  epsilon: float = 0.05  # Of the assignments: larger ones are softer.
  iterations: int = 3  # Of Sinkhorn and Knopp.
  freeze_steps: int = 313  # In which the prototypes stay as they are: an epoch of ImageNet at batch 4096.
  # Embeddings of past batches that the batch is assigned with, for each of the first two views; 0: none. The paper has
  # 3,840 for batch 256, and uses them from epoch 15 on.
  queue_size: int = 0
  queue_start: int = 0  # The step from which on the queue is filled; once full it is used.

  def __post_init__(self):
    _checks.positive(temperature=self.temperature, epsilon=self.epsilon, iterations=self.iterations)
    _checks.not_negative(
        freeze_steps=self.freeze_steps, queue_size=self.queue_size, queue_start=self.queue_start)
    if self.prototypes.weight_norm:
      raise ValueError('weight_norm of the prototypes must be False: SwAV scales them after each update')

  @property
  def network(self) -> Assigned:
    return Assigned(self.encoder, self.head, self.prototypes)

  def init(self, key: jax.Array, batch: core.Batch) -> core.State:
    _checks.views(batch)
    state = core.init_state(self.network, self.optimizer, key, batch['views'][0])
    if not self.queue_size:
      return state
    b = len(batch['views'][0])
    if self.queue_size % b:
      raise ValueError(f'queue_size must be a multiple of the batch, {b}, got {self.queue_size}')
    queues = jnp.zeros((2, self.queue_size, self.head.features[-1]))
    return state._replace(stats={**state.stats, 'queues': queues})

  def loss(self, params, stats, views, step=0):
    """Returns the cross-entropy of predicted and true assignments, and (updated stats, metrics)."""
    queues = stats.get('queues')
    stats = {name: tree for name, tree in stats.items() if name != 'queues'}
    outputs, stats = forward_views(self.network, params, stats, views)
    scores = [each for _, _, each in outputs]
    if queues is None:
      codes = [self._assign(each) for each in scores[:2]]
    else:
      codes = [self._assign_with(queue, each, params, step) for queue, each in zip(queues, scores, strict=False)]
      filled = [_queue.enqueue(queue, z, jnp.maximum(step - self.queue_start, 0))
                for queue, (_, z, _) in zip(queues, outputs, strict=False)]
      stats = {**stats, 'queues': jnp.where(step >= self.queue_start, jnp.stack(filled), queues)}
    each = [losses.soft_cross_entropy(scores[i], code, temperature=self.temperature)
            for j, code in enumerate(codes) for i in range(len(scores)) if i != j]
    return sum(each) / len(each), (stats, _prototypes.usage(jnp.concatenate(codes)))

  def _assign(self, scores):
    return losses.sinkhorn(scores, epsilon=self.epsilon, iterations=self.iterations)

  def _assign_with(self, queue, scores, params, step):
    """The assignments of scores [b, k], beside those of a queue once that is full."""
    remembered = queue @ params['prototypes']['kernel']
    beside = self._assign(jnp.concatenate([remembered, scores]))[len(queue):]
    full = step - self.queue_start >= self.queue_size // len(scores)
    return jnp.where(full, beside, self._assign(scores))

  def step(self, state: core.State, batch: core.Batch, key: jax.Array) -> tuple[core.State, core.Metrics]:
    del key  # All randomness is in the views.

    def kept(new, old):
      of_length_one = {'kernel': Prototypes.normalized(new['prototypes']['kernel'])}
      return _prototypes.kept({**new, 'prototypes': of_length_one}, old, state.step < self.freeze_steps)

    return core.descend(
        lambda params: self.loss(params, state.stats, batch['views'], state.step), self.optimizer, state, kept)

  representations = property(_projected.representations)  # h, the layers of the head, z.
  represent, backbone, embed = _projected.represent, _projected.backbone, _projected.embed
