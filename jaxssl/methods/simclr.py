"""SimCLR: two views of an image attract, all other images repel.

Chen, Kornblith, Norouzi, Hinton, "A Simple Framework for Contrastive Learning of Visual Representations", ICML 2020,
https://arxiv.org/abs/2002.05709, Algorithm 1.
"""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import optax
from flax import linen as nn

from jaxssl import core, losses
from jaxssl.methods import _checks, _projected, _scheduled
from jaxssl.methods._scheduled import Scheduled
from jaxssl.models.forward import forward_views
from jaxssl.models.heads import MLP, Projected

OBJECTIVES = ('nt_xent', 'ml_cpc', 'decoupled', 'supervised')


@dataclasses.dataclass(frozen=True)
class SimCLR:
  """Needs two or more views; with more (multi-crop), each of the first two is paired with every other."""

  encoder: nn.Module  # images [b, h, w, c] -> h [b, d]
  head: MLP  # h [b, d] -> z [b, p]; MLP((2048, 128)) for ResNet-50.
  optimizer: optax.GradientTransformation
  temperature: float = 0.1  # Table 5, ImageNet; 0.5 is best on CIFAR-10 in long runs (B.9).
  chunks: int = 1  # Parts of the batch that are encoded one after another, to save memory; see `forward_in_chunks`.
  # Or 'ml_cpc', multi-label CPC: one denominator for all anchors, arXiv:2007.09852; 'decoupled', DCL: without the
  # positive in it, arXiv:2110.06848; 'supervised', SupCon: examples of a class attract, arXiv:2004.11362.
  objective: str = 'nt_xent'
  # Of multi-label CPC; may be a schedule of the step. As in CPC the loss is not divided by it: the steps of Adam and of
  # LARS have a length of their own; with SGD, raise the learning rate where alpha is small.
  alpha: Scheduled = 1.0
  # Parts of the batch whose images are negatives of one another alone; 1: the whole batch. As many as devices are what
  # codes without gathered embeddings do.
  negative_groups: int = 1

  def __post_init__(self):
    _checks.positive(temperature=self.temperature)
    _checks.choice('objective', self.objective, OBJECTIVES)
    _checks.alpha(self.alpha, self.objective)

  @property
  def network(self) -> Projected:
    return Projected(self.encoder, self.head)

  def init(self, key: jax.Array, batch: core.Batch) -> core.State:
    _checks.views(batch)
    if self.objective == 'supervised' and 'label' not in batch:
      raise ValueError("objective='supervised' needs labels, which the data have not")
    return core.init_state(self.network, self.optimizer, key, batch['views'][0])

  def loss(self, params, stats, views, step=0, label=None):
    """Returns the objective's mean over the pairs of views, and (updated stats, metrics)."""
    outputs, stats = forward_views(self.network, params, stats, views, self.chunks)
    z = [z for _, z in outputs]
    pairs = [(z1, z2) for i, z1 in enumerate(z[:2]) for z2 in z[i + 1 :]]
    loss = sum(self._of_pair(z1, z2, step, label) for z1, z2 in pairs) / len(pairs)
    return loss, (stats, {'contrastive_accuracy': losses.contrastive_accuracy(z[0], z[1])})

  def _of_pair(self, z1, z2, step, label):
    arrays = (z1, z2)
    if self.objective == 'ml_cpc':
      loss = functools.partial(losses.multi_label_nt_xent, alpha=_scheduled.at(self.alpha, step))
    elif self.objective == 'supervised':
      loss, arrays = _of_classes, (z1, z2, label)
    else:
      loss = {'nt_xent': losses.nt_xent, 'decoupled': losses.decoupled_nt_xent}[self.objective]
    return losses.in_groups(
        functools.partial(loss, temperature=self.temperature), *arrays, groups=self.negative_groups)

  def step(self, state: core.State, batch: core.Batch, key: jax.Array) -> tuple[core.State, core.Metrics]:
    del key  # All randomness is in the views.
    return core.descend(
        lambda params: self.loss(params, state.stats, batch['views'], state.step, batch.get('label')),
        self.optimizer, state)

  representations = property(_projected.representations)  # h, the layers of the head (SimCLRv2), z.
  represent, backbone, embed = _projected.represent, _projected.backbone, _projected.embed


def _of_classes(z1, z2, label, temperature):
  return losses.supervised_contrastive(jnp.concatenate([z1, z2]), jnp.tile(label, 2), temperature=temperature)
