"""What SimCLR sends between devices at pod size: ResNet-50 and ViT-B at 224 pixels, from the compiled text.

  python benchmarks/scale_plan.py [--devices 8 64 512] [--batches 4096 32768] [--networks resnet50 vit_base]
  python benchmarks/scale_plan.py --topologies v5e:4x4 v5e:16x16 [--batches ...] [--networks ...]

Nothing is run: the step is compiled for simulated devices from shapes alone, or for the chips of a TPU topology by the
TPU's own compiler, which comes with jax[tpu] and needs no TPU. The collectives are read from its text. 'sent' is what a
device sends in a step, in MiB, by the loss, by batch norm and for the gradients; 'memory' is what a chip needs beside
its share of the state. The loss is computed as accelerators choose: densely up to 8192 x 8192 scores a device, else in
a ring.
"""

import argparse
import os
import re
import sys
import time

PARTS = ('loss', 'batch norm', 'gradients')


def main():
  parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
  parser.add_argument('--devices', type=int, nargs='*', default=[8, 64, 512])
  parser.add_argument('--batches', type=int, nargs='*', default=[4096, 32768])
  parser.add_argument('--networks', nargs='*', default=['resnet50', 'vit_base'])
  parser.add_argument('--topologies', nargs='*', default=[], help='of TPUs, as v5e:16x16, instead of simulated devices')
  parser.add_argument('--case', help='one network, batch and number of devices; the script calls itself')
  args = parser.parse_args()
  if args.case:
    network, batch, devices = args.case.split(',')
    print(row(network, int(batch), devices))
    return
  print('| network | batch | devices | TFLOP a device | loss: sent, MiB (collectives) | batch norm | gradients '
        '| memory, GiB | seconds to compile |')
  print('|---|---|---|---|---|---|---|---|---|', flush=True)
  import subprocess

  for network in args.networks:
    for batch in args.batches:
      for devices in args.topologies or args.devices:
        flags = '' if args.topologies else f'--xla_force_host_platform_device_count={devices}'
        subprocess.run(
            [sys.executable, __file__, f'--case={network},{batch},{devices}'], check=True,
            env={**os.environ, 'JAX_PLATFORMS': 'cpu', 'TPU_SKIP_MDS_QUERY': '1', 'XLA_FLAGS': flags})


def row(network: str, batch: int, devices: str) -> str:
  """Returns a row of the table, of simulated devices or of a topology."""
  import hlo
  import jax
  import jax.numpy as jnp
  import optax
  from jax.experimental import topologies
  from jax.sharding import NamedSharding, PartitionSpec

  from jaxssl import methods, models
  from jaxssl.losses import _choice, _tiles
  from jaxssl.training import mesh as meshes

  _choice.DENSE_SCORES.clear()  # Limits and tiles of a CPU.
  _tiles.TILE.clear()
  encoder = getattr(models, network)(dtype=jnp.bfloat16)
  method = methods.SimCLR(encoder, models.MLP((2048, 128)), optax.sgd(0.1, momentum=0.9))
  is_topology = not devices.isdigit()
  chips = topologies.get_topology_desc(devices, 'tpu').devices if is_topology else jax.devices()
  mesh = meshes.make_mesh(devices=chips)
  with jax.set_mesh(mesh):
    split = NamedSharding(mesh, PartitionSpec(mesh.axis_names))
    view = jax.ShapeDtypeStruct((batch, 224, 224, 3), jnp.float32, sharding=split)
    key = jax.eval_shape(lambda: jax.random.key(0))
    state = jax.eval_shape(method.init, key, {'views': (view, view)})
    shardings = meshes.state_shardings(mesh, state)
    state = jax.tree.map(lambda x, s: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=s), state, shardings)
    began = time.time()
    compiled = jax.jit(method.step, donate_argnums=0, out_shardings=(shardings, None)).lower(
        state, {'views': (view, view)}, key).compile(
            compiler_options={} if is_topology else {'xla_backend_optimization_level': 0})
    seconds = time.time() - began
  found = hlo.collectives(compiled.as_text(), len(chips))
  cells = []
  for part in PARTS:
    mine = [each for each in found if part_of(each) == part]
    cells.append(f'{sum(each.sent for each in mine) / 2**20:,.2f} ({sum(each.times for each in mine):,})')
  flops = compiled.cost_analysis()['flops'] / 1e12
  memory = f'{compiled.memory_analysis().temp_size_in_bytes / 2**30:.1f}' if is_topology else ''
  return f'| {network} | {batch:,} | {devices} | {flops:.2f} | {" | ".join(cells)} | {memory} | {seconds:.0f} |'


def part_of(collective) -> str:
  """Returns what a collective is for, from the names that JAX gives the sums that XLA has joined in it."""
  names = collective.name.split(':')
  if all('shard_map' in name for name in names):
    # The loss's own sums are of scalars; joined with those of gradients they may keep their name.
    return 'gradients' if collective.kind == 'all-reduce' and collective.payload > 1024 else 'loss'
  return 'batch norm' if all(re.search('bn.*reduce_sum', name) for name in names) else 'gradients'


if __name__ == '__main__':
  main()
