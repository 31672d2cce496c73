"""Log-sum-exps of all pairs' scores, and their gradients, as Pallas kernels for TPUs: no score leaves the chip.

Experimental, and never chosen by itself: the kernels are right in the interpreter and lower for a TPU, but have not run
on one. Anywhere else than on a TPU they run in the interpreter, which is slow and refuses shard_map's check_vma.

Both kernels visit a row block's column blocks one after another, in the order of `_tiles.all_pairs`. A unit is N^2 d
FLOPs: 2 for the log-sum-exps, 4 for a gradient.
"""

import functools

import jax
import jax.numpy as jnp
from jax import lax
from jax.experimental import pallas as pl
from jax.experimental.pallas import tpu as pltpu

from jaxssl.losses._tiles import LOWEST

LARGEST_WIDTH = 512  # Seven blocks of 512 rows of it fill half of the 16 MiB beside a TPU core.
ROWS, COLUMNS, LANES = 512, 512, 128  # Of a block of scores; of a vector register.


def row_lse(x: jax.Array, y: jax.Array, inverse: jax.Array, first: jax.Array | None = None) -> jax.Array:
  """Returns log sum_j exp(inverse * x_i . y_j) of x [n, d] and y [m, d]: [n].

  With `first`, row i of x is row `first` + i of y, and no candidate of itself.
  """
  blocks = _padded(x, ROWS), _padded(y, COLUMNS)
  kernel = functools.partial(_lse_kernel, m=len(y), exclude=first is not None)
  specs = [_row_spec(blocks[0].shape[1]), _column_spec(blocks[1].shape[1])]
  scratch = [(ROWS, LANES), (ROWS, LANES)]
  lse = _call(kernel, (blocks[0].shape[0], LANES), blocks, specs, scratch, inverse, first)
  return lse[:len(x), 0]


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
  blocks = [_padded(x, ROWS), _padded(y, COLUMNS)]
  specs = [_row_spec(blocks[0].shape[1]), _column_spec(blocks[1].shape[1])]
  if x_lse is not None:
    lse = jnp.pad(x_lse, (0, blocks[0].shape[0] - len(x)), constant_values=jnp.inf)
    blocks.append(jnp.broadcast_to(lse[:, None], (len(lse), LANES)))
    specs.append(_row_spec(LANES))
  if y_lse is not None:
    blocks.append(jnp.pad(y_lse, (0, blocks[1].shape[0] - len(y)), constant_values=jnp.inf)[None, :])
    specs.append(pl.BlockSpec((1, COLUMNS), lambda i, j: (0, j)))
  kernel = functools.partial(
      _gradient_kernel, m=len(y), exclude=first is not None, of_x=x_lse is not None, of_y=y_lse is not None)
  shape = blocks[0].shape
  return _call(kernel, shape, blocks, specs, [(ROWS, shape[1])], inverse, first)[:len(x), :x.shape[1]]


def _lse_kernel(inverse, first, x, y, lse, peak, total, *, m, exclude):
  j = pl.program_id(1)

  @pl.when(j == 0)
  def _():
    peak[...] = jnp.full(peak.shape, LOWEST, jnp.float32)
    total[...] = jnp.zeros(total.shape, jnp.float32)

  scores = _scores(x, y, inverse, first, m, exclude)
  before = peak[:, :1]
  after = jnp.maximum(before, jnp.max(scores, axis=1, keepdims=True))
  sums = total[:, :1] * jnp.exp(before - after) + jnp.sum(jnp.exp(scores - after), axis=1, keepdims=True)
  peak[...] = jnp.broadcast_to(after, peak.shape)
  total[...] = jnp.broadcast_to(sums, total.shape)

  @pl.when(j == pl.num_programs(1) - 1)
  def _():
    lse[...] = peak[...] + jnp.log(total[...])


def _gradient_kernel(inverse, first, x, y, *refs, m, exclude, of_x, of_y):
  *lses, gradient, sums = refs
  j = pl.program_id(1)

  @pl.when(j == 0)
  def _():
    sums[...] = jnp.zeros(sums.shape, jnp.float32)

  scores = _scores(x, y, inverse, first, m, exclude)
  parts = []
  if of_x:
    parts.append(jnp.exp(scores - lses[0][:, :1]))
  if of_y:
    parts.append(jnp.exp(scores - lses[-1][...]))
  sums[...] += jnp.dot(
      functools.reduce(jnp.add, parts), y[...], precision=lax.Precision.HIGHEST, preferred_element_type=jnp.float32)

  @pl.when(j == pl.num_programs(1) - 1)
  def _():
    gradient[...] = sums[...]


def _scores(x, y, inverse, first, m, exclude):
  """Returns the scores of a block [ROWS, COLUMNS]; minus infinity beyond m columns, and where a row meets itself."""
  products = lax.dot_general(
      x[...], y[...], (((1,), (1,)), ((), ())), precision=lax.Precision.HIGHEST, preferred_element_type=jnp.float32)
  column = pl.program_id(1) * COLUMNS + lax.broadcasted_iota(jnp.int32, (ROWS, COLUMNS), 1)
  present = column < m
  if exclude:
    row = pl.program_id(0) * ROWS + lax.broadcasted_iota(jnp.int32, (ROWS, COLUMNS), 0) + first[0, 0]
    present = present & (row != column)
  return jnp.where(present, products * inverse[0, 0], -jnp.inf)


def _call(kernel, shape, blocks, specs, scratch, inverse, first):
  scalar = pl.BlockSpec(memory_space=pltpu.SMEM)
  varying = jax.typeof(blocks[0]).manual_axis_type

  def run(interpret):
    return lambda *arguments: pl.pallas_call(
        kernel,
        grid=(shape[0] // ROWS, blocks[1].shape[0] // COLUMNS),
        in_specs=[scalar, scalar, *specs],
        out_specs=_row_spec(shape[1]),
        out_shape=jax.ShapeDtypeStruct(shape, jnp.float32, manual_axis_type=varying),
        scratch_shapes=[pltpu.VMEM(each, jnp.float32) for each in scratch],
        compiler_params=pltpu.CompilerParams(dimension_semantics=('parallel', 'arbitrary')),
        interpret=interpret,
    )(*arguments)

  first = jnp.zeros_like(inverse, jnp.int32) if first is None else first
  scalars = jnp.reshape(inverse, (1, 1)), jnp.reshape(first, (1, 1)).astype(jnp.int32)
  return lax.platform_dependent(*scalars, *blocks, tpu=run(False), default=run(True))


def _padded(x: jax.Array, rows: int) -> jax.Array:
  """Returns x with zeros up to whole blocks and lanes."""
  n, d = x.shape
  if d > LARGEST_WIDTH:
    raise ValueError(
        f"implementation='pallas_tpu' takes embeddings of up to {LARGEST_WIDTH} values, got {d}: choose 'dense', "
        "'tiled' or 'ring'")
  return jnp.pad(x, ((0, -n % rows), (0, -d % LANES)))


def _row_spec(d: int) -> pl.BlockSpec:
  return pl.BlockSpec((ROWS, d), lambda i, j: (i, 0))


def _column_spec(d: int) -> pl.BlockSpec:
  return pl.BlockSpec((COLUMNS, d), lambda i, j: (j, 0))
