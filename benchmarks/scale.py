"""What a step of SimCLR costs by how many devices and processes share it: steps/s, arithmetic, bytes between devices.

  python benchmarks/scale.py [--devices 1 2 4 8] [--processes 1 2 4] [--batch 64] [--loss dense|tiled|ring]

ResNet-18 at 32 pixels with the 3x3 stem and a 512-128 head. Devices are simulated on the processor's cores, so that
steps/s say what sharing costs, not what it gains. Arithmetic and bytes are those of the compiled program: the
operations of all devices over those of one device that has the whole batch, and what a device sends in a step.
"""

import argparse
import json
import os
import socket
import subprocess
import sys
import time

CASE = '--case='  # The script starts itself, a process a case, since the number of devices is fixed when JAX starts.


def main():
  parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
  parser.add_argument('--devices', type=int, nargs='*', default=[1, 2, 4, 8])
  parser.add_argument('--processes', type=int, nargs='*', default=[1, 2, 4])
  parser.add_argument('--batch', type=int, default=64)
  parser.add_argument('--steps', type=int, default=3)
  parser.add_argument('--rounds', type=int, default=3)
  parser.add_argument('--loss', choices=('dense', 'tiled', 'ring'), default=None, help='by default as jaxssl chooses')
  args = parser.parse_args()
  settings = {'batch': args.batch, 'steps': args.steps, 'rounds': args.rounds, 'loss': args.loss}
  cases = [(1, n) for n in args.devices] + [(n, 1) for n in args.processes if n > 1]
  head(args.batch)
  first = None
  for processes, devices in cases:
    case = launch({**settings, 'processes': processes, 'devices': devices})
    first = first or case
    row(case, first)
  launch({**settings, 'processes': 1, 'devices': max(args.devices), 'counts': args.devices}, echo=True)


def launch(case: dict, echo: bool = False) -> dict:
  """Returns what process 0 of a case prints, or passes it on."""
  with socket.socket() as free:
    free.bind(('127.0.0.1', 0))
    case['port'] = free.getsockname()[1]
  flags = f'--xla_force_host_platform_device_count={case["devices"]}'
  environment = {**os.environ, 'JAX_PLATFORMS': 'cpu', 'XLA_FLAGS': flags,
                 'JAX_CPU_COLLECTIVES_IMPLEMENTATION': 'gloo'}
  command = [sys.executable, __file__, CASE + json.dumps(case)]
  processes = [subprocess.Popen([*command, str(i)], env=environment, text=True, stdout=subprocess.PIPE)
               for i in range(case['processes'])]
  outputs = [process.communicate()[0] for process in processes]
  if any(process.returncode for process in processes):
    raise SystemExit(f'{case} failed')
  if echo:
    print(outputs[0], end='')
    return {}
  return json.loads(outputs[0].splitlines()[-1])


def measure(case: dict, process: int) -> dict:
  """Returns the step's seconds, arithmetic and collectives, of a case."""
  import hlo
  import jax
  import numpy as np
  import optax

  from jaxssl import losses, methods, models
  from jaxssl.training import mesh

  if case['processes'] > 1:
    mesh.initialize_distributed(f'127.0.0.1:{case["port"]}', case['processes'], process)
  if case['loss']:
    chosen = losses.nt_xent
    losses.nt_xent = lambda *z, **options: chosen(*z, **options, implementation=case['loss'])
  method = methods.SimCLR(
      models.resnet18(stem='small'), models.MLP((512, 128)), optax.sgd(0.06, momentum=0.9), temperature=0.5)
  devices = mesh.make_mesh()
  views = np.random.default_rng(0).uniform(size=(2, case['batch'], 32, 32, 3)).astype(np.float32)
  rows = mesh.local_rows(devices, case['batch'])
  with jax.set_mesh(devices):
    batch = mesh.shard_batch(devices, {'views': tuple(view[rows] for view in views)})
    key = jax.random.key(0)
    shardings = mesh.state_shardings(devices, jax.eval_shape(method.init, key, batch))
    state = jax.jit(method.init, out_shardings=shardings)(key, batch)
    step = jax.jit(method.step, donate_argnums=0, out_shardings=(shardings, None)).lower(state, batch, key).compile()
    seconds = []
    for _ in range(case['rounds'] + 1):
      began = time.perf_counter()
      for _ in range(case['steps']):
        state, metrics = step(state, batch, key)
      jax.block_until_ready(metrics)
      seconds.append((time.perf_counter() - began) / case['steps'])
  count = devices.size
  found = hlo.collectives(step.as_text(), count)
  return {**case, 'seconds': sorted(seconds[1:])[case['rounds'] // 2], 'flops': step.cost_analysis()['flops'] * count,
          'loss_value': float(metrics['loss']), 'sent': hlo.totals(found), 'number': len(found)}


def head(batch: int) -> None:
  """Prints the head of the table."""
  import datetime

  import hlo
  from timing import hardware

  print(f'\n### SimCLR, ResNet-18, 32 px, batch {batch}\n{datetime.date.today()}, {hardware()}\n')
  print('| processes x devices | steps/s | operations, all devices / one | collectives a step | '
        + ' | '.join(f'{kind}, KiB' for kind in hlo.KINDS) + ' | loss after the last step |')
  print('|---' * (5 + len(hlo.KINDS)) + '|', flush=True)


def row(case: dict, first: dict) -> None:
  """Prints a row of the table; `first` is one device."""
  import hlo

  sent = ' | '.join(f'{case["sent"].get(kind, 0) / 1024:,.1f}' for kind in hlo.KINDS)
  print(f'| {case["processes"]} x {case["devices"]} | {1 / case["seconds"]:.2f} | '
        f'{case["flops"] / first["flops"]:.4f} | {case["number"]} | {sent} | {case["loss_value"]:.6f} |', flush=True)


def loss_alone(counts: list[int], batch: int) -> None:
  """Prints the arithmetic of NT-Xent and its gradients by how its rows meet, and what it sends."""
  import hlo
  import jax
  import jax.numpy as jnp

  from jaxssl import losses
  from jaxssl.training import mesh as meshes

  print(f'\nNT-Xent and its gradients alone, 2 x {batch} rows of 128, products of matrices:\n')
  print("'last hop': in a ring of an even number, two devices meet half-way around, and both compute what one could.\n")
  print('| devices | implementation | operations, all devices / dense on one | of which the last hop twice '
        '| sent by a device, KiB |\n|---|---|---|---|---|')
  dense = None
  for count in counts:
    mesh = meshes.make_mesh(devices=jax.devices()[:count])
    z = jax.ShapeDtypeStruct((batch, 128), jnp.float32, sharding=meshes.rows_sharding(mesh))
    for name in ('dense', 'tiled', 'ring'):
      with jax.set_mesh(mesh):
        loss = lambda z1, z2, name=name: losses.nt_xent(z1, z2, implementation=name)
        text = jax.jit(jax.value_and_grad(loss, argnums=(0, 1))).lower(z, z).compile().as_text()
      operations = count * hlo.products(text)
      dense = dense or operations
      sent = sum(each.sent for each in hlo.collectives(text, count)) / 1024
      # Each device alone: scores, scores again and one product; together: half of scores, scores again, two products.
      twice = 2 * count * (2 * batch / count) ** 2 * 128 if name == 'ring' and count % 2 == 0 else 0
      print(f'| {count} | {name} | {operations / dense:.3f} | {twice / dense:.3f} | {sent:,.1f} |', flush=True)


if __name__ == '__main__':
  if len(sys.argv) == 3 and sys.argv[1].startswith(CASE):
    described = json.loads(sys.argv[1].removeprefix(CASE))
    if 'counts' in described:
      loss_alone(described['counts'], 1024)
    else:
      print(json.dumps(measure(described, int(sys.argv[2]))))
  else:
    main()
