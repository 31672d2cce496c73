"""MoCo: a view's key, by a slowly moving copy of the network, is told from the keys of past batches in a queue.

He, Fan, Wu, Xie, Girshick, "Momentum Contrast for Unsupervised Visual Representation Learning", CVPR 2020,
https://arxiv.org/abs/1911.05722, Algorithm 1; v2: Chen, Fan, Girshick, He 2020, https://arxiv.org/abs/2003.04297.
"""

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from flax import linen as nn

from jaxssl import core, losses, ops
from jaxssl.models.forward import forward
from jaxssl.models.heads import MLP, Projected, Truncated

OBJECTIVES = ('info_nce', 'ml_cpc')


class Momentum(NamedTuple):
  """What makes the keys, and those of past batches."""

  params: Any
  stats: Any  # Batch-norm averages of its own.
  queue: jax.Array  # [K, p], rows of length 1; at first random.


@dataclasses.dataclass(frozen=True)
class MoCo:
  """Of the first two views, one is the query and the other the key.

  Batch norm spans the whole batch, so that there is no need to shuffle it over devices, as the paper does; in a small
  batch its statistics may still tell which key is of the same batch.
  """

  encoder: nn.Module  # images [b, h, w, c] -> h [b, d]
  head: MLP  # h [b, d] -> z [b, p]; v2: MLP((2048, 128), hidden_bn=False, output_bn=False, output_bias=True).
  optimizer: optax.GradientTransformation  # SGD, 0.03, momentum 0.9, weight decay 1e-4, batch 256.
  temperature: float = 0.2  # v2; v1: 0.07.
  momentum: float = 0.999
  queue_size: int = 65_536
  objective: str = 'info_nce'
  # Of 'ml_cpc', multi-label CPC (arXiv:2007.09852); may be a schedule of the step. The loss is not divided by it.
  alpha: float | Callable[[jax.Array], jax.Array] = 1.0

  def __post_init__(self):
    if not self.temperature > 0:
      raise ValueError(f'temperature must be positive, got {self.temperature}')
    if not 0 <= self.momentum < 1:
      raise ValueError(f'momentum must lie in [0, 1), got {self.momentum}')
    if self.objective not in OBJECTIVES:
      raise ValueError(f'objective must be one of {", ".join(map(repr, OBJECTIVES))}, got {self.objective!r}')
    if self.objective == 'info_nce' and self.alpha != 1:
      found = 'a schedule' if callable(self.alpha) else self.alpha
      raise ValueError(f"alpha is of objective='ml_cpc' alone, got {found} with 'info_nce'")

  @property
  def network(self) -> Projected:
    return Projected(self.encoder, self.head)

  @property
  def representations(self) -> tuple[str, ...]:
    return ('h', *(f'head{i}' for i in range(1, len(self.head.features))), 'z')

  def init(self, key: jax.Array, batch: core.Batch) -> core.State:
    if len(batch['views']) < 2:
      raise ValueError(f'views must be two or more, a query and a key, got {len(batch["views"])}')
    if self.queue_size < len(batch['views'][0]):
      raise ValueError(f'queue_size must be at least the batch, {len(batch["views"][0])}, got {self.queue_size}')
    network_key, queue_key = jax.random.split(key)
    state = core.init_state(self.network, self.optimizer, network_key, batch['views'][0])
    queue = ops.l2_normalize(jax.random.normal(queue_key, (self.queue_size, self.head.features[-1])))
    momentum = jax.tree.map(jnp.copy, Momentum(state.params, state.stats, queue))  # Buffers may be donated.
    return state._replace(stats={**state.stats, 'momentum': momentum})

  def loss(self, params, stats, batch, step=0):
    """Returns the loss of finding each query's key beside the queue, and (updated stats, metrics)."""
    stats, momentum = {name: tree for name, tree in stats.items() if name != 'momentum'}, stats['momentum']
    target = optax.incremental_update(jax.lax.stop_gradient(params), momentum.params, 1 - self.momentum)
    (_, query), stats = forward(self.network, params, stats, batch['views'][0])
    (_, key), target_stats = forward(self.network, target, momentum.stats, batch['views'][1])
    key = jax.lax.stop_gradient(key)
    if self.objective == 'info_nce':
      loss = losses.info_nce(query, key, momentum.queue, temperature=self.temperature)
    else:
      alpha = self.alpha(step) if callable(self.alpha) else self.alpha
      loss = losses.multi_label_info_nce(query, key, momentum.queue, temperature=self.temperature, alpha=alpha)
    place = (step % self.queue_size * len(key) + jnp.arange(len(key))) % self.queue_size  # The oldest make room.
    queue = momentum.queue.at[place].set(ops.l2_normalize(key))
    stats = {**stats, 'momentum': Momentum(target, target_stats, queue)}
    return loss, (stats, {'contrastive_accuracy': losses.contrastive_accuracy(query, key)})

  def step(self, state: core.State, batch: core.Batch, key: jax.Array) -> tuple[core.State, core.Metrics]:
    del key  # All randomness is in the views.
    return core.descend(lambda params: self.loss(params, state.stats, batch, state.step), self.optimizer, state)

  def represent(self, state: core.State, inputs: jax.Array, name: str | None = None, mask=None) -> jax.Array:
    """Returns h [n, d], a layer of the head, or z, of images [n, h, w, c], by the network that is trained."""
    layers: Any = self.network.apply(self._variables(state), inputs, method='layers')
    return core.choose(name, dict(zip(self.representations, layers, strict=True)))

  def backbone(self, state: core.State, name: str | None = None) -> tuple[nn.Module, Any]:
    """Returns the network up to a representation as a module of images, and its variables: what fine-tuning trains."""
    encoder = Truncated(self.network, self.representations.index(name or 'h'))
    return encoder, {kind: {'network': tree} for kind, tree in self._variables(state).items()}

  def embed(self, state: core.State, batch: core.Batch) -> tuple[jax.Array, ...]:
    """Returns z [b, p] of the first two views, for the health of the embedding."""
    return tuple(self.represent(state, view, 'z') for view in batch['views'][:2])

  def _variables(self, state: core.State) -> dict[str, Any]:
    return {'params': state.params, **{name: tree for name, tree in state.stats.items() if name != 'momentum'}}
