"""Several views of one scene, each with an encoder and a head of its own, or all with the same."""

from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn


class ByShape(nn.Module):
  """An encoder for views of any kind: `images` for [b, h, w, c], `vectors` for all others, flattened to [b, d]."""

  images: nn.Module
  vectors: nn.Module

  def __call__(self, x: jax.Array, train: bool = False) -> jax.Array:
    return self.images(x, train=train) if x.ndim == 4 else self.vectors(x.reshape(x.shape[0], -1), train=train)


class Pooled(nn.Module):
  """An encoder of sequences as one of whole ones: `encoder` of [b, n, ...] -> [b, t, d], averaged over its steps."""

  encoder: nn.Module

  def __call__(self, x: jax.Array, train: bool = False) -> jax.Array:
    return self.encoder(x, train=train).mean(axis=1)


class PerView(nn.Module):
  """A module for each view: a tuple of views -> a tuple of outputs. None stands for a view that is left out.

  Attributes:
    modules: one module, of which each view gets a copy with parameters of its own, or a tuple of them, one a view.
    shared: one module for all views, with the same parameters.
  """

  modules: nn.Module | tuple[nn.Module, ...]
  shared: bool = False

  @nn.compact
  def __call__(self, views: tuple[Any, ...], train: bool = False, method: str = '__call__') -> tuple[Any, ...]:
    """Returns what `method` of each view's module makes of the view."""
    outputs: list[Any] = []
    shared = self._of(0, 'shared') if self.shared else None
    for i, view in enumerate(views):
      if view is None:
        outputs.append(None)
        continue
      module = self._of(i, f'view{i}') if shared is None else shared
      outputs.append(getattr(module, method)(view, train=train))
    return tuple(outputs)

  def _of(self, i: int, name: str) -> nn.Module:
    return (self.modules[i] if isinstance(self.modules, tuple) else self.modules).copy(name=name)


class MultiviewNetwork(nn.Module):
  """Encoders with projection heads: a tuple of views -> (h, z), tuples of [b, d] and [b, p], an entry a view.

  Attributes:
    encoder: of views [b, ...] and `train`, returning [b, d].
    head: of h and `train`, returning [b, p], the same p for all views.
  """

  encoder: PerView
  head: PerView

  def __call__(self, views: tuple[Any, ...], train: bool = False) -> tuple[tuple[Any, ...], tuple[Any, ...]]:
    h = self.encoder(views, train)
    return h, self.head(h, train)


class MultiviewRepresentation(nn.Module):
  """One layer of some of a network's views, side by side: inputs -> [b, d].

  Attributes:
    network: with encoders (and heads, where the layer is theirs).
    layer: 'h', 'z', or 'stage1', 'stage2', …: the encoder's `stages`, averaged over positions.
    which: the views, of `views` in all.
    views: how many an example has.
  """

  network: MultiviewNetwork
  layer: str
  which: tuple[int, ...]
  views: int

  def __call__(self, inputs: Any, train: bool = False) -> jax.Array:
    """Returns the features of a tuple of views, or of one array that every view's encoder gets."""
    given = inputs if isinstance(inputs, list | tuple) else (inputs,) * self.views
    if len(given) != self.views:
      raise ValueError(f'inputs must be {self.views} views, or one array for all of them, got {len(given)}')
    chosen = tuple(view if i in self.which else None for i, view in enumerate(given))
    if self.layer.startswith('stage'):
      stages = self.network.encoder(chosen, train, 'stages')
      found = tuple(each and each[int(self.layer.removeprefix('stage')) - 1] for each in stages)
    else:
      found = self.network.encoder(chosen, train)
      found = self.network.head(found, train) if self.layer == 'z' else found
    return jnp.concatenate([found[i] for i in self.which], axis=1)
