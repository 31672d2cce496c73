"""Runs the Mosaic GPU kernels in Pallas's interpreter of GPUs, beside what stands in for them elsewhere.

The interpreter knows warpgroups, barriers, asynchronous copies and shared memory, so it finds a wrong address, a
missing barrier or a block taken twice. It knows no register layouts, nor products whose left side is in registers or
whose right side is turned: layouts are left out here, and such products are added. Prints a line for each comparison.
"""

import functools
import os

os.environ['XLA_FLAGS'] = '--xla_force_host_platform_device_count=8'  # The interpreter's threads wait for each other.

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax._src.pallas.mosaic_gpu.interpret import gpu_callbacks, params
from jax._src.state.types import TransposeTransform
from jax.experimental.pallas import mosaic_gpu as plgpu

from jaxssl.losses import _mosaic_gpu, _mosaic_gpu_pairs


def wgmma(
    *, token, device_id, thread_id, acc_allocation_key_as_array, a_allocation_key_as_array, a_transforms,
    b_allocation_key_as_array, b_transforms, **_):
  """sums += a @ b, each an array or a buffer's key."""
  memory = gpu_callbacks._get_shared_memory()
  thread = memory.get_global_thread_id(int(device_id), int(thread_id))

  def read(value, transforms):
    value = np.asarray(value)
    if value.ndim == 2:  # In registers.
      return value.astype(np.float32)
    turned = any(isinstance(each, TransposeTransform) for each in transforms)
    kept = [each for each in transforms if not isinstance(each, (TransposeTransform, *gpu_callbacks.NOOP_TRANSFORMS))]
    where = gpu_callbacks.interpret_utils.to_range(jax.tree.map(int, tuple(kept)))
    key = gpu_callbacks.HostAllocationKey.from_array(value)
    found, _, clock = memory.get_buffer_content(key, where, thread, logging_info=None)
    gpu_callbacks.get_races().check_read(int(device_id), int(thread_id), clock, key, where)
    return found.astype(np.float32).T if turned else found.astype(np.float32)

  product = read(a_allocation_key_as_array, a_transforms) @ read(b_allocation_key_as_array, b_transforms)
  sums = gpu_callbacks.HostAllocationKey.from_array(acc_allocation_key_as_array)
  before = memory.get_buffer_content(sums, (), thread, logging_info=None)[0]
  memory.store_buffer_content(sums, (), before + product, thread, logging_info=None)
  return token


def compare(name, function, *arguments):
  expected = function(*arguments)
  on_platform = _mosaic_gpu._on_platform
  _mosaic_gpu._on_platform = lambda kernel, twin, arrays, **static: kernel(*arrays, **static)
  with params.force_gpu_interpret_mode(params.InterpretGPUParams(detect_races=True)):
    found = function(*arguments)
  assert not gpu_callbacks.get_races().races_found
  _mosaic_gpu._on_platform = on_platform
  for ours, theirs in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
    np.testing.assert_allclose(ours, theirs, atol=2e-6 * float(jnp.abs(theirs).max()))
  print(f'{name}: equal')


def main():
  plgpu.load = lambda ref, *index, layout: ref[...]
  plgpu.layout_cast = lambda x, layout: x
  plgpu.broadcasted_iota = lambda dtype, shape, axis, layout: lax.broadcasted_iota(dtype, shape, axis)
  gpu_callbacks.wgmma = wgmma
  for n, m, d in ((150, 300, 20), (70, 130, 140)):  # Two thread blocks and three of columns; narrow blocks of columns.
    x, y = (jax.random.normal(jax.random.key(rows), (rows, d)) / np.sqrt(d) for rows in (n, m))
    y = y.at[7:7 + n].set(x[:m - 7])
    x_lse, y_lse, inverse = jnp.linspace(3, 5, n), jnp.linspace(4, 6, m), jnp.float32(5)
    compare('lse', _mosaic_gpu.row_lse, x, y, inverse)
    compare('lse, itself', _mosaic_gpu.row_lse, x, y, inverse, jnp.int32(7))
    compare('gradient', _mosaic_gpu.row_gradient, x, y, inverse, x_lse, y_lse, jnp.int32(7))
    compare('of columns', _mosaic_gpu.row_gradient, x, y, inverse, None, y_lse)
    compare('pairs', functools.partial(_mosaic_gpu._pair_lse, itself=False), x, y, inverse)
  _mosaic_gpu_pairs.WALKERS = 2  # Each thread block walks more panels than one.
  for n in (100, 200, 600):  # One panel; two, opposite each other; five.
    x = jax.random.normal(jax.random.key(n), (n, 20)) / np.sqrt(20)
    compare('pairs of x', functools.partial(_mosaic_gpu._pair_lse, itself=True), x, x, jnp.float32(-3))


if __name__ == '__main__':
  main()
