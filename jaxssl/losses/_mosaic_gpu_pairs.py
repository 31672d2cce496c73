"""A Mosaic GPU kernel whose exponentials serve both sides of a pair; a loop of the same blocks stands in elsewhere.

A panel of 128 rows of y stays, in both warpgroups, while blocks of 128 rows of x pass by, 64 to each warpgroup. Sums of
the panel's rows stay in registers, one for each place of a tile, until the panel leaves; sums of the passing rows are
added to what the thread block has found for them before, in memory. Each thread block has sums of its own there, as it
walks panels one after another: nothing is added by two of them, so what is found does not depend on which is faster.

When x is y, a panel meets itself, and then the blocks after it up to half way around the circle, as in
`_tiles.off_diagonal`, but a block with the panel opposite twice, once for either side. A unit is N^2 d FLOPs: 1 for the
sums of x with itself, 2 for those of x and y.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jax.experimental import pallas as pl
from jax.experimental.pallas import mosaic_gpu as plgpu

from jaxssl.losses import _mosaic_gpu_blocks as blocks
from jaxssl.losses._mosaic_gpu_blocks import BLOCK, ROWS, WARPGROUPS

WALKERS = 132  # Thread blocks, at most: an H100 has that many multiprocessors. Each keeps N sums, in float32.


class _Walk(NamedTuple):
  """Which blocks of x a panel of y meets, and which of their pairs of rows count."""

  n: int  # Rows of x that are not there to fill up.
  m: int  # Of y.
  passing: int  # Blocks of x.
  panels: int  # Blocks of y.
  itself: bool  # x is y.

  @property
  def walkers(self):
    return min(self.panels, WALKERS)

  @property
  def steps(self):
    return self.passing // 2 + 1 if self.itself else self.passing

  def block(self, panel, t):
    """Returns the block that a panel meets in step t."""
    return lax.rem(panel + t, jnp.int32(self.passing)) if self.itself else t

  def serves_x(self, t):
    """Returns 1 if the terms are new to the passing rows too, 0 if they are, or will be, these rows' as a panel's."""
    return jnp.where((t > 0) & (2 * t < self.passing), 1.0, 0.0) if self.itself else 1.0

  def all_count(self, panel, t, row):
    """Returns whether all rows from `row` on, of the block in step t, count with all of the panel's."""
    inside = (row + ROWS <= self.n) & (panel * BLOCK + BLOCK <= self.m)
    return inside & (t > 0) if self.itself else inside

  def counted(self, scores, places, panel, row):
    """Returns scores, minus infinity where no pair is; `places` are the indices of a tile."""
    i, j = places[0] + row, places[1] + panel * BLOCK
    nobody = (i >= self.n) | (j >= self.m)
    return jnp.where(nobody | (i == j) if self.itself else nobody, -jnp.inf, scores)


class _Memory(NamedTuple):
  """What a warpgroup has in memory."""

  x_sums: Any  # Sums of all passing rows that its thread block has met, in global memory.
  y_sums: Any  # Sums of all panels' rows over the rows that this warpgroup takes, in global memory.
  before: Any  # Sums of the passing rows before a step,
  after: Any  # and after it,
  leaving: Any  # and of a panel, in shared memory.
  fetched: Any  # Barrier of `before`.

  def clear(self, passing):
    self.after[...] = blocks.full((ROWS,), 0.0, blocks.LAYOUT.reduce(1))
    plgpu.commit_smem()

    @pl.loop(0, passing)
    def _(block):
      plgpu.copy_smem_to_gmem(self.after, self.x_sums.at[pl.ds(_own(block), ROWS)])

  def fetch(self, row):
    plgpu.copy_gmem_to_smem(self.x_sums.at[pl.ds(row, ROWS)], self.before, self.fetched)

  def add(self, sums, row):
    plgpu.barrier_wait(self.fetched)
    self.after[...] = blocks.vector(self.before, 1) + sums
    plgpu.commit_smem()
    plgpu.copy_smem_to_gmem(self.after, self.x_sums.at[pl.ds(row, ROWS)])

  def store(self, sums, panel):
    self.leaving[...] = sums
    plgpu.commit_smem()
    plgpu.copy_smem_to_gmem(self.leaving, self.y_sums.at[pl.ds(panel * BLOCK, BLOCK)])


def sums_kernel(scale, x, y, *, n, m, itself):
  """Returns sum_j exp2(sign * x_i . y_j - shift) of each row of x, and of each of y: float32, one a padded row.

  `scale` is sign and shift. Only the first n rows of x and m of y count; with `itself` x is y, a row does not meet
  itself, and the sums of a row are those as one of x and as one of y, added.
  """
  walk, d = _Walk(n, m, len(x) // BLOCK, len(y) // BLOCK, itself), x.shape[1]

  def pair_sums(scale_ref, x_ref, y_ref, x_sums, y_sums, panel_rows, before, after, leaving, fetched, loaded, free):
    walker, group = lax.axis_index('thread_block'), lax.axis_index('warpgroup')
    memory = _Memory(x_sums.at[walker], *(each.at[group] for each in (y_sums, before, after, leaving, fetched)))
    panel_at = lambda visit: walker + visit * walk.walkers

    def context(run):
      memory.clear(walk.passing)
      run((blocks.full((ROWS, BLOCK), 0.0), scale_ref[0], scale_ref[1]))
      plgpu.wait_smem_to_gmem(0)

    def step(index, x_block, carry):
      (sums, sign, shift), panel, t = carry, panel_at(index[0]), index[1]
      row = _own(walk.block(panel, t))
      plgpu.wait_smem_to_gmem(0)  # Sums of the step before are stored.
      pl.when(t == 0)(lambda: _enter(y_ref, panel_rows, panel, loaded, free))
      memory.fetch(row)
      scores = blocks.product(x_block.at[pl.ds(group * ROWS, ROWS)], panel_rows) * sign - shift
      counted = lambda: walk.counted(scores, blocks.indices(scores.shape), panel, row)
      terms = jnp.exp2(lax.cond(walk.all_count(panel, t, row), lambda: scores, counted))
      memory.add(jnp.sum(terms, axis=1) * walk.serves_x(t), row)
      sums += terms
      return lax.cond(t == walk.steps - 1, lambda: leave(sums, panel), lambda: sums), sign, shift

    def leave(sums, panel):
      memory.store(jnp.sum(sums, axis=0), panel)
      return blocks.full(sums.shape, 0.0)

    visits = (walk.panels - walker + walk.walkers - 1) // walk.walkers
    x_spec = plgpu.BlockSpec(
        (BLOCK, d), lambda visit, t: (walk.block(panel_at(visit), t), 0), transforms=blocks.TRANSFORMS)
    plgpu.emit_pipeline_warp_specialized(
        step, grid=(visits, walk.steps), compute_context=context, in_specs=[x_spec], **blocks.PIPELINE)(x_ref)

  vectors = [plgpu.SMEM((WARPGROUPS, size), jnp.float32) for size in (ROWS, ROWS, BLOCK)]
  barriers = [plgpu.Barrier(num_barriers=WARPGROUPS), *[plgpu.Barrier(num_arrivals=WARPGROUPS)] * 2]
  scratch = [plgpu.SMEM((BLOCK, d), jnp.bfloat16, transforms=blocks.TRANSFORMS), *vectors, *barriers]
  found = [jax.ShapeDtypeStruct(shape, jnp.float32) for shape in ((walk.walkers, len(x)), (WARPGROUPS, len(y)))]
  return _joined(blocks.launch(pair_sums, x, found, scratch, walk.walkers)(scale, x, y), itself)


def _own(block):
  """Returns the first row of a block that is this warpgroup's."""
  return block * BLOCK + lax.axis_index('warpgroup') * ROWS


def _enter(y_ref, panel_rows, panel, loaded, free):
  """Loads a panel, half of it in each warpgroup, when neither needs the one before."""
  plgpu.barrier_arrive(free)
  plgpu.barrier_wait(free)
  half = pl.ds(lax.axis_index('warpgroup') * ROWS, ROWS)
  plgpu.copy_gmem_to_smem(y_ref.at[pl.ds(_own(panel), ROWS)], panel_rows.at[half], loaded)
  plgpu.barrier_wait(loaded)


def sums_twin(scale, x, y, *, n, m, itself):
  """Does what `sums_kernel` does."""
  walk = _Walk(n, m, len(x) // BLOCK, len(y) // BLOCK, itself)
  sign, shift = scale

  def visit(s, found):
    (x_sums, y_sums), (panel, t) = found, (s // walk.steps, s % walk.steps)
    row, column = walk.block(panel, t) * BLOCK, panel * BLOCK
    of = lambda each, start: lax.dynamic_slice_in_dim(each, start, BLOCK)
    scores = jnp.dot(of(x, row), of(y, column).T, preferred_element_type=jnp.float32) * sign - shift
    places = tuple(lax.broadcasted_iota(jnp.int32, scores.shape, axis) for axis in (0, 1))
    terms = jnp.exp2(walk.counted(scores, places, panel, row))
    of_x = jnp.sum(terms, axis=1) * walk.serves_x(t)
    of_y = jnp.sum(terms.reshape(WARPGROUPS, ROWS, BLOCK), axis=1)
    return _add(x_sums, of_x[None], (panel % walk.walkers, row)), _add(y_sums, of_y, (jnp.int32(0), column))

  nothing = lambda like, count: jnp.zeros_like(like, jnp.float32, shape=(count, len(like)))
  steps = jnp.int32(walk.panels * walk.steps)
  found = lax.fori_loop(jnp.int32(0), steps, visit, (nothing(x, walk.walkers), nothing(y, WARPGROUPS)))
  return _joined(found, itself)


def _add(sums, block, where):
  before = lax.dynamic_slice(sums, where, block.shape)
  return lax.dynamic_update_slice(sums, before + block, where)


def _joined(found, itself):
  of_x, of_y = (jnp.sum(sums, axis=0) for sums in found)
  return of_x + of_y if itself else (of_x, of_y)
