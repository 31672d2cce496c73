"""A batch encoded in chunks: time, memory and compilation of value and gradient, beside the batch encoded whole.

  python benchmarks/chunks.py [--networks small default] [--chunks 2 4 8 16] [--loop 4] [--batch 256] [--rounds 5]

One step: 28-pixel images through the network, NT-Xent of pairs of rows, gradients. small: a ResNet of one block a
stage, widths 16/32/64, 3x3 stem. default: the encoder of jaxssl's default config. Memory is what the compiled program
allocates beside its arguments. On a CPU also as a loop over the parts, which is the form for accelerators.
"""

import argparse
import statistics
import time
from unittest import mock

import jax
from timing import hardware, interleave

from jaxssl import losses, models
from jaxssl.models import forward as encoding
from jaxssl.models.heads import Projected

NETWORKS = {
    'small': models.ResNet((1, 1, 1), 'basic', (16, 32, 64), stem='small'),
    'default': models.ResNet((1, 1, 1), 'basic', (32, 64, 128), stem='strided', average_pool_shortcut=True),
}


def compile(network, chunks, params, stats, x):
  """Returns a function that takes one step with the compiled program, its bytes, and the seconds to compile it."""

  def loss(params, stats, x):
    (_, z), after = encoding.forward_in_chunks(network, params, stats, x, chunks)
    z = z.reshape(-1, 2, z.shape[-1])
    return losses.nt_xent(z[:, 0], z[:, 1]), after

  began = time.perf_counter()
  compiled = jax.jit(jax.value_and_grad(loss, has_aux=True)).lower(params, stats, x).compile()
  seconds = time.perf_counter() - began

  def run():
    jax.block_until_ready(compiled(params, stats, x))

  return run, compiled.memory_analysis().temp_size_in_bytes, seconds


def measure(name, all_chunks, loop, batch, rounds):
  """Prints the table of one network."""
  network = Projected(NETWORKS[name], models.MLP((256, 128)))
  x = jax.random.normal(jax.random.key(0), (batch, 28, 28, 1))
  variables = dict(network.init(jax.random.key(1), x[:2]))
  params = variables.pop('params')
  programs = {'whole': compile(network, 1, params, variables, x)}
  for chunks in all_chunks:
    programs[f'{chunks} chunks'] = compile(network, chunks, params, variables, x)
  with mock.patch.object(encoding, '_in_turn', encoding._in_a_loop):
    for chunks in loop if jax.default_backend() == 'cpu' else ():
      programs[f'{chunks} chunks, in a loop'] = compile(network, chunks, params, variables, x)
  seconds = interleave({row: run for row, (run, *_) in programs.items()}, rounds)
  print(f'\n### Network {name}, 28 px, batch {batch}: value and gradient\n{hardware()}\n')
  print('| | ms, median | range | speed | memory, MiB | times less | compilation, s |\n|---|---|---|---|---|---|---|')
  for row, times in seconds.items():
    _, size, compilation = programs[row]
    speed = statistics.median(t0 / t for t, t0 in zip(times, seconds['whole'], strict=True))
    print(f'| {row} | {1e3 * statistics.median(times):,.0f} | {1e3 * min(times):,.0f} - {1e3 * max(times):,.0f} '
          f'| {speed:.2f} | {size / 2**20:,.1f} | {programs["whole"][1] / size:,.1f} | {compilation:.1f} |', flush=True)


def main():
  parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
  parser.add_argument('--networks', nargs='+', choices=NETWORKS, default=list(NETWORKS))
  parser.add_argument('--chunks', nargs='+', type=int, default=[2, 4, 8, 16])
  parser.add_argument('--loop', nargs='*', type=int, default=[4])
  parser.add_argument('--batch', type=int, default=256)
  parser.add_argument('--rounds', type=int, default=5)
  args = parser.parse_args()
  for name in args.networks:
    measure(name, args.chunks, args.loop, args.batch, args.rounds)


if __name__ == '__main__':
  main()
