"""SimCLR: two views of an image attract, all other images repel.

Chen, Kornblith, Norouzi, Hinton, "A Simple Framework for Contrastive Learning of Visual Representations", ICML 2020,
https://arxiv.org/abs/2002.05709, Algorithm 1.
"""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import jax
import optax
from flax import linen as nn

from jaxssl import core, losses
from jaxssl.models.forward import forward_views
from jaxssl.models.heads import MLP, Projected, Truncated

OBJECTIVES = ('nt_xent', 'ml_cpc')


@dataclasses.dataclass(frozen=True)
class SimCLR:
  """Needs two or more views; with more (multi-crop), each of the first two is paired with every other."""

  encoder: nn.Module  # images [b, h, w, c] -> h [b, d]
  head: MLP  # h [b, d] -> z [b, p]; MLP((2048, 128)) for ResNet-50.
  optimizer: optax.GradientTransformation
  temperature: float = 0.1  # Table 5, ImageNet; 0.5 is best on CIFAR-10 in long runs (B.9).
  chunks: int = 1  # Parts of the batch that are encoded one after another, to save memory; see `forward_in_chunks`.
  objective: str = 'nt_xent'  # Or 'ml_cpc', multi-label CPC: one denominator for all anchors, arXiv:2007.09852.
  # Of multi-label CPC; may be a schedule of the step. As in CPC the loss is not divided by it: the steps of Adam and of
  # LARS have a length of their own; with SGD, raise the learning rate where alpha is small.
  alpha: float | Callable[[jax.Array], jax.Array] = 1.0
  # Parts of the batch whose images are negatives of one another alone; 1: the whole batch. As many as devices are what
  # codes without gathered embeddings do.
  negative_groups: int = 1

  def __post_init__(self):
    if not self.temperature > 0:
      raise ValueError(f'temperature must be positive, got {self.temperature}')
    if self.objective not in OBJECTIVES:
      raise ValueError(f'objective must be one of {", ".join(map(repr, OBJECTIVES))}, got {self.objective!r}')
    if self.objective == 'nt_xent' and self.alpha != 1:
      found = 'a schedule' if callable(self.alpha) else self.alpha
      raise ValueError(f"alpha is of objective='ml_cpc' alone, got {found} with 'nt_xent'")

  @property
  def network(self) -> Projected:
    return Projected(self.encoder, self.head)

  @property
  def representations(self) -> tuple[str, ...]:
    return ('h', *(f'head{i}' for i in range(1, len(self.head.features))), 'z')

  def init(self, key: jax.Array, batch: core.Batch) -> core.State:
    return core.init_state(self.network, self.optimizer, key, batch['views'][0])

  def loss(self, params, stats, views, step=0):
    """Returns the mean NT-Xent, or multi-label CPC, over the pairs of views, and (updated stats, metrics)."""
    outputs, stats = forward_views(self.network, params, stats, views, self.chunks)
    z = [z for _, z in outputs]
    pairs = [(z1, z2) for i, z1 in enumerate(z[:2]) for z2 in z[i + 1 :]]
    loss = sum(self._of_pair(z1, z2, step) for z1, z2 in pairs) / len(pairs)
    return loss, (stats, {'contrastive_accuracy': losses.contrastive_accuracy(z[0], z[1])})

  def _of_pair(self, z1, z2, step):
    if self.objective == 'nt_xent':
      loss = functools.partial(losses.nt_xent, temperature=self.temperature)
    else:
      alpha = self.alpha(step) if callable(self.alpha) else self.alpha
      loss = functools.partial(losses.multi_label_nt_xent, temperature=self.temperature, alpha=alpha)
    return losses.in_groups(loss, z1, z2, groups=self.negative_groups)

  def step(self, state: core.State, batch: core.Batch, key: jax.Array) -> tuple[core.State, core.Metrics]:
    del key  # All randomness is in the views.
    return core.descend(
        lambda params: self.loss(params, state.stats, batch['views'], state.step), self.optimizer, state)

  def represent(self, state: core.State, inputs: jax.Array, name: str | None = None, mask=None) -> jax.Array:
    """Returns h [n, d] (what the paper evaluates), a layer of the head (SimCLRv2), or z, of images [n, h, w, c]."""
    layers: Any = self.network.apply({'params': state.params, **state.stats}, inputs, method='layers')
    return core.choose(name, dict(zip(self.representations, layers, strict=True)))

  def backbone(self, state: core.State, name: str | None = None) -> tuple[nn.Module, Any]:
    """Returns the network up to a representation as a module of images, and its variables: what fine-tuning trains."""
    variables = {'params': state.params, **state.stats}
    encoder = Truncated(self.network, self.representations.index(name or 'h'))
    return encoder, {kind: {'network': tree} for kind, tree in variables.items()}

  def embed(self, state: core.State, batch: core.Batch) -> tuple[jax.Array, ...]:
    """Returns z [b, d] of the first two views, for the health of the embedding."""
    return tuple(self.represent(state, view, 'z') for view in batch['views'][:2])
