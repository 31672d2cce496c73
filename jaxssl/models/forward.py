"""Networks applied in training mode, to one input or to all views."""

import itertools
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn


def forward(network: nn.Module, params: Any, stats: Any, *inputs) -> tuple[Any, Any]:
  """Applies `network` in training mode; returns its output and the updated stats."""
  return network.apply({'params': params, **stats}, *inputs, train=True, mutable=list(stats))


def forward_views(network: nn.Module, params: Any, stats: Any, views: Sequence[jax.Array]) -> tuple[list[Any], Any]:
  """Applies `network` in training mode to views [b, ...], those of one size as one batch.

  Returns its outputs, view by view, and the updated stats.
  """
  outputs = []
  for _, same_size in itertools.groupby(views, key=jnp.shape):
    x = jnp.stack(list(same_size), axis=1)  # [b, v, ...]: an image's views stay on its device.
    both, stats = forward(network, params, stats, x.reshape(-1, *x.shape[2:]))
    both = jax.tree.map(lambda y, b_v=x.shape[:2]: jnp.moveaxis(y.reshape(*b_v, *y.shape[1:]), 1, 0), both)
    outputs += [jax.tree.map(lambda y, v=v: y[v], both) for v in range(x.shape[1])]
  return outputs, stats
