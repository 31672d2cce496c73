"""Log-sum-exps of all pairs' scores, and their gradients, as Mosaic GPU kernels for Hopper: no score leaves the chip.

Experimental, and never chosen by itself: the kernels compile for an H100, and their steps are right in Pallas's
interpreter, but they have not run on a GPU. Anywhere else than on a GPU, loops of the same blocks in the same order
stand in.

Products are of bfloat16 numbers, summed in float32, as tensor cores take them: scores are rounded as bfloat16
embeddings round them, about 1 / 256 of 1 / temperature. Scores are in bits: the embeddings are scaled by the root of
log2(e) / temperature, so that a product needs no further factor before its exp2.

A unit is N^2 d FLOPs: for NT-Xent 1 for the log-sum-exps, on one device, and 4 for the gradients.
"""

import functools
import math

import jax
import jax.numpy as jnp
from jax import lax

from jaxssl.losses import _mosaic_gpu_pairs, _mosaic_gpu_rows
from jaxssl.losses._mosaic_gpu_blocks import BLOCK, WIDTH
from jaxssl.losses._tiles import LARGEST_SHIFT

LARGEST_WIDTH = 256  # A gradient of 64 rows stays in a warpgroup's registers.
LOG2_E = math.log2(math.e)


def row_lse(x: jax.Array, y: jax.Array, inverse: jax.Array, first: jax.Array | None = None) -> jax.Array:
  """Returns log sum_j exp(inverse * x_i . y_j) of x [n, d] and y [m, d], d at most 256: [n].

  With `first`, row i of x is row `first` + i of y, and no candidate of itself.
  """
  x_scale, y_scale = _scales(inverse)
  x_rows, y_rows = _padded(x * x_scale, BLOCK), _padded(y * y_scale, _mosaic_gpu_rows.columns(x.shape[1]))
  arrays = _first(first, inverse), x_rows, y_rows, _absent(y, y_rows)
  found = _on_platform(
      _mosaic_gpu_rows.lse_kernel, _mosaic_gpu_rows.lse_twin, arrays, exclude=first is not None)
  return found[:len(x)] / LOG2_E


def self_lse(x: jax.Array, inverse: jax.Array) -> jax.Array:
  """Returns log sum_{j != i} exp(inverse * x_i . x_j) of rows x [n, d] of length 1, or 0: [n].

  Every exponential serves both rows, so that it costs half of `row_lse`, which stands in for temperatures so low that
  float32 does not hold exp(2 / temperature).
  """
  pairs = lambda: _pair_lse(x, x, inverse, itself=True)
  return lax.cond(jnp.abs(inverse) <= LARGEST_SHIFT, pairs, lambda: row_lse(x, x, inverse, jnp.zeros_like(inverse)))


def both_lse(x: jax.Array, y: jax.Array, inverse: jax.Array) -> tuple[jax.Array, jax.Array]:
  """Returns what `row_lse` finds for the rows of x [n, d] and for those of y [m, d], all of length 1, or 0: [n], [m].

  It costs half of two calls of `row_lse`, which stand in as in `self_lse`.
  """
  pairs = lambda: _pair_lse(x, y, inverse, itself=False)
  return lax.cond(jnp.abs(inverse) <= LARGEST_SHIFT, pairs, lambda: (row_lse(x, y, inverse), row_lse(y, x, inverse)))


def row_gradient(
    x: jax.Array,
    y: jax.Array,
    inverse: jax.Array,
    x_lse: jax.Array | None,
    y_lse: jax.Array | None,
    first: jax.Array | None = None,
) -> jax.Array:
  """Returns the gradient by x [n, d], times the temperature, of the sum of the log-sum-exps of x's and y's rows.

  `x_lse` [n] and `y_lse` [m] are these; None where there are none. `first` as in `row_lse`.
  """
  x_scale, y_scale = _scales(inverse)
  x_rows, y_rows = _padded(x * x_scale, BLOCK), _padded(y * y_scale, _mosaic_gpu_rows.columns(x.shape[1]))
  never = lambda z, rows: jnp.full_like(z[:, 0], jnp.inf, shape=len(rows))  # A weight of exp2(-inf).
  in_bits = lambda lse, z, rows: never(z, rows) if lse is None else never(z, rows).at[:len(lse)].set(lse * LOG2_E)
  arrays = (_first(first, inverse), x_rows, y_rows, _absent(y, y_rows),
            in_bits(x_lse, x, x_rows), in_bits(y_lse, y, y_rows))
  found = _on_platform(
      _mosaic_gpu_rows.gradient_kernel, _mosaic_gpu_rows.gradient_twin, arrays, exclude=first is not None)
  return found[:len(x), :x.shape[1]] / y_scale


def rounded(z: jax.Array, inverse: jax.Array) -> jax.Array:
  """Returns embeddings as the kernels see them, rounded; the gradient passes as if they were not."""
  scale, _ = _scales(inverse)
  return z + lax.stop_gradient((z * scale).astype(jnp.bfloat16).astype(jnp.float32) / scale - z)


def _pair_lse(x, y, inverse, itself):
  """Returns the log-sum-exps of x's rows and of y's, or with `itself` of each row with all others."""
  scale, _ = _scales(inverse)
  shift = jnp.abs(inverse) * LOG2_E  # Scores do not exceed it.
  x_rows = _padded(x * scale, BLOCK)
  arrays = jnp.stack([jnp.sign(inverse), shift]), x_rows, x_rows if itself else _padded(y * scale, BLOCK)
  found = _on_platform(
      _mosaic_gpu_pairs.sums_kernel, _mosaic_gpu_pairs.sums_twin, arrays, n=len(x), m=len(y), itself=itself)
  lse = lambda sums, z: (shift + jnp.log2(sums[:len(z)])) / LOG2_E
  return lse(found, x) if itself else (lse(found[0], x), lse(found[1], y))


def _scales(inverse):
  """Returns what to scale the two sides of a product by, to make it a score in bits."""
  scale = jnp.sqrt(jnp.abs(inverse) * LOG2_E)
  return scale, jnp.sign(inverse) * scale


def _on_platform(kernel, twin, arrays, **static):
  return lax.platform_dependent(
      *arrays, cuda=functools.partial(kernel, **static), default=functools.partial(twin, **static))


def _padded(z, rows):
  """Returns z in bfloat16, with zeros up to whole blocks of rows and of width."""
  n, d = z.shape
  if d > LARGEST_WIDTH:
    raise ValueError(
        f"implementation='mosaic_gpu' takes embeddings of up to {LARGEST_WIDTH} values, got {d}: choose 'dense', "
        "'tiled' or 'ring'")
  return jnp.pad(z.astype(jnp.bfloat16), ((0, -n % rows), (0, -d % WIDTH)))


def _absent(y, rows):
  """Returns what to add to the scores of each row of `rows`: minus infinity if it only fills up."""
  return jnp.zeros_like(y[:, 0], jnp.float32, shape=len(rows)).at[len(y):].set(-jnp.inf)


def _first(first, inverse):
  return jnp.reshape(jnp.zeros_like(inverse, jnp.int32) if first is None else first, (1,)).astype(jnp.int32)
