"""What an encoder with a head on it represents: its output h, the layers of the head, and the last of them, z.

The functions are written as methods, for dataclasses with an `encoder` and a `head` of these names in their parameters.
"""

from typing import Any

import jax
from flax import linen as nn

from jaxssl import core
from jaxssl.models.heads import Projected, Truncated


def representations(method: Any) -> tuple[str, ...]:
  """The names of the representations: h first, which the papers evaluate."""
  return ('h', *(f'head{i}' for i in range(1, len(method.head.features))), 'z')


def represent(
    method: Any, state: core.State, inputs: jax.Array, name: str | None = None, mask: jax.Array | None = None,
) -> jax.Array:
  """Returns h [n, d], a layer of the head, or z, of images [n, h, w, c], by the network that is trained."""
  module, variables = backbone(method, state, name)
  features: Any = module.apply(variables, inputs)
  return features


def backbone(method: Any, state: core.State, name: str | None = None) -> tuple[nn.Module, Any]:
  """Returns the network up to a representation as a module of images, and its variables: what fine-tuning trains."""
  layers = {each: i for i, each in enumerate(representations(method))}
  network = Truncated(Projected(method.encoder, method.head), core.choose(name, layers))
  return network, core.part_of(state, ('encoder', 'head'))


def embed(method: Any, state: core.State, batch: core.Batch) -> tuple[jax.Array, ...]:
  """Returns z [b, p] of the first two views, for the health of the embedding."""
  return tuple(represent(method, state, view, 'z') for view in batch['views'][:2])
