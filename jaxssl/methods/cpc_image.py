"""CPC of images: patches in the rows below are told, from what the rows above show, from patches elsewhere.

van den Oord, Li, Vinyals, "Representation Learning with Contrastive Predictive Coding", 2018,
https://arxiv.org/abs/1807.03748, section 3.2; Hénaff et al., "Data-Efficient Image Recognition with Contrastive
Predictive Coding" (CPC v2), 2019, https://arxiv.org/abs/1905.09272.
"""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import linen as nn

from jaxssl import core, losses
from jaxssl.methods import _checks
from jaxssl.models.cpc_image import CPCImageNetwork, CPCImageRepresentation, GridPredictor, Pairs, PatchEncoder
from jaxssl.models.forward import forward
from jaxssl.ops import patchify

NEGATIVES = ('batch', 'image')


@dataclasses.dataclass(frozen=True)
class CPCImage:
  """Of images. Of several views, the first is used; its patches may be changed by the recipe, each by itself."""

  encoder: PatchEncoder  # v1: of 64 pixels, 32 apart; v2: of 80, 36 apart.
  predictor: GridPredictor  # Contexts and W_k; v1 from above alone, v2 from four directions.
  optimizer: optax.GradientTransformation  # Adam, 2e-4; v2: 4e-4, b1 0.8.
  negatives: str = 'batch'  # All patches of the batch past the first `skip` rows; 'image': those of the same image.
  num_negatives: int | None = None  # Drawn anew for each column of the grid; None: all. Greedy InfoMax: 16.

  representations = ('z', 'c', 'h')

  def __post_init__(self):
    _checks.kinds(encoder=(self.encoder, PatchEncoder), predictor=(self.predictor, GridPredictor))
    _checks.choice('negatives', self.negatives, NEGATIVES)

  @property
  def network(self) -> CPCImageNetwork:
    return CPCImageNetwork(self.encoder, self.predictor)

  def init(self, key: jax.Array, batch: core.Batch) -> core.State:
    self._check(batch)
    return core.init_state(self.network, self.optimizer, key, batch['views'][0])

  def loss(self, params, stats, batch, key):
    """Returns the mean InfoNCE over directions, places and distances, and (updated stats, metrics)."""
    (z, pairs), stats = forward(self.network, params, stats, batch['views'][0])
    loss, accuracy, bound = self._measure(len(z), pairs, key)
    metrics = {'accuracy': jnp.mean(accuracy), 'accuracy_next': accuracy[0], 'accuracy_last': accuracy[-1],
               'bound': jnp.mean(bound)}
    return loss, (stats, metrics)

  def step(self, state: core.State, batch: core.Batch, key: jax.Array) -> tuple[core.State, core.Metrics]:
    return core.descend(lambda params: self.loss(params, state.stats, batch, key), self.optimizer, state)

  def represent(self, state: core.State, inputs: jax.Array, name: str | None = None, mask=None) -> jax.Array:
    """Returns features [n, d] of images [n, h, w, c]: z or c of all patches, averaged, or h.

    h is the patch encoder's network on the whole image at once, without a grid of patches.
    """
    module, variables = self.backbone(state, name)
    features: Any = module.apply(variables, inputs)
    return features

  def backbone(self, state: core.State, name: str | None = None) -> tuple[nn.Module, Any]:
    """Returns the network up to a representation as a module of images, and its variables."""
    variables = {'params': state.params, **state.stats}
    encoders = {key: {'encoder': tree['encoder']} for key, tree in variables.items() if 'encoder' in tree}
    contexts = {name: tree for name, tree in state.params['predictor'].items() if name.startswith('contexts_')}
    return core.choose(name, {
        'z': (CPCImageRepresentation(self.encoder), encoders),
        'c': (CPCImageRepresentation(self.encoder, self.predictor),
              {**encoders, 'params': {**encoders['params'], 'predictor': contexts}}),
        'h': (self.encoder.network, {key: tree['encoder']['network'] for key, tree in encoders.items()}),
    })

  def embed(self, state: core.State, batch: core.Batch) -> tuple[jax.Array, ...]:
    """Returns z [b, d], averaged over either half of the image, less its mean, for the embedding's health.

    The halves are above and below, of wide images left and right. For the mean see `CPC.embed`.
    """
    outputs: Any = self.network.apply({'params': state.params, **state.stats}, batch['views'][0])
    z = outputs[0] - jnp.mean(outputs[0], axis=(0, 1, 2), keepdims=True)
    longer = 1 if z.shape[1] >= z.shape[2] else 2
    return tuple(jnp.mean(half, axis=(1, 2)) for half in jnp.array_split(z, 2, axis=longer))

  def evaluate(self, state: core.State, batch: core.Batch, key: jax.Array) -> core.Metrics:
    """Returns the accuracy and the bound in nats at every distance k, each the mean over directions."""
    outputs: Any = self.network.apply({'params': state.params, **state.stats}, batch['views'][0])
    _, accuracy, bound = self._measure(len(outputs[0]), outputs[1], key)
    return {f'{name}_{k + 1}': value[k]
            for name, value in (('accuracy', accuracy), ('bound', bound)) for k in range(len(accuracy))}

  def _measure(self, images: int, pairs: Pairs, key: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Returns loss, accuracy [K] and bound [K], the means over directions."""
    found = []
    for i, (direction, (predictions, targets)) in enumerate(pairs.items()):
      (_, rows, steps, features), width = predictions.shape, targets.shape[-1]
      if steps >= rows:
        raise ValueError(f'predictor foresees {steps} rows {direction}, but the grid has only {rows - 1} past the '
                         f'first and skip = {self.predictor.skip}')
      if features != width:
        raise ValueError(f'predictor must predict {width} features, as many as its targets have, got {features}')
      arguments = self._arguments(len(targets), len(targets) // images, jax.random.fold_in(key, i))
      accuracy, bound = losses.cpc_accuracy_and_bound(
          *jax.lax.stop_gradient((predictions, targets)), **arguments)
      found.append((losses.cpc_info_nce(predictions, targets, **arguments), accuracy, bound))
    return jax.tree.map(lambda *values: jnp.mean(jnp.stack(values), axis=0), *found)

  def _arguments(self, sequences: int, columns: int, key: jax.Array) -> core.Batch:
    arguments = {'num_negatives': self.num_negatives, 'key': key}
    if self.negatives == 'batch':
      return arguments
    return {**arguments, 'negatives': 'group', 'group': jnp.arange(sequences) // columns}

  def _check(self, batch: core.Batch) -> None:
    view = batch['views'][0]
    if view.ndim == 6 and 'inputs' in batch:
      inputs = batch['inputs']
      whole = jax.eval_shape(lambda x: patchify(x, self.encoder.size, self.encoder.stride), inputs)
      if whole.shape[1:] != view.shape[1:]:
        raise ValueError(
            f'encoder cuts inputs {list(inputs.shape)} into patches {list(whole.shape[1:])}, but the recipe cuts views '
            f'into patches {list(view.shape[1:])}: size and stride of both must be the same')
