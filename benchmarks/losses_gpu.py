"""NT-Xent and SigLIP at the size of a GPU: errors, time, memory, and the share of what the tensor cores could do.

First each Mosaic GPU kernel is compared with the loop that stands in for it where there is no GPU.

  python benchmarks/losses_gpu.py [--rows 65536 262144 1048576] [--pairs 65536] [--rounds 3]

The floor is 4 N^2 d FLOPs for value and gradients of NT-Xent (every unordered pair once), 6 B^2 d for SigLIP, at the
rate of a bfloat16 matmul of this run. Peers: the dense losses as one writes them in JAX and, where torch sees the GPU,
in PyTorch with torch.compile. What does not fit in memory, or does not run on this device, says so.
"""

import argparse
import functools
import statistics
import time
import unittest.mock

import jax
import jax.numpy as jnp
import losses as peers
import numpy as np
from timing import hardware, interleave

from jaxssl import losses
from jaxssl.losses import _mosaic_gpu


def errors(n=4096, d=128, temperature=0.1):
  """Prints the largest error of value and gradient against float64."""
  z1, z2 = jax.random.normal(jax.random.key(1), (2, n // 2, d))
  expected, gradient = reference(*(np.asarray(z, np.float64) for z in (z1, z2)), temperature)
  print(f'\n### NT-Xent, N = {n}, d = {d}, temperature {temperature}: error against float64\n{hardware()}\n')
  print('| | of the value | of the gradient, in its largest entry |\n|---|---|---|')
  for name in ('dense', 'tiled', 'mosaic_gpu'):
    loss = functools.partial(losses.nt_xent, temperature=temperature, implementation=name)
    try:
      value, found = jax.jit(jax.value_and_grad(loss))(z1, z2)
    except ValueError as error:
      print(f'{name}: {error}')
      continue
    worst = np.abs(np.asarray(found) - gradient).max() / np.abs(gradient).max()
    print(f'| jaxssl {name} | {abs(float(value) - expected):.1e} | {worst:.1e} |', flush=True)


def kernels():
  """Prints how far each Mosaic GPU kernel is from the loop of the same blocks that stands in for it elsewhere."""
  print(f'\n### Mosaic GPU kernels beside what stands in for them: largest difference\n{hardware()}\n')
  print('| rows, others, width | log-sum-exps | without itself | by pairs | by pairs, two sides | gradient |')
  print('|---|---|---|---|---|---|', flush=True)
  for n, m, d in ((2, 5, 4), (129, 257, 64), (5000, 3000, 128), (3000, 5000, 256), (20000, 1000, 64)):
    x, y = (peers.normalized(jax.random.normal(jax.random.key(rows), (rows, d))) for rows in (n, m))
    found = what_kernels_find(x, y)
    stand_in = lambda kernel, twin, arrays, **static: twin(*arrays, **static)
    with unittest.mock.patch.object(_mosaic_gpu, '_on_platform', stand_in):
      expected = what_kernels_find(x, y)
    cells = [f'{jnp.abs(ours - theirs).max():.1e}' for ours, theirs in zip(found, expected, strict=True)]
    print(f'| {n:,}, {m:,}, {d} | {" | ".join(cells)} |', flush=True)


def what_kernels_find(x, y, inverse=10.0):
  """Returns an array for each kernel, and each way to use it."""
  inverse, first = jnp.float32(inverse), jnp.int32(0)
  without = _mosaic_gpu.row_lse(x, x, inverse, first)
  return (
      _mosaic_gpu.row_lse(x, y, inverse), without, _mosaic_gpu.self_lse(x, inverse),
      jnp.concatenate(_mosaic_gpu.both_lse(x, y, inverse)),
      _mosaic_gpu.row_gradient(x, x, inverse, without, without, first))


def reference(z1, z2, temperature):
  """Returns the loss and its gradient by z1, in NumPy's float64."""
  raw = np.concatenate([z1, z2])
  length = np.linalg.norm(raw, axis=1, keepdims=True)
  z, n = raw / length, len(raw)
  scores = z @ z.T / temperature
  np.fill_diagonal(scores, -np.inf)
  lse = scores.max(1) + np.log(np.exp(scores - scores.max(1, keepdims=True)).sum(1))
  positive = np.roll(np.arange(n), n // 2)
  softmax = np.exp(scores - lse[:, None])
  softmax[np.arange(n), positive] -= 1
  dz = (softmax + softmax.T) @ z / temperature / n
  dz = (dz - z * (z * dz).sum(1, keepdims=True)) / length
  return (lse - scores[np.arange(n), positive]).mean(), dz[: n // 2]


def matmul_rate(size):
  """Returns the FLOP/s of a bfloat16 matmul, the best of ten."""
  x = jnp.ones((size, size), jnp.bfloat16)
  run = jax.jit(jnp.matmul)
  seconds = []
  for _ in range(11):
    began = time.perf_counter()
    run(x, x).block_until_ready()
    seconds.append(time.perf_counter() - began)
  return 2 * size**3 / min(seconds)


def table(title, functions, arguments, others, rounds, floor, rate):
  """Times value and gradients of name -> function of `arguments`, and name -> runnable of `others`."""
  runs, memory = {}, {}
  for name, function in functions.items():
    try:
      runs[name], memory[name] = peers.compile(peers.gradients(function), *arguments)
      runs[name]()
    except Exception as error:  # Out of memory, or a kernel that this device does not take: each has a type of its own.
      runs.pop(name, None)
      print(f'{name} is left out: {str(error).splitlines()[0][:160]}')
  for name, run in others.items():
    try:
      run()
      runs[name] = run
    except Exception as error:
      print(f'{name} is left out: {str(error).splitlines()[0][:160]}')
  seconds = interleave(runs, rounds)
  print(f'\n### {title}\n{hardware()}, bfloat16 matmul {rate / 1e12:.0f} TFLOP/s, floor {1e3 * floor / rate:.3g} ms\n')
  print('| | ms, median | TFLOP/s of the floor\'s FLOPs | share of the floor | memory, MiB |\n|---|---|---|---|---|')
  for name, times in seconds.items():
    middle = statistics.median(times)
    size = f'{memory[name] / 2**20:,.0f}' if name in memory else ''
    print(f'| {name} | {1e3 * middle:,.2f} | {floor / middle / 1e12:,.1f} | {floor / rate / middle:.3f} | {size} |',
          flush=True)


def nt_xent(n, rounds, rate, d=128):
  z1, z2 = jax.random.normal(jax.random.key(0), (2, n // 2, d))
  functions = {'dense JAX': peers.dense}
  for name in ('tiled', 'mosaic_gpu'):
    functions[f'jaxssl {name}'] = functools.partial(peers._named, losses.nt_xent, name)
  table(f'NT-Xent, N = {n}, d = {d}: value and gradients', functions, (z1, z2, jnp.float32(0.1)),
        torch_peer(torch_nt_xent, z1, z2), rounds, 4 * n**2 * d, rate)


def siglip(n, rounds, rate, d=768):
  a, b = jax.random.normal(jax.random.key(0), (2, n, d))
  functions = {'dense JAX': peers.dense_siglip,
               'jaxssl tiled': functools.partial(peers._named, losses.siglip, 'tiled')}
  table(f'SigLIP, B = {n}, d = {d}: value and gradients', functions, (a, b, jnp.float32(0.1)),
        torch_peer(torch_siglip, a, b), rounds, 6 * n**2 * d, rate)


def torch_nt_xent(torch, a, b):
  z = torch.nn.functional.normalize(torch.cat([a, b]), dim=1)
  scores = z @ z.T / 0.1
  scores = scores.masked_fill(torch.eye(len(z), dtype=torch.bool, device=z.device), float('-inf'))
  return torch.nn.functional.cross_entropy(scores, torch.arange(len(z), device=z.device).roll(len(a)))


def torch_siglip(torch, a, b):
  a, b = (torch.nn.functional.normalize(z, dim=1) for z in (a, b))
  logits = a @ b.T / 0.1 - 10
  signs = 2 * torch.eye(len(a), device=a.device) - 1
  return -torch.nn.functional.logsigmoid(logits * signs).sum() / len(a)


def torch_peer(loss, a, b):
  """Returns {name: value and gradients of `loss`, compiled, on the GPU}, or nothing where torch sees none."""
  try:
    import torch
  except ImportError:
    return {}
  if not torch.cuda.is_available():
    return {}
  torch.set_float32_matmul_precision('high')
  a, b = (torch.tensor(np.asarray(z), device='cuda', requires_grad=True) for z in (a, b))
  compiled = torch.compile(functools.partial(loss, torch))

  def run():
    torch.autograd.grad(compiled(a, b), (a, b))
    torch.cuda.synchronize()

  return {'PyTorch, torch.compile, TF32': run}


def main():
  parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
  parser.add_argument('--rows', nargs='*', type=int, default=[65536, 262144, 1048576])
  parser.add_argument('--pairs', nargs='*', type=int, default=[65536])
  parser.add_argument('--rounds', type=int, default=3)
  parser.add_argument('--matmul', type=int, default=8192, help='side of the matmul that gives the rate')
  args = parser.parse_args()
  try:
    kernels()
  except Exception as error:  # A GPU that does not take them: each has a type of its own.
    print(f'the kernels are left out: {str(error).splitlines()[0][:160]}')
  errors()
  rate = matmul_rate(args.matmul)
  for n in args.rows:
    nt_xent(n, args.rounds, rate)
  for n in args.pairs:
    siglip(n, args.rounds, rate)


if __name__ == '__main__':
  main()
