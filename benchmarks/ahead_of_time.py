"""Compiles for an H100, or for a TPU v5e, that is not there: registers, memory, and what does not compile.

  python benchmarks/ahead_of_time.py h100|v5e [--parts kernels losses steps] [--rows N ...] [--configs NAME ...]

Needs no device, but the compiler, which comes with jax[cuda12] or with jax[tpu]. Nothing is run, so nothing is timed,
and XLA chooses algorithms without trying them. 'steps' are those of configs/, at their own batch size on one device,
augmentation included; memory is what the program needs beside its arguments, and the state of the run is among these.
"""

import argparse
import functools
import glob
import os
import pathlib
import re
import sys
import tempfile
import time

H100 = """
gpu_device_info {
  cuda_compute_capability { major: 9 }
  core_count: 132  fpus_per_core: 128  clock_rate_ghz: 1.98
  threads_per_warp: 32  threads_per_block_limit: 1024  threads_per_core_limit: 2048
  block_dim_limit_x: 2147483647  block_dim_limit_y: 65535  block_dim_limit_z: 65535
  registers_per_core_limit: 65536  registers_per_block_limit: 65536
  shared_memory_per_block: 49152  shared_memory_per_block_optin: 232448  shared_memory_per_core: 233472
  memory_bandwidth: 3352320000000  device_memory_size: 84929347584  l2_cache_size: 52428800
}
platform_name: "CUDA"
dnn_version_info { major: 9 minor: 7 }
runtime_version { major: 12 minor: 8 }
device_description_str: "NVIDIA H100 80GB HBM3"
"""
ROOT = pathlib.Path(__file__).parents[1]
SPILLED = r"properties for (\w+)_mosaic_gpu_kernel\s+.*?(\d+) bytes spill stores.*?Used (\d+) registers"


def main():
  parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
  parser.add_argument('device', choices=('h100', 'v5e'))
  parser.add_argument('--parts', nargs='+', choices=PARTS, default=list(PARTS))
  parser.add_argument('--rows', nargs='+', type=int, default=[16384, 65536, 262144, 1048576])
  parser.add_argument('--configs', nargs='+', help='names in configs/; all of images of 28 to 105 pixels if not given')
  args = parser.parse_args()
  with tempfile.TemporaryDirectory() as dumps:
    os.environ.update(
        MOSAIC_GPU_DUMP_PTXAS='1', MOSAIC_GPU_DUMP_TO=dumps, JAX_SKIP_CUDA_CONSTRAINTS_CHECK='1',
        TPU_SKIP_MDS_QUERY='1')
    compiler = Compiler(args.device, dumps)
    for part in args.parts:
      PARTS[part](compiler, args)


class Compiler:
  """Compiles functions of shapes for one device."""

  def __init__(self, device: str, dumps: str):
    import jax
    from jax.experimental import topologies

    from jaxssl.losses import _choice, _tiles

    self.device, self.dumps = device, dumps
    if device == 'h100':
      os.environ['XLA_FLAGS'] = '--xla_gpu_autotune_level=0 --xla_gpu_enable_triton_gemm=false'
      _know_of_gpus()
    described = {'h100': {'platform': 'cuda', 'target_config': H100, 'topology': '1x1x1'},
                 'v5e': {'platform': 'tpu', 'topology_name': 'v5e:2x2'}}
    try:
      topology = topologies.get_topology_desc(**described[device])
    except (NotImplementedError, RuntimeError) as error:
      extra = {'h100': 'jax[cuda12]', 'v5e': 'jax[tpu]'}[device]
      raise SystemExit(f'error: no compiler for {device}: pip install "{extra}" ({error})') from None
    _tiles.TILE.clear()  # Tiles and limits of a CPU.
    _choice.DENSE_SCORES.clear()
    self.kind = topology.devices[0].device_kind
    self.sharding = jax.sharding.SingleDeviceSharding(topology.devices[0])

  def __call__(self, function, *arguments, **jit):
    import jax

    put = lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=self.sharding)
    for file in glob.glob(os.path.join(self.dumps, '*')):
      os.remove(file)
    return jax.jit(function, **jit).lower(*jax.tree.map(put, arguments)).compile()

  def kernels(self):
    """Yields name, registers and bytes spilled of the Mosaic GPU kernels of what was compiled last."""
    for file in sorted(glob.glob(os.path.join(self.dumps, '*.ptxas'))):
      found = re.search(SPILLED, pathlib.Path(file).read_text(), re.DOTALL)
      yield found[1], int(found[3]), int(found[2])


def _know_of_gpus():
  """Lets JAX take 'gpu' for 'cuda' where there is none; it looks among the devices that are there."""
  from jax._src import xla_bridge

  known = xla_bridge.canonicalize_platform
  xla_bridge.canonicalize_platform = lambda platform: 'cuda' if platform in ('gpu', 'cuda') else known(platform)


def kernels(compiler: Compiler, args: argparse.Namespace) -> None:
  """Prints what each kernel takes; for a TPU, that it compiles."""
  import jax
  import jax.numpy as jnp

  from jaxssl import losses

  name = {'h100': 'mosaic_gpu', 'v5e': 'pallas_tpu'}[compiler.device]
  print(f'\n### {name}, {title(compiler)}: value and gradients of 65,536 pairs\n')
  print('A kernel that an earlier row has is not listed again.\n')
  print('| loss | d | memory, MiB | kernels: registers of a thread, bytes spilled |\n|---|---|---|---|')
  for loss in (losses.nt_xent, losses.info_nce, losses.symmetric_info_nce):
    for d in (64, 128, 256):
      z = jax.ShapeDtypeStruct((65536, d), jnp.float32)
      found = compiler(gradients(functools.partial(loss, implementation=name)), z, z, scalar())
      each = ', '.join(f'{kernel} {registers}, {spilled}' for kernel, registers, spilled in compiler.kernels())
      print(f'| {loss.__name__} | {d} | {memory(found)} | {each} |', flush=True)


def losses_of_rows(compiler: Compiler, args: argparse.Namespace) -> None:
  """Prints the memory of NT-Xent by its implementation."""
  import jax
  import jax.numpy as jnp
  from losses import dense

  from jaxssl import losses

  kernel = {'h100': 'mosaic_gpu', 'v5e': 'pallas_tpu'}[compiler.device]
  names = ('dense', 'tiled', kernel)
  print(f'\n### NT-Xent of N rows, d = 128, {title(compiler)}: value and gradients, MiB beside the arguments\n')
  print(f'| N | dense JAX | {" | ".join(f"jaxssl {name}" for name in names)} |\n|---|---|{"---|" * len(names)}')
  for n in args.rows:
    z = jax.ShapeDtypeStruct((n // 2, 128), jnp.float32)
    functions = [dense, *(functools.partial(losses.nt_xent, implementation=name) for name in names)]
    cells = [attempt(functools.partial(memory_of, compiler, gradients(function), z, z, scalar()))
             for function in functions]
    print(f'| {n:,} | {" | ".join(cells)} |', flush=True)


def steps(compiler: Compiler, args: argparse.Namespace) -> None:
  """Prints the memory of the train steps of configs."""
  sys.path.insert(0, str(ROOT / 'tests'))
  from config_files import CONFIGS

  print(f'\n### Train steps, {title(compiler)}\n')
  print('| config | batch | arguments, MiB | memory beside them, MiB | seconds to compile |\n|---|---|---|---|---|')
  for path in CONFIGS:
    if path.stem in args.configs if args.configs else not path.stem.endswith(('imagenet', 'imagenet_vit')):
      print(f'| {path.stem} | {attempt(functools.partial(step_of, compiler, path))} |', flush=True)


def step_of(compiler: Compiler, path: pathlib.Path) -> str:
  """Returns the rest of a config's row."""
  import jax
  from config_files import host_batch, load

  from jaxssl import build
  from jaxssl.training import loop

  config = load(path)
  experiment = build.build(config, 2_000_000)
  batch, key = host_batch(config, experiment.recipe), jax.eval_shape(lambda: jax.random.key(0))
  state = jax.eval_shape(lambda batch, key: experiment.method.init(key, experiment.prepare(batch, key)), batch, key)

  def step(state, batch, i):
    prepare_key, step_key = loop.keys(jax.random.key(0), i)
    return experiment.method.step(state, experiment.prepare(batch, prepare_key), step_key)

  began = time.time()
  compiled = compiler(step, state, batch, scalar('int32'), donate_argnums=0)
  size = compiled.memory_analysis().argument_size_in_bytes / 2**20
  return f'{config["batch_size"]:,} | {size:,.0f} | {memory(compiled)} | {time.time() - began:.0f}'


def gradients(loss):
  """Returns value and gradients of a loss of two arrays and a temperature."""
  import jax

  return jax.value_and_grad(lambda a, b, temperature: loss(a, b, temperature=temperature), argnums=(0, 1, 2))


def scalar(dtype: str = 'float32'):
  import jax

  return jax.ShapeDtypeStruct((), dtype)


def memory_of(compiler: Compiler, function, *arguments) -> str:
  return memory(compiler(function, *arguments))


def memory(compiled) -> str:
  return f'{compiled.memory_analysis().temp_size_in_bytes / 2**20:,.1f}'


def attempt(function) -> str:
  """Returns what a function returns, or the first words of its error: compilers have types of their own for these."""
  try:
    return function()
  except Exception as error:
    if needed := re.search(r'RESOURCE_EXHAUSTED.*?\(([\d.]+[MGT])\) exceeds', str(error)):
      return f'does not fit: {needed[1]}'
    return re.sub(r'\s+', ' ', str(error).replace('|', '/'))[:120]


def title(compiler: Compiler) -> str:
  import jax

  return f'compiled for one {compiler.kind}, jax {jax.__version__}'


PARTS = {'kernels': kernels, 'losses': losses_of_rows, 'steps': steps}

if __name__ == '__main__':
  main()
