"""Networks applied in training mode, to one input or to all views."""

import functools
import itertools
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn


def forward(
    network: nn.Module, params: Any, stats: Any, *inputs, rngs: Any = None, method: str | None = None
) -> tuple[Any, Any]:
  """Applies `network`, or one of its methods, in training mode; returns its output and the updated stats.

  `rngs` are the keys of what is random in it: {'dropout': key} for dropout and stochastic depth.
  """
  return network.apply({'params': params, **stats}, *inputs, train=True, mutable=list(stats), rngs=rngs, method=method)


def forward_in_chunks(network: nn.Module, params: Any, stats: Any, x: jax.Array, chunks: int) -> tuple[Any, Any]:
  """Does the same for one part of the batch after another, so that activations of only one part are held at a time.

  In the backward pass each part is computed again (GradCache: Gao et al. 2021, https://arxiv.org/abs/2101.06983), for
  a batch that the network's memory no longer limits. A loss of all outputs has exactly the gradient of the whole
  batch, but for batch norm: its statistics are those of a part.

  On accelerators the program is a loop. On a CPU, where convolutions in a loop are slow, it holds a copy of the network
  for each part, and takes longer to compile: a step of a ResNet of three blocks, batch 256, took 195 ms and 194 MiB
  whole, 160 ms and 50 MiB in 4 parts, 131 ms and 13 MiB in 16, after 2.4, 6.4 and 16 s of compilation; in a loop of 4
  parts 2,733 ms and 50 MiB (benchmarks/chunks.py).

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
  parts = x.reshape(-1, chunks, *x.shape[1:])
  # XLA on a CPU brings convolutions into the form that its fast code takes only where they are in no loop.
  encode = _in_turn if jax.default_backend() == 'cpu' else _in_a_loop
  outputs, stats = encode(network, params, stats, parts)
  return jax.tree.map(lambda y: y.reshape(-1, *y.shape[2:]), outputs), stats


def _in_a_loop(network: nn.Module, params: Any, stats: Any, parts: jax.Array) -> tuple[Any, Any]:
  """Encodes parts [m, chunks, ...] in a loop; returns outputs [m, chunks, ...] and the updated stats."""
  again = jax.checkpoint(lambda params, stats, part: forward(network, params, stats, part)[::-1])
  stats, outputs = jax.lax.scan(lambda stats, part: again(params, stats, part), stats, jnp.moveaxis(parts, 1, 0))
  return jax.tree.map(lambda y: jnp.moveaxis(y, 0, 1), outputs), stats


def _in_turn(network: nn.Module, params: Any, stats: Any, parts: jax.Array) -> tuple[Any, Any]:
  """Does the same without a loop, for gradients in reverse mode."""
  outputs, stats = _encode_list(network, params, stats, jnp.unstack(parts, axis=1))
  return jax.tree.map(lambda *y: jnp.stack(y, axis=1), *outputs), stats


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def _encode_list(network, params, stats, parts):
  return _encode_list_forward(network, params, stats, parts)[0]


def _encode_list_forward(network, params, stats, parts):
  outputs, befores = [], []
  for part in parts:
    befores.append(stats)
    y, stats = forward(network, params, stats, _after(outputs[-1:], part))
    outputs.append(y)
  return (outputs, stats), (params, befores, parts)


def _encode_list_backward(network, saved, cotangents):
  params, befores, parts = saved
  ct_outputs, ct_stats = cotangents
  grads, ct_parts = jax.tree.map(jnp.zeros_like, params), []
  done = ct_outputs
  for before, part, ct in zip(befores[::-1], parts[::-1], ct_outputs[::-1], strict=True):
    _, vjp = jax.vjp(functools.partial(forward, network), params, before, _after(done, part))
    part_grads, ct_stats, ct_part = vjp((ct, ct_stats))
    grads = jax.tree.map(jnp.add, grads, part_grads)
    ct_parts.append(ct_part)
    done = grads, ct_stats
  return grads, ct_stats, tuple(ct_parts[::-1])


_encode_list.defvjp(_encode_list_forward, _encode_list_backward)


def _after(done: Any, x: jax.Array) -> jax.Array:
  """Returns `x`, in such a way that XLA must compute all of `done` before it starts on what depends on the result.

  Otherwise it would begin with every part and hold the activations of all, or take a part's second forward pass for
  its first. `lax.optimization_barrier` does not help on a CPU: it is gone when XLA puts the program in order.
  """
  total = sum(jnp.sum(y) for y in jax.tree.leaves(done) if jnp.issubdtype(y.dtype, jnp.inexact))
  never = jnp.isnan(total) & jnp.isinf(total)  # No number is both, but XLA does not know.
  return jnp.where(never, jnp.zeros_like(x), x)


def forward_views(
    network: nn.Module, params: Any, stats: Any, views: Sequence[jax.Array], chunks: int = 1,
    key: jax.Array | None = None) -> tuple[list[Any], Any]:
  """Applies `network` in training mode to views [b, ...], those of one size as one batch; see `forward_in_chunks`.

  `key` is for dropout and stochastic depth, which need `chunks` = 1. Returns its outputs, view by view, and the updated
  stats.
  """
  outputs: list[Any] = []
  for _, same_size in itertools.groupby(views, key=jnp.shape):
    x = jnp.stack(list(same_size), axis=1)  # [b, v, ...]: an image's views stay on its device.
    rows = x.reshape(-1, *x.shape[2:])
    if key is None:
      both, stats = forward_in_chunks(network, params, stats, rows, chunks)
    else:
      both, stats = forward(
          network, params, stats, rows, rngs={'dropout': jax.random.fold_in(key, len(outputs))})
    both = jax.tree.map(lambda y, b_v=x.shape[:2]: jnp.moveaxis(y.reshape(*b_v, *y.shape[1:]), 1, 0), both)
    outputs += [jax.tree.map(lambda y, v=v: y[v], both) for v in range(x.shape[1])]
  return outputs, stats
