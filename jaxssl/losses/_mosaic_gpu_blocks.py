"""What the Mosaic GPU kernels share: the size of a block, layouts, and steps of a warpgroup.

A thread block has two warpgroups that compute, of 64 rows each, and one that loads.
"""

import inspect

import jax
import jax.numpy as jnp
from jax import lax
from jax.experimental import pallas as pl
from jax.experimental.pallas import mosaic_gpu as plgpu

WARPGROUPS, ROWS = 2, 64  # That compute; of each.
BLOCK = WARPGROUPS * ROWS
WIDTH = 64  # Embeddings are filled up to a multiple: 128 bytes, what one swizzled row of shared memory holds.
LAYOUT = plgpu.Layout.WGMMA
TRANSFORMS = (plgpu.TilingTransform((8, WIDTH)), plgpu.SwizzleTransform(128))
# Blocks on the way; who computes; registers of the warpgroup that loads, the fewer the more for those that compute.
PIPELINE = {'max_concurrent_steps': 2, 'num_compute_wgs': WARPGROUPS, 'wg_axis': 'warpgroup', 'memory_registers': 40}
LOAD_TAKES_INDEX = 'idx' in inspect.signature(plgpu.load).parameters  # In JAX 0.10, not in 0.12.


def full(shape, value, layout=LAYOUT):
  """Returns an array of `value`, float32, in registers."""
  return plgpu.layout_cast(jnp.full(shape, value, jnp.float32), layout)


def vector(ref, axis):
  """Loads a vector as what a reduction of a tile's `axis` leaves."""
  return plgpu.load(ref, *([()] if LOAD_TAKES_INDEX else []), layout=LAYOUT.reduce(axis))


def product(x, y):
  """Returns x [k, d] @ y [l, d].T, float32 [k, l], of two blocks in shared memory."""

  def multiply(sums):
    plgpu.wgmma(sums, x, plgpu.transpose_ref(y, (1, 0)))
    return sums[...]

  return pl.run_scoped(multiply, plgpu.ACC((x.shape[0], y.shape[0]), jnp.float32))


def indices(shape):
  """Returns the row and the column of each place of a tile."""
  return tuple(plgpu.broadcasted_iota(jnp.int32, shape, axis, layout=LAYOUT) for axis in (0, 1))


def launch(kernel, like, found, scratch, thread_blocks):
  """Returns the function that runs `kernel`; `found` tells what it finds.

  That is marked as varying as `like` is, which plgpu.kernel forgets.
  """
  axes = tuple(jax.typeof(like).manual_axis_type.varying)
  run = plgpu.kernel(
      kernel,
      out_type=found,
      scratch_types=scratch,
      grid=(thread_blocks,),
      grid_names=('thread_block',),
      num_threads=WARPGROUPS + 1,
      thread_name='warpgroup',
      compiler_params=plgpu.CompilerParams(approx_math=True))

  def call(*arrays):
    with jax.enable_x64(False):  # Indices have 32 bits, and so have the numbers that they meet.
      return jax.tree.map(lambda each: lax.pcast(each, axes, to='varying'), run(*arrays))

  return call
