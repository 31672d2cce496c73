"""Log-sum-exps of all pairs' scores, and their gradients, as Pallas kernels for TPUs: no score leaves the chip.

Experimental, and never chosen by itself: the kernels are right in the interpreter and compile for a TPU v5e, but have
not run on one. Anywhere else than on a TPU, loops of the same blocks in the same order stand in.

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
INTERPRET = False  # Whether the kernels run in Pallas's interpreter: slow, and without shard_map's check_vma.


def row_lse(x: jax.Array, y: jax.Array, inverse: jax.Array, first: jax.Array | None = None) -> jax.Array:
  """Returns log sum_j exp(inverse * x_i . y_j) of x [n, d] and y [m, d]: [n].

  With `first`, row i of x is row `first` + i of y, and no candidate of itself.
  """
  blocks = _padded(x, ROWS), _padded(y, COLUMNS)
  kernel = functools.partial(_lse_kernel, m=len(y), exclude=first is not None)
  specs = [_row_spec(blocks[0].shape[1]), _column_spec(blocks[1].shape[1])]
  scratch = [(ROWS, LANES), (ROWS, LANES)]
  twin = functools.partial(_lse_twin, m=len(y), exclude=first is not None)
  lse = _call(kernel, twin, (blocks[0].shape[0], LANES), blocks, specs, scratch, inverse, first)
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
  kernel, twin = (
      functools.partial(each, m=len(y), exclude=first is not None, of_x=x_lse is not None, of_y=y_lse is not None)
      for each in (_gradient_kernel, _gradient_twin))
  shape = blocks[0].shape
  return _call(kernel, twin, shape, blocks, specs, [(ROWS, shape[1])], inverse, first)[:len(x), :x.shape[1]]


def _lse_kernel(inverse, first, x, y, lse, peak, total, *, m, exclude):
  j = pl.program_id(1)

  @pl.when(j == 0)
  def _():
    peak[...] = jnp.full(peak.shape, LOWEST, jnp.float32)
    total[...] = jnp.zeros(total.shape, jnp.float32)

  scores = _scores(x[...], y[...], inverse, first, pl.program_id(0), j, m, exclude)
  after, sums = _absorb(scores, peak[:, :1], total[:, :1])
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

  scores = _scores(x[...], y[...], inverse, first, pl.program_id(0), j, m, exclude)
  sums[...] += _weighed(scores, lses[0][:, :1] if of_x else None, lses[-1][...] if of_y else None, y[...])

  @pl.when(j == pl.num_programs(1) - 1)
  def _():
    gradient[...] = sums[...]


def _lse_twin(inverse, first, x, y, *, m, exclude):
  """Does what `_lse_kernel` does."""

  def of_rows(i, x):
    def visit(j, sums):
      scores = _scores(x, _cut(y, j, COLUMNS), inverse, first, i, j, m, exclude)
      return _absorb(scores, *sums)

    peak, total = lax.fori_loop(
        0, len(y) // COLUMNS, visit, (jnp.full_like(x[:, :1], LOWEST), jnp.zeros_like(x[:, :1])))
    return jnp.broadcast_to(peak + jnp.log(total), (ROWS, LANES))

  return _over_rows(of_rows, x)


def _gradient_twin(inverse, first, x, y, *lses, m, exclude, of_x, of_y):
  """Does what `_gradient_kernel` does."""

  def of_rows(i, x, *own):
    def visit(j, sums):
      y_block = _cut(y, j, COLUMNS)
      scores = _scores(x, y_block, inverse, first, i, j, m, exclude)
      y_lse = _cut(lses[-1], j, COLUMNS, axis=1) if of_y else None
      return sums + _weighed(scores, own[0][:, :1] if own else None, y_lse, y_block)

    return lax.fori_loop(0, len(y) // COLUMNS, visit, jnp.zeros_like(x))

  return _over_rows(of_rows, x, *lses[:of_x])


def _cut(array, i, size, axis=0):
  return lax.dynamic_slice_in_dim(array, i * size, size, axis)


def _over_rows(function, *arrays):
  """Returns `function(number of the block, *rows)` of every block of rows, joined."""
  cut = [each.reshape(-1, ROWS, each.shape[1]) for each in arrays]
  found = lax.map(lambda block: function(*block), (jnp.arange(len(cut[0])), *cut))
  return found.reshape(-1, found.shape[2])


def _scores(x, y, inverse, first, i, j, m, exclude):
  """Returns the scores of block i of rows with block j of columns; minus infinity beyond m columns, and of itself."""
  products = lax.dot_general(
      x, y, (((1,), (1,)), ((), ())), precision=lax.Precision.HIGHEST, preferred_element_type=jnp.float32)
  column = j * COLUMNS + lax.broadcasted_iota(jnp.int32, (ROWS, COLUMNS), 1)
  present = column < m
  if exclude:
    row = i * ROWS + lax.broadcasted_iota(jnp.int32, (ROWS, COLUMNS), 0) + first[0, 0]
    present = present & (row != column)
  return jnp.where(present, products * inverse[0, 0], -jnp.inf)


def _absorb(scores, peak, total):
  """Takes a block of scores into the rows' log-sum-exps, peak + log(total), [ROWS, 1] each."""
  after = jnp.maximum(peak, jnp.max(scores, axis=1, keepdims=True))
  return after, total * jnp.exp(peak - after) + jnp.sum(jnp.exp(scores - after), axis=1, keepdims=True)


def _weighed(scores, x_lse, y_lse, y):
  """Returns the sums of y's rows, weighed by each row's softmax and by each column's, of those that have one."""
  parts = [jnp.exp(scores - lse) for lse in (x_lse, y_lse) if lse is not None]
  return jnp.dot(
      functools.reduce(jnp.add, parts), y, precision=lax.Precision.HIGHEST, preferred_element_type=jnp.float32)


def _call(kernel, twin, shape, blocks, specs, scratch, inverse, first):
  scalar = pl.BlockSpec(memory_space=pltpu.SMEM)
  call = pl.pallas_call(
      kernel,
      grid=(shape[0] // ROWS, blocks[1].shape[0] // COLUMNS),
      in_specs=[scalar, scalar, *specs],
      out_specs=_row_spec(shape[1]),
      out_shape=jax.ShapeDtypeStruct(
          shape, jnp.float32, manual_axis_type=jax.typeof(blocks[0]).manual_axis_type),
      scratch_shapes=[pltpu.VMEM(each, jnp.float32) for each in scratch],
      compiler_params=pltpu.CompilerParams(dimension_semantics=('parallel', 'arbitrary')),
      interpret=INTERPRET)
  first = jnp.zeros_like(inverse, jnp.int32) if first is None else first
  scalars = jnp.reshape(inverse, (1, 1)), jnp.reshape(first, (1, 1)).astype(jnp.int32)
  if INTERPRET:
    return call(*scalars, *blocks)
  return lax.platform_dependent(*scalars, *blocks, tpu=call, default=twin)


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
