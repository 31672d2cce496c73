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


def forward_in_chunks(network: nn.Module, params: Any, stats: Any, x: jax.Array, chunks: int) -> tuple[Any, Any]:
  """Does the same for one part of the batch after another, so that activations of only one part are held at a time.

  In the backward pass each part is computed again (GradCache: Gao et al. 2021, https://arxiv.org/abs/2101.06983), for
  a batch that the network's memory no longer limits. A loss of all outputs has exactly the gradient of the whole
  batch, but for batch norm: its statistics are those of a part. For accelerators: on a CPU, XLA runs convolutions
  inside a loop slowly: a step of a ResNet of three blocks in 4 parts took 21 times as long, in a quarter of the
  memory; without the loop, XLA keeps the activations of all parts.

  Args:
    network: the module.
    params: its parameters.
    stats: its other variables; each part sees what the part before has made of them.
    x: [n, ...].
    chunks: how many parts, a divisor of n. Part c holds the rows c, c + chunks, …, so that each is spread over all
      devices that the batch is.

  Returns:
    The outputs in the order of x, and the updated stats.

  Raises:
    ValueError: if `chunks` does not divide n.
  """
  if chunks == 1:
    return forward(network, params, stats, x)
  if chunks < 1 or x.shape[0] % chunks:
    raise ValueError(f'chunks must divide the {x.shape[0]} rows of the batch, all views together, got {chunks}')
  parts = jnp.moveaxis(x.reshape(-1, chunks, *x.shape[1:]), 1, 0)
  again = jax.checkpoint(lambda params, stats, part: forward(network, params, stats, part)[::-1])
  stats, outputs = jax.lax.scan(lambda stats, part: again(params, stats, part), stats, parts)
  return jax.tree.map(lambda y: jnp.moveaxis(y, 0, 1).reshape(-1, *y.shape[2:]), outputs), stats


def forward_views(
    network: nn.Module, params: Any, stats: Any, views: Sequence[jax.Array], chunks: int = 1) -> tuple[list[Any], Any]:
  """Applies `network` in training mode to views [b, ...], those of one size as one batch; see `forward_in_chunks`.

  Returns its outputs, view by view, and the updated stats.
  """
  outputs = []
  for _, same_size in itertools.groupby(views, key=jnp.shape):
    x = jnp.stack(list(same_size), axis=1)  # [b, v, ...]: an image's views stay on its device.
    both, stats = forward_in_chunks(network, params, stats, x.reshape(-1, *x.shape[2:]), chunks)
    both = jax.tree.map(lambda y, b_v=x.shape[:2]: jnp.moveaxis(y.reshape(*b_v, *y.shape[1:]), 1, 0), both)
    outputs += [jax.tree.map(lambda y, v=v: y[v], both) for v in range(x.shape[1])]
  return outputs, stats
