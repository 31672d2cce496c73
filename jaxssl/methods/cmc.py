"""CMC: what the views of a scene share is told from what other scenes show.

Tian, Krishnan, Isola, "Contrastive Multiview Coding", ECCV 2020, https://arxiv.org/abs/1906.05849, section 3; the
memory is that of Wu et al. 2018, https://arxiv.org/abs/1805.01978.
"""

import dataclasses
import itertools
import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from flax import linen as nn

from jaxssl import core, losses, ops
from jaxssl.methods import _checks
from jaxssl.models.forward import forward
from jaxssl.models.heads import MLP
from jaxssl.models.multiview import MultiviewNetwork, MultiviewRepresentation, PerView

CONTRASTS, GRAPHS = ('batch', 'memory', 'memory_nce'), ('full', 'core')
LOWEST_OF_NCE = 0.012  # At lower temperatures exp(1 / temperature), a part of Z, is no float32.


class Memory(NamedTuple):
  """What is remembered of every example, and how scores with it are normalised."""

  banks: tuple[jax.Array, ...]  # [N, p], rows of length 1: one a view.
  normalizers: jax.Array  # [pairs, 2]: Z of NCE, for either way; 0: not known yet.


@dataclasses.dataclass(frozen=True)
class CMC:
  """Needs two or more views; each is contrasted with every other ('full' graph), or with the first alone ('core')."""

  encoder: nn.Module | tuple[nn.Module, ...]  # View [b, ...] -> h [b, d]: a copy for each view, or a tuple of them.
  optimizer: optax.GradientTransformation  # SGD, 0.03, momentum 0.9, weight decay 1e-4, batch 128.
  head: nn.Module = MLP((128,), output_bn=False, output_bias=True)  # h -> z [b, p]; the paper's is linear.
  views: int = 2
  shared: bool = False  # One encoder and one head, with the same parameters, for all views.
  graph: str = 'full'
  contrast: str = 'batch'  # With the batch; with a 'memory' by softmax; or, as the paper, by NCE: 'memory_nce'.
  temperature: float = 0.07  # 0.1 on STL-10; this and the next two are those of the authors' code.
  num_negatives: int = 16_384  # Drawn from the memory at each step, with replacement, for all of the batch; at most N.
  momentum: float = 0.5  # Of the memory.
  num_examples: int = 0  # N, of the data set, all of which a memory holds; the trainer knows it.

  def __post_init__(self):
    _checks.choice('graph', self.graph, GRAPHS)
    _checks.choice('contrast', self.contrast, CONTRASTS)
    if self.views < 2:
      raise ValueError(f'views must be at least 2, got {self.views}')
    if isinstance(self.encoder, tuple) and (len(self.encoder) != self.views or self.shared):
      raise ValueError(f'encoder must be one module, or without shared=True {self.views}, one for each view; got '
                       f'{len(self.encoder)}')
    lowest = LOWEST_OF_NCE if self.contrast == 'memory_nce' else 0
    if not self.temperature > lowest:
      raise ValueError(f'temperature must be above {lowest} for contrast={self.contrast!r}, got {self.temperature}')
    _checks.below_one(momentum=self.momentum)
    _checks.positive(num_negatives=self.num_negatives)
    if self.contrast != 'batch' and not self.num_examples:
      raise ValueError(f'num_examples must be the size of the data set for contrast={self.contrast!r}, got '
                       f'{self.num_examples}')

  @property
  def representations(self) -> tuple[str, ...]:
    """'h' and 'z' of all views side by side, or of one, 'h_view0'; and the encoder's stages, where it tells them."""
    encoders = self.encoder if isinstance(self.encoder, tuple) else (self.encoder,)
    stages = min(getattr(encoder, 'num_stages', 0) for encoder in encoders)
    layers = ('h', 'z', *(f'stage{i + 1}' for i in range(stages)))
    return tuple(layer + view for layer in layers for view in ('', *(f'_view{i}' for i in range(self.views))))

  @property
  def network(self) -> MultiviewNetwork:
    return MultiviewNetwork(PerView(self.encoder, self.shared), PerView(self.head, self.shared))

  @property
  def pairs(self) -> tuple[tuple[int, int], ...]:
    """The pairs of views that are contrasted, both ways: a view of the one looks for its counterpart in the other."""
    return tuple(pair for pair in itertools.combinations(range(self.views), 2) if self.graph == 'full' or pair[0] == 0)

  def init(self, key: jax.Array, batch: core.Batch) -> core.State:
    if len(batch['views']) != self.views:
      raise ValueError(f'views must be {len(batch["views"])}, as many as the data have, got {self.views}')
    shapes = [list(view.shape[1:]) for view in batch['views']]
    if self.shared and any(shape != shapes[0] for shape in shapes):
      raise ValueError(f'shared=True needs views of one shape, got {", ".join(map(str, shapes))}')
    network_key, memory_key = jax.random.split(key)
    state = core.init_state(self.network, self.optimizer, network_key, batch['views'])
    if self.contrast == 'batch':
      return state
    _, z = jax.eval_shape(self.network.apply, {'params': state.params, **state.stats}, batch['views'])
    make = lambda key: jax.random.uniform(key, (self.num_examples, z[0].shape[1]), minval=-1.0)
    banks = tuple(ops.l2_normalize(make(key)) for key in jax.random.split(memory_key, self.views))
    return state._replace(stats={**state.stats, 'memory': Memory(banks, jnp.zeros((len(self.pairs), 2)))})

  def loss(self, params, stats, batch, key):
    """Returns the sum over the pairs, both ways, of the loss of finding the counterpart, and (stats, metrics)."""
    memory = stats.get('memory')
    stats = {name: value for name, value in stats.items() if name != 'memory'}
    (_, z), stats = forward(self.network, params, stats, batch['views'])
    found = [losses.retrieval_accuracy(z[i], z[j]) for i, j in self.pairs]
    metrics = {'accuracy': sum(found) / len(found)}  # Of finding the counterpart in the batch.
    if memory is None:
      each = [2 * losses.symmetric_info_nce(z[i], z[j], temperature=self.temperature) for i, j in self.pairs]
      candidates = len(z[0])
    else:
      each, memory = self._recall(z, memory, batch['index'], key)
      stats, candidates = {**stats, 'memory': memory}, 1 + self._drawn
    loss = sum(each)
    if self.contrast != 'memory_nce':
      metrics['bound'] = math.log(candidates) - loss / (2 * len(self.pairs))  # On a pair's mutual information, in nats.
    return loss, (stats, metrics)

  def _recall(self, z, memory, index, key):
    """Returns the losses of all pairs, both ways, against what is remembered, and the memory with z taken in."""
    drawn = jax.random.randint(key, (self._drawn,), 0, self.num_examples)
    options = {'num_examples': self.num_examples, 'temperature': self.temperature}
    each, normalizers = [], []
    for i, j in (way for pair in self.pairs for way in (pair, pair[::-1])):
      arrays = z[i], memory.banks[j][index], memory.banks[j][drawn]
      if self.contrast == 'memory':
        each.append(losses.info_nce(*arrays, temperature=self.temperature))
        continue
      known = memory.normalizers.reshape(-1)[len(each)]
      estimate = lambda arrays=arrays: losses.noise_contrastive_normalizer(*arrays, **options)
      normalizers.append(jax.lax.cond(known > 0, lambda known=known: known, estimate))
      each.append(losses.noise_contrastive(*arrays, normalizer=normalizers[-1], **options))
    if normalizers:
      memory = memory._replace(normalizers=jnp.stack(normalizers).reshape(-1, 2))
    banks = (_remember(bank, index, each_z, self.momentum) for bank, each_z in zip(memory.banks, z, strict=True))
    return each, memory._replace(banks=tuple(banks))

  @property
  def _drawn(self) -> int:
    return min(self.num_negatives, self.num_examples)

  def step(self, state: core.State, batch: core.Batch, key: jax.Array) -> tuple[core.State, core.Metrics]:
    return core.descend(lambda params: self.loss(params, state.stats, batch, key), self.optimizer, state)

  def represent(self, state: core.State, inputs: Any, name: str | None = None, mask=None) -> jax.Array:
    """Returns features [n, d] of a tuple of views [n, ...]; one array alone is every view."""
    module, variables = self.backbone(state, name)
    features: Any = module.apply(variables, inputs)
    return features

  def backbone(self, state: core.State, name: str | None = None) -> tuple[nn.Module, Any]:
    """Returns the network up to a representation as a module of views, and its variables."""
    layer = core.choose(name, {each: each for each in self.representations}).partition('_view')[0]
    which = self.seen(name)
    parts = ('encoder', 'head') if layer == 'z' else ('encoder',)
    mine = {'shared'} if self.shared else {f'view{i}' for i in which}
    kept = {kind: {part: {view: value for view, value in tree[part].items() if view in mine}
                   for part in parts if part in tree}
            for kind, tree in {'params': state.params, **state.stats}.items() if kind != 'memory'}
    return MultiviewRepresentation(self.network, layer, which, self.views), {
        kind: {'network': tree} for kind, tree in kept.items() if tree}

  def seen(self, name: str | None = None) -> tuple[int, ...]:
    """Returns which views a representation is made of, for the raw inputs to compare it with."""
    _, _, view = core.choose(name, {each: each for each in self.representations}).partition('_view')
    return (int(view),) if view else tuple(range(self.views))

  def embed(self, state: core.State, batch: core.Batch) -> tuple[jax.Array, ...]:
    """Returns z [b, p] of the first two views, for the health of the embedding."""
    return tuple(self.represent(state, batch['views'], f'z_view{i}') for i in range(2))


def _remember(bank: jax.Array, index: jax.Array, z: jax.Array, momentum: float) -> jax.Array:
  """Returns the bank [N, p] with z [b, p] mixed into the rows `index` [b]; of equal indices the last counts."""
  later = jnp.triu(index[:, None] == index[None, :], 1).any(axis=1)
  row = ops.l2_normalize(momentum * bank[index] + (1 - momentum) * ops.l2_normalize(jax.lax.stop_gradient(z)))
  return bank.at[jnp.where(later, len(bank), index)].set(row, mode='drop')
