"""CPC: what comes next in a sequence is told from what comes elsewhere.

van den Oord, Li, Vinyals, "Representation Learning with Contrastive Predictive Coding", 2018,
https://arxiv.org/abs/1807.03748, sections 2 and 3.1.
"""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import linen as nn

from jaxssl import core, losses, ops
from jaxssl.losses.cpc import NEGATIVES, OBJECTIVES
from jaxssl.methods import _checks, _scheduled
from jaxssl.methods._scheduled import Scheduled
from jaxssl.models.cpc import CPCNetwork, CPCRepresentation, silenced
from jaxssl.models.forward import forward


@dataclasses.dataclass(frozen=True)
class CPC:
  """Of audio or other sequences. With two views or more, the context of the first predicts z of the last."""

  encoder: nn.Module  # [b, n, ...] -> z [b, t, d]; AudioEncoder(512) at 16 kHz.
  context: nn.Module  # z -> c [b, t, e], causal; RNNContext('gru', 256).
  predictor: nn.Module  # c -> W_k c, [b, t, K, d]; LinearPredictor(12, 512).
  optimizer: optax.GradientTransformation  # Adam, 2e-4.
  negatives: str = 'batch'  # Also 'sequence', 'group' (speaker), 'others', 'group_others': Table 2.
  num_negatives: int | None = None  # Drawn anew at every step; None: all there are.
  objective: str = 'info_nce'  # Or 'ml_cpc'.
  alpha: Scheduled = 1.0  # Of 'ml_cpc'; may be a schedule of the step. With 'info_nce' it makes alpha-CPC.

  representations = ('z', 'c', 'z_steps', 'c_steps')

  def __post_init__(self):
    _checks.choice('negatives', self.negatives, NEGATIVES)
    _checks.choice('objective', self.objective, OBJECTIVES)

  @property
  def network(self) -> CPCNetwork:
    return CPCNetwork(self.encoder, self.context, self.predictor)

  @property
  def downsample(self) -> int | None:
    """Inputs of a step; None where the encoder does not say: as many as divide a sequence evenly."""
    return getattr(self.encoder, 'downsample', None)

  def init(self, key: jax.Array, batch: core.Batch) -> core.State:
    return core.init_state(self.network, self.optimizer, key, batch['views'][0])

  def loss(self, params, stats, batch, key, step=0):
    """Returns the mean InfoNCE over steps and distances, and (updated stats, metrics)."""
    views = [silenced(view, batch.get('mask')) for view in batch['views']]
    (z, _, predictions), stats = forward(self.network, params, stats, views[0])
    if len(views) > 1:
      (z, _, _), stats = forward(self.network, params, stats, views[-1])
    arguments = self._arguments(batch, key, z.shape[1], step)
    accuracy, bound = losses.cpc_accuracy_and_bound(*jax.lax.stop_gradient((predictions, z)), **arguments)
    metrics = {'accuracy': jnp.mean(accuracy), 'accuracy_next': accuracy[0], 'accuracy_last': accuracy[-1],
               'bound': jnp.mean(bound)}
    return losses.cpc_info_nce(predictions, z, **arguments), (stats, metrics)

  def step(self, state: core.State, batch: core.Batch, key: jax.Array) -> tuple[core.State, core.Metrics]:
    return core.descend(
        lambda params: self.loss(params, state.stats, batch, key, state.step), self.optimizer, state)

  def represent(self, state: core.State, inputs: jax.Array, name: str | None = None, mask=None) -> jax.Array:
    """Returns z or c of sequences [n, s, ...], averaged over their steps, [n, d], or as they are, [n, t, d].

    `mask`, bool [n, s], is False at the padding at a sequence's end.
    """
    module, variables = self.backbone(state, name)
    features: Any = module.apply(variables, inputs, mask=mask)
    return features

  def backbone(self, state: core.State, name: str | None = None) -> tuple[nn.Module, Any]:
    """Returns the network up to a representation as a module of sequences, and its variables."""
    kind = core.choose(name, {each: each for each in self.representations})
    context = self.context if kind.startswith('c') else None
    parts = ('encoder',) if context is None else ('encoder', 'context')
    variables = {'params': state.params, **state.stats}
    kept = {key: {part: tree[part] for part in parts if part in tree} for key, tree in variables.items()}
    return CPCRepresentation(self.encoder, context, not kind.endswith('_steps'), self.downsample), kept

  def embed(self, state: core.State, batch: core.Batch) -> tuple[jax.Array, ...]:
    """Returns z [b, d], averaged over the first and over the second half of the window, for the embedding's health.

    Less its mean: after a ReLU much of z is the same everywhere, and scores that are inner products do not mind.
    """
    z = self.represent(state, batch['views'][0], 'z_steps', batch.get('mask'))
    z = z - jnp.mean(z, axis=(0, 1), keepdims=True)
    return tuple(jnp.mean(half, axis=1) for half in jnp.array_split(z, 2, axis=1))

  def evaluate(self, state: core.State, batch: core.Batch, key: jax.Array) -> core.Metrics:
    """Returns the accuracy and the bound in nats at every distance k."""
    x = silenced(batch['views'][0], batch.get('mask'))
    outputs: Any = self.network.apply({'params': state.params, **state.stats}, x)
    z, _, predictions = outputs
    arguments = self._arguments(batch, key, z.shape[1], state.step)
    accuracy, bound = losses.cpc_accuracy_and_bound(predictions, z, **arguments)
    return {f'{name}_{k + 1}': value[k]
            for name, value in (('accuracy', accuracy), ('bound', bound)) for k in range(len(accuracy))}

  def _arguments(self, batch, key, t, step):
    grouped = self.negatives in ('group', 'group_others')
    if grouped and 'group' not in batch:
      raise ValueError(f'negatives={self.negatives!r} needs the group (speaker) of each sequence, which is not known')
    return {
        'negatives': self.negatives, 'num_negatives': self.num_negatives, 'key': key, 'objective': self.objective,
        'alpha': _scheduled.at(self.alpha, step),
        'mask': ops.step_mask(batch['mask'], t, self.downsample) if 'mask' in batch else None,
        'group': batch['group'] if grouped else None,
    }
