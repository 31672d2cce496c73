"""Log-sum-exps of all pairs' scores, and their gradients, as Mosaic GPU kernels for Hopper: no score leaves the chip.

Experimental, and never chosen by itself: the kernels lower for CUDA, and their steps are right in Pallas's interpreter,
but they have not run on a GPU. Anywhere else than on a GPU, loops of the same blocks in the same order stand in.

Products are of bfloat16 numbers, summed in float32, as tensor cores take them: scores are rounded as bfloat16
embeddings round them, about 1 / 256 of 1 / temperature. Scores are in bits: the embeddings are scaled by the root of
log2(e) / temperature, so that a product needs no further factor before its exp2.

A thread block has two warpgroups, which take 64 rows each, and one that loads; the rows stay, the columns' blocks pass
by, in the order of `_tiles.all_pairs`. A unit is N^2 d FLOPs: 2 for the log-sum-exps, 4 for a gradient.
"""

import functools
import inspect
import math

import jax
import jax.numpy as jnp
from jax import lax
from jax.experimental import pallas as pl
from jax.experimental.pallas import mosaic_gpu as plgpu

from jaxssl.losses._tiles import LOWEST

WARPGROUPS, ROWS = 2, 64  # That compute; of each.
WIDTH = 64  # Embeddings are filled up to a multiple: 128 bytes, what one swizzled row of shared memory holds.
LARGEST_WIDTH = 256  # A gradient of 64 rows stays in a warpgroup's registers.
LOG2_E = math.log2(math.e)
LAYOUT = plgpu.Layout.WGMMA
LOAD_TAKES_INDEX = 'idx' in inspect.signature(plgpu.load).parameters  # In JAX 0.10, not in 0.12.
TRANSFORMS = (plgpu.TilingTransform((8, WIDTH)), plgpu.SwizzleTransform(128))


def row_lse(x: jax.Array, y: jax.Array, inverse: jax.Array, first: jax.Array | None = None) -> jax.Array:
  """Returns log sum_j exp(inverse * x_i . y_j) of x [n, d] and y [m, d], d at most 256: [n].

  With `first`, row i of x is row `first` + i of y, and no candidate of itself.
  """
  x_scale, y_scale = _scales(inverse)
  x_blocks, y_blocks = _blocks(x * x_scale, WARPGROUPS * ROWS), _blocks(y * y_scale, _columns(x.shape[1]))
  arrays = _first(first, inverse), x_blocks, y_blocks, _absent(y, y_blocks)
  return _on_platform(_lse_kernel, _lse_twin, arrays, first is not None)[:len(x)] / LOG2_E


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
  x_blocks, y_blocks = _blocks(x * x_scale, WARPGROUPS * ROWS), _blocks(y * y_scale, _columns(x.shape[1]))
  never = lambda z, blocks: jnp.full_like(z[:, 0], jnp.inf, shape=len(blocks))  # A weight of exp2(-inf).
  in_bits = lambda lse, z, blocks: never(z, blocks) if lse is None else never(z, blocks).at[:len(lse)].set(lse * LOG2_E)
  arrays = (_first(first, inverse), x_blocks, y_blocks, _absent(y, y_blocks),
            in_bits(x_lse, x, x_blocks), in_bits(y_lse, y, y_blocks))
  return _on_platform(_gradient_kernel, _gradient_twin, arrays, first is not None)[:len(x), :x.shape[1]] / y_scale


def rounded(z: jax.Array, inverse: jax.Array) -> jax.Array:
  """Returns embeddings as the kernels see them, rounded; the gradient passes as if they were not."""
  scale, _ = _scales(inverse)
  return z + lax.stop_gradient((z * scale).astype(jnp.bfloat16).astype(jnp.float32) / scale - z)


def _scales(inverse):
  """Returns what to scale the two sides of a product by, to make it a score in bits."""
  scale = jnp.sqrt(jnp.abs(inverse) * LOG2_E)
  return scale, jnp.sign(inverse) * scale


def _absorb(scores, absent, peak, total):
  """Takes a block of scores [ROWS, columns] into the rows' log-sum-exps, peak + log2(total), [ROWS] each."""
  scores += lax.broadcast_in_dim(absent, scores.shape, (1,))
  after = jnp.maximum(peak, jnp.max(scores, axis=1))
  terms = jnp.exp2(scores - lax.broadcast_in_dim(after, scores.shape, (0,)))
  return after, total * jnp.exp2(peak - after) + jnp.sum(terms, axis=1)


def _weights(scores, absent, x_lse, y_lse):
  """Returns each row's softmax plus each column's, in bfloat16: the weights of y's rows in the gradient."""
  of_row = jnp.exp2(scores + lax.broadcast_in_dim(absent, scores.shape, (1,))
                    - lax.broadcast_in_dim(x_lse, scores.shape, (0,)))
  return (of_row + jnp.exp2(scores - lax.broadcast_in_dim(y_lse, scores.shape, (1,)))).astype(jnp.bfloat16)


def _lse_kernel(first, x, y, absent, *, exclude):
  (n, d), m, columns = x.shape, len(y), _columns(x.shape[1])

  def kernel(first_ref, x_ref, y_ref, absent_ref, lse_ref, x_all, lse_all, loaded):
    group, base = lax.axis_index('warpgroup'), _base()
    x_own, lse_own = x_all.at[group], lse_all.at[group]

    def context(run):
      _load(x_ref, x_own, base, loaded.at[group])
      row = base + first_ref[0]
      peak, total, _ = run((_rows(LOWEST), _rows(0.0), row))
      lse_own[...] = peak + jnp.log2(total)
      _store(lse_own, lse_ref, base)

    def step(index, y_block, absent_block, carry):
      peak, total, row = carry
      scores = _scores(x_own, y_block, row, index[0] * columns, exclude)
      return *_absorb(scores, _of_columns(absent_block), peak, total), row

    _pipeline(step, context, m, d, vectors=1)(y_ref, absent_ref)

  scratch = [plgpu.SMEM((WARPGROUPS, ROWS), jnp.float32)]
  return _call(kernel, x, (n,), scratch)(first, x, y, absent)


def _gradient_kernel(first, x, y, absent, x_lse, y_lse, *, exclude):
  (n, d), m, columns = x.shape, len(y), _columns(x.shape[1])

  def kernel(first_ref, x_ref, y_ref, absent_ref, x_lse_ref, y_lse_ref, gradient_ref, x_all, lse_all, loaded):
    group, base = lax.axis_index('warpgroup'), _base()
    x_own, lse_own = x_all.at[group], lse_all.at[group]

    def context(run):
      _load(x_ref, x_own, base, loaded.at[group])
      _load(x_lse_ref, lse_own, base, loaded.at[group])
      row = base + first_ref[0]

      def accumulate(sums):
        run((sums, _vector(lse_own, 1), row))
        return sums[...]

      gradient_ref.at[pl.ds(base, ROWS)][...] = pl.run_scoped(accumulate, plgpu.ACC((ROWS, d), jnp.float32))

    def step(index, y_block, absent_block, y_lse_block, carry):
      sums, lse, row = carry
      scores = _scores(x_own, y_block, row, index[0] * columns, exclude)
      plgpu.wgmma(sums, _weights(scores, _of_columns(absent_block), lse, _of_columns(y_lse_block)), y_block)
      plgpu.wgmma_wait(0)
      return carry

    _pipeline(step, context, m, d, vectors=2)(y_ref, absent_ref, y_lse_ref)

  scratch = [plgpu.SMEM((WARPGROUPS, ROWS), jnp.float32)]
  return _call(kernel, x, (n, d), scratch)(first, x, y, absent, x_lse, y_lse)


def _base():
  """Returns the first row of this warpgroup."""
  return (lax.axis_index('rows') * WARPGROUPS + lax.axis_index('warpgroup')) * ROWS


def _rows(value):
  return plgpu.layout_cast(jnp.full((ROWS,), value, jnp.float32), LAYOUT.reduce(1))


def _of_columns(block):
  return _vector(block, 0)


def _vector(ref, axis):
  """Loads a vector as what a reduction of a tile's `axis` leaves."""
  return plgpu.load(ref, *([()] if LOAD_TAKES_INDEX else []), layout=LAYOUT.reduce(axis))


def _load(source, target, base, loaded):
  plgpu.copy_gmem_to_smem(source.at[pl.ds(base, ROWS)], target, loaded)
  plgpu.barrier_wait(loaded)


def _store(source, target, base):
  plgpu.commit_smem()
  plgpu.copy_smem_to_gmem(source, target.at[pl.ds(base, ROWS)])
  plgpu.wait_smem_to_gmem(0)


def _scores(x, y, row, column, exclude):
  """Returns the scores of x [ROWS, d] with a block of y; minus infinity where a row meets itself."""
  shape = len_x, len_y = x.shape[0], y.shape[0]

  def product(sums):
    plgpu.wgmma(sums, x, plgpu.transpose_ref(y, (1, 0)))
    return sums[...]

  scores = pl.run_scoped(product, plgpu.ACC(shape, jnp.float32))
  if not exclude:
    return scores
  index = lambda axis: plgpu.broadcasted_iota(jnp.int32, shape, axis, layout=LAYOUT)
  meet = (row < column + len_y) & (column < row + len_x)
  hide = lambda: jnp.where(index(0) + row == index(1) + column, -jnp.inf, scores)
  return lax.cond(meet, hide, lambda: scores)


def _pipeline(step, context, m, d, vectors):
  columns = _columns(d)
  return plgpu.emit_pipeline_warp_specialized(
      step,
      grid=(m // columns,),
      max_concurrent_steps=2,
      num_compute_wgs=WARPGROUPS,
      memory_registers=40,
      wg_axis='warpgroup',
      compute_context=context,
      in_specs=[plgpu.BlockSpec((columns, d), lambda j: (j, 0), transforms=TRANSFORMS),
                *[plgpu.BlockSpec((columns,), lambda j: (j,))] * vectors])


def _call(kernel, x, shape, scratch):
  """Returns the function that runs `kernel`; what it finds is marked as varying like x, which plgpu.kernel forgets."""
  n, d = x.shape
  axes = tuple(jax.typeof(x).manual_axis_type.varying)
  run = plgpu.kernel(
      kernel,
      out_type=jax.ShapeDtypeStruct(shape, jnp.float32),
      scratch_types=[plgpu.SMEM((WARPGROUPS, ROWS, d), jnp.bfloat16, transforms=TRANSFORMS), *scratch,
                     plgpu.Barrier(num_barriers=WARPGROUPS)],
      grid=(n // (WARPGROUPS * ROWS),),
      grid_names=('rows',),
      num_threads=WARPGROUPS + 1,
      thread_name='warpgroup',
      compiler_params=plgpu.CompilerParams(approx_math=True))
  return lambda *arrays: lax.pcast(run(*arrays), axes, to='varying')


def _lse_twin(first, x, y, absent, *, exclude):
  def of_rows(row, x):
    def visit(j, sums):
      scores, of_columns = _twin_scores(x, y, row, first, j, exclude)
      return _absorb(scores, of_columns(absent), *sums)

    start = jnp.full_like(x[:, 0], LOWEST, jnp.float32), jnp.zeros_like(x[:, 0], jnp.float32)
    peak, total = lax.fori_loop(0, len(y) // _columns(y.shape[1]), visit, start)
    return peak + jnp.log2(total)

  return _over_rows(of_rows, x)


def _gradient_twin(first, x, y, absent, x_lse, y_lse, *, exclude):
  def of_rows(row, x, x_lse):
    def visit(j, sums):
      scores, of_columns = _twin_scores(x, y, row, first, j, exclude)
      weights = _weights(scores, of_columns(absent), x_lse, of_columns(y_lse))
      return sums + jnp.dot(weights, of_columns(y), preferred_element_type=jnp.float32)

    return lax.fori_loop(0, len(y) // _columns(y.shape[1]), visit, jnp.zeros_like(x, jnp.float32))

  return _over_rows(of_rows, x, x_lse)


def _twin_scores(x, y, row, first, j, exclude):
  columns = _columns(y.shape[1])
  of_columns = lambda each: lax.dynamic_slice_in_dim(each, j * columns, columns)
  scores = jnp.dot(x, of_columns(y).T, preferred_element_type=jnp.float32)
  if exclude:
    own, other = (lax.broadcasted_iota(jnp.int32, scores.shape, axis) for axis in (0, 1))
    scores = jnp.where(own + row + first[0] == other + j * columns, -jnp.inf, scores)
  return scores, of_columns


def _over_rows(function, *arrays):
  """Returns `function(first row, *rows)` of every 64 rows, joined."""
  blocks = [each.reshape(-1, ROWS, *each.shape[1:]) for each in arrays]
  found = lax.map(lambda block: function(*block), (jnp.arange(len(blocks[0])) * ROWS, *blocks))
  return found.reshape(-1, *found.shape[2:])


def _on_platform(kernel, twin, arrays, exclude):
  return lax.platform_dependent(
      *arrays, cuda=functools.partial(kernel, exclude=exclude), default=functools.partial(twin, exclude=exclude))


def _blocks(z, rows):
  """Returns z in bfloat16, with zeros up to whole blocks of rows and of width."""
  n, d = z.shape
  if d > LARGEST_WIDTH:
    raise ValueError(
        f"implementation='mosaic_gpu' takes embeddings of up to {LARGEST_WIDTH} values, got {d}: choose 'dense', "
        "'tiled' or 'ring'")
  return jnp.pad(z.astype(jnp.bfloat16), ((0, -n % rows), (0, -d % WIDTH)))


def _columns(d):
  """Returns how many columns a block of scores has: with wide embeddings fewer, to leave registers for the gradient."""
  return 128 if d <= 128 else 64


def _absent(y, blocks):
  """Returns what to add to the scores of each row of `blocks`: minus infinity if it only fills up."""
  return jnp.zeros_like(y[:, 0], jnp.float32, shape=len(blocks)).at[len(y):].set(-jnp.inf)


def _first(first, inverse):
  return jnp.reshape(jnp.zeros_like(inverse, jnp.int32) if first is None else first, (1,)).astype(jnp.int32)
