"""The Mosaic GPU kernels that meet every row of x with every row of y; loops of the same blocks stand in elsewhere.

The rows stay, 64 in each of a thread block's two warpgroups; the columns' blocks pass by, in the order of
`_tiles.all_pairs`. A unit is N^2 d FLOPs: 2 for the log-sum-exps, 4 for a gradient.
"""

import jax
import jax.numpy as jnp
from jax import lax
from jax.experimental import pallas as pl
from jax.experimental.pallas import mosaic_gpu as plgpu

from jaxssl.losses import _mosaic_gpu_blocks as blocks
from jaxssl.losses._mosaic_gpu_blocks import BLOCK, ROWS, WARPGROUPS
from jaxssl.losses._tiles import LOWEST


def columns(d):
  """Returns how many columns a block of scores has: with wide embeddings fewer, to leave registers for the gradient."""
  return 128 if d <= 128 else 64


def lse_kernel(first, x, y, absent, *, exclude):
  """Returns each row's log-sum-exp in bits, [n]; `absent` [m] is added to its scores. `exclude` as in `_pick`."""
  (n, d), m, width = x.shape, len(y), columns(x.shape[1])

  def row_lse(first_ref, x_ref, y_ref, absent_ref, lse_ref, x_all, lse_all, loaded):
    group, base = lax.axis_index('warpgroup'), _base()
    x_own, lse_own = x_all.at[group], lse_all.at[group]

    def context(run):
      _load(x_ref, x_own, base, loaded.at[group])
      row = base + first_ref[0]
      of_row = lambda value: blocks.full((ROWS,), value, blocks.LAYOUT.reduce(1))
      peak, total, _ = run((of_row(LOWEST), of_row(0.0), row))
      lse_own[...] = peak + jnp.log2(total)
      plgpu.commit_smem()
      plgpu.copy_smem_to_gmem(lse_own, lse_ref.at[pl.ds(base, ROWS)])
      plgpu.wait_smem_to_gmem(0)

    def step(index, y_block, absent_block, carry):
      peak, total, row = carry
      scores = _scores(x_own, y_block, row, index[0] * width, exclude)
      return *_absorb(scores, blocks.vector(absent_block, 0), peak, total), row

    _pipeline(step, context, m, d, vectors=1)(y_ref, absent_ref)

  return _call(row_lse, x, (n,))(first, x, y, absent)


def gradient_kernel(first, x, y, absent, x_lse, y_lse, *, exclude):
  """Returns the sums over y of softmax times row, [n, d]: of each row's softmax and each column's, added."""
  (n, d), m, width = x.shape, len(y), columns(x.shape[1])

  def row_gradient(first_ref, x_ref, y_ref, absent_ref, x_lse_ref, y_lse_ref, gradient_ref, x_all, lse_all, loaded):
    group, base = lax.axis_index('warpgroup'), _base()
    x_own, lse_own = x_all.at[group], lse_all.at[group]

    def context(run):
      _load(x_ref, x_own, base, loaded.at[group])
      _load(x_lse_ref, lse_own, base, loaded.at[group])
      row = base + first_ref[0]

      def accumulate(sums):
        run((sums, blocks.vector(lse_own, 1), row))
        return sums[...]

      gradient_ref.at[pl.ds(base, ROWS)][...] = pl.run_scoped(accumulate, plgpu.ACC((ROWS, d), jnp.float32))

    def step(index, y_block, absent_block, y_lse_block, carry):
      sums, lse, row = carry
      scores = _scores(x_own, y_block, row, index[0] * width, exclude)
      weights = _weights(scores, blocks.vector(absent_block, 0), lse, blocks.vector(y_lse_block, 0))
      plgpu.wgmma(sums, weights, y_block)
      plgpu.wgmma_wait(0)
      return carry

    _pipeline(step, context, m, d, vectors=2)(y_ref, absent_ref, y_lse_ref)

  return _call(row_gradient, x, (n, d))(first, x, y, absent, x_lse, y_lse)


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


def _base():
  """Returns the first row of this warpgroup."""
  return (lax.axis_index('thread_block') * WARPGROUPS + lax.axis_index('warpgroup')) * ROWS


def _load(source, target, base, loaded):
  plgpu.copy_gmem_to_smem(source.at[pl.ds(base, ROWS)], target, loaded)
  plgpu.barrier_wait(loaded)


def _scores(x, y, row, column, exclude):
  """Returns the scores of x [ROWS, d] with a block of y; with `exclude` minus infinity where a row meets itself."""
  scores = blocks.product(x, y)
  if not exclude:
    return scores
  meet = (row < column + y.shape[0]) & (column < row + x.shape[0])

  def hide():
    i, j = blocks.indices(scores.shape)
    return jnp.where(i + row == j + column, -jnp.inf, scores)

  return lax.cond(meet, hide, lambda: scores)


def _pipeline(step, context, m, d, vectors):
  width = columns(d)
  return plgpu.emit_pipeline_warp_specialized(
      step, grid=(m // width,), compute_context=context, **blocks.PIPELINE,
      in_specs=[plgpu.BlockSpec((width, d), lambda j: (j, 0), transforms=blocks.TRANSFORMS),
                *[plgpu.BlockSpec((width,), lambda j: (j,))] * vectors])


def _call(kernel, x, shape):
  n, d = x.shape
  scratch = [plgpu.SMEM((WARPGROUPS, ROWS, d), jnp.bfloat16, transforms=blocks.TRANSFORMS),
             plgpu.SMEM((WARPGROUPS, ROWS), jnp.float32), plgpu.Barrier(num_barriers=WARPGROUPS)]
  return blocks.launch(kernel, x, jax.ShapeDtypeStruct(shape, jnp.float32), scratch, n // BLOCK)


def lse_twin(first, x, y, absent, *, exclude):
  """Does what `lse_kernel` does."""

  def of_rows(row, x):
    def visit(j, sums):
      scores, of_columns = _twin_scores(x, y, row, first, j, exclude)
      return _absorb(scores, of_columns(absent), *sums)

    start = jnp.full_like(x[:, 0], LOWEST, jnp.float32), jnp.zeros_like(x[:, 0], jnp.float32)
    peak, total = lax.fori_loop(0, len(y) // columns(y.shape[1]), visit, start)
    return peak + jnp.log2(total)

  return _over_rows(of_rows, x)


def gradient_twin(first, x, y, absent, x_lse, y_lse, *, exclude):
  """Does what `gradient_kernel` does."""

  def of_rows(row, x, x_lse):
    def visit(j, sums):
      scores, of_columns = _twin_scores(x, y, row, first, j, exclude)
      weights = _weights(scores, of_columns(absent), x_lse, of_columns(y_lse))
      return sums + jnp.dot(weights, of_columns(y), preferred_element_type=jnp.float32)

    return lax.fori_loop(0, len(y) // columns(y.shape[1]), visit, jnp.zeros_like(x, jnp.float32))

  return _over_rows(of_rows, x, x_lse)


def _twin_scores(x, y, row, first, j, exclude):
  width = columns(y.shape[1])
  of_columns = lambda each: lax.dynamic_slice_in_dim(each, j * width, width)
  scores = jnp.dot(x, of_columns(y).T, preferred_element_type=jnp.float32)
  if exclude:
    own, other = (lax.broadcasted_iota(jnp.int32, scores.shape, axis) for axis in (0, 1))
    scores = jnp.where(own + row + first[0] == other + j * width, -jnp.inf, scores)
  return scores, of_columns


def _over_rows(function, *arrays):
  """Returns `function(first row, *rows)` of every 64 rows, joined."""
  tiles = [each.reshape(-1, ROWS, *each.shape[1:]) for each in arrays]
  found = lax.map(lambda tile: function(*tile), (jnp.arange(len(tiles[0])) * ROWS, *tiles))
  return found.reshape(-1, *found.shape[2:])
