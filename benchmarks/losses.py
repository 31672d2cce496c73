"""The contrastive losses: time and memory of value and gradients, beside other ways to write them.

  python benchmarks/losses.py [--parts one_device pairs] [--rows 1024 2048 …] [--rounds 5]
  python benchmarks/losses.py --parts eight_devices

one_device: NT-Xent of N views. Peers: the dense loss as one writes it in JAX; SimCLR's code, which takes the scores of
the two views in four products; optax.losses.ntxent (up to N = 2048: its memory grows with N^3); and, where torch is
installed, lightly's formula in PyTorch. eight_devices: eight simulated ones (CPU), against autodiff of SimCLR's
all_gather. pairs: the losses of CLIP and SigLIP. family: the relatives of NT-Xent, tiled beside dense;
multi_label: those of multi-label CPC. redundancy: Barlow Twins and VICReg of n x 2048, beside all d x d written out.
Memory is what the compiled program allocates beside its arguments.
"""

import argparse
import functools
import os
import statistics
import sys

if any('eight_devices' in argument for argument in sys.argv):
  os.environ['XLA_FLAGS'] = os.environ.get('XLA_FLAGS', '') + ' --xla_force_host_platform_device_count=8'

import jax
import jax.numpy as jnp
import optax
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P
from timing import hardware, interleave

from jaxssl import losses

MEMORY = 64 << 30  # Bytes that a peer may want before it is left out.


def normalized(z):
  return z * jax.lax.rsqrt(jnp.sum(z * z, axis=1, keepdims=True))


def dense(z1, z2, temperature):
  """NT-Xent as one writes it: all scores of all views."""
  z = normalized(jnp.concatenate([z1, z2]))
  scores = z @ z.T / temperature
  positive = jnp.sum(z * jnp.roll(z, len(z1), axis=0), axis=1) / temperature
  scores = jnp.where(jnp.eye(len(z), dtype=bool), -jnp.inf, scores)
  return jnp.mean(jax.nn.logsumexp(scores, axis=1) - positive)


def four_products(z1, z2, temperature, axis_name=None):
  """NT-Xent as in SimCLR's code: a view against the gathered views, its own masked, then the other view."""
  a, b = normalized(z1), normalized(z2)
  all_a, all_b, first = a, b, 0
  if axis_name is not None:
    all_a, all_b = (jax.lax.all_gather(x, axis_name, tiled=True) for x in (a, b))
    first = len(a) * jax.lax.axis_index(axis_name)
  labels = jnp.arange(len(a)) + first
  own = jax.nn.one_hot(labels, len(all_a)) * 1e9
  def one_side(x, same, other):
    scores = jnp.concatenate([x @ other.T / temperature, x @ same.T / temperature - own], axis=1)
    return jnp.mean(optax.softmax_cross_entropy_with_integer_labels(scores, labels))
  return (one_side(a, all_a, all_b) + one_side(b, all_b, all_a)) / 2


def optax_ntxent(z1, z2, temperature):
  labels = jnp.tile(jnp.arange(len(z1)), 2)
  return optax.losses.ntxent(jnp.concatenate([z1, z2]), labels, temperature)


def dense_clip(a, b, temperature):
  scores = normalized(a) @ normalized(b).T / temperature
  labels = jnp.arange(len(a))
  cross_entropy = lambda scores: jnp.mean(optax.softmax_cross_entropy_with_integer_labels(scores, labels))
  return (cross_entropy(scores) + cross_entropy(scores.T)) / 2


def dense_siglip(a, b, temperature):
  logits = normalized(a) @ normalized(b).T / temperature - 10
  return -jnp.sum(jax.nn.log_sigmoid(logits * (2 * jnp.eye(len(a)) - 1))) / len(a)


def written_out_barlow_twins(z1, z2):
  """Barlow Twins as one writes it: all correlations of dimensions."""
  a, b = ((z - z.mean(0, keepdims=True)) / jnp.sqrt(z.var(0, keepdims=True) + 1e-5) for z in (z1, z2))
  correlation = a.T @ b / len(a)
  diagonal = jnp.diagonal(correlation)
  redundancy = jnp.sum(jnp.square(correlation)) - jnp.sum(jnp.square(diagonal))
  return jnp.sum(jnp.square(1 - diagonal)) + 0.0051 * redundancy


def written_out_vicreg(z1, z2):
  """VICReg as one writes it: all covariances of dimensions."""
  loss = 25 * jnp.mean(jnp.square(z1 - z2))
  for z in (z1, z2):
    z = z - z.mean(0, keepdims=True)
    covariance = z.T @ z / (len(z) - 1)
    variance = jnp.diagonal(covariance)
    loss += 12.5 * jnp.mean(jnp.maximum(1 - jnp.sqrt(variance + 1e-4), 0))
    loss += (jnp.sum(jnp.square(covariance)) - jnp.sum(jnp.square(variance))) / z.shape[1]
  return loss


def torch_gradients(formula, *arrays):
  """Returns a function that takes value and gradients of `formula` of PyTorch tensors once."""
  import numpy as np
  import torch

  tensors = [torch.from_numpy(np.array(x)).requires_grad_() for x in arrays]
  return lambda: (torch.autograd.grad(formula(*tensors), tensors), None)[1]


def torch_ntxent(a, b):
  """NT-Xent by lightly's formula, in PyTorch."""
  import torch

  n = len(a)
  x, y = (torch.nn.functional.normalize(z, dim=1) for z in (a, b))
  others = ~torch.eye(n, dtype=torch.bool)
  aa, ab, ba, bb = (p @ q.T / 0.1 for p, q in ((x, x), (x, y), (y, x), (y, y)))
  aa, bb = aa[others].view(n, -1), bb[others].view(n, -1)
  scores = torch.cat([torch.cat([ab, aa], 1), torch.cat([ba, bb], 1)])
  return torch.nn.functional.cross_entropy(scores, torch.arange(n).repeat(2))


def torch_barlow_twins(z1, z2):
  a, b = ((z - z.mean(0)) / (z.var(0, unbiased=False) + 1e-5).sqrt() for z in (z1, z2))
  correlation = a.T @ b / len(a)
  diagonal = correlation.diagonal()
  return (1 - diagonal).square().sum() + 0.0051 * (correlation.square().sum() - diagonal.square().sum())


def torch_vicreg(z1, z2):
  import torch

  loss = 25 * torch.nn.functional.mse_loss(z1, z2)
  for z in (z1, z2):
    z = z - z.mean(0)
    covariance = z.T @ z / (len(z) - 1)
    variance = covariance.diagonal()
    loss = loss + 12.5 * torch.relu(1 - (variance + 1e-4).sqrt()).mean()
    loss = loss + (covariance.square().sum() - variance.square().sum()) / z.shape[1]
  return loss


def compile(function, *arguments):
  """Returns a function that runs the compiled `function` once, and the bytes it allocates."""
  compiled = jax.jit(function).lower(*arguments).compile()
  memory = compiled.memory_analysis()

  def run():
    jax.block_until_ready(compiled(*arguments))

  return run, memory.temp_size_in_bytes


def measure(title, functions, arguments, rounds, first, others=None):
  """Times name -> function of `arguments`, prints the table relative to `first`; `others` are timed as they are."""
  runs, memory = {}, {}
  for name, function in functions.items():
    run, size = compile(function, *arguments)
    if size > MEMORY:
      print(f'{name} is left out: it wants {size / 2**30:.0f} GiB')
      continue
    runs[name], memory[name] = run, size
  seconds = interleave({**runs, **(others or {})}, rounds)
  print(f'\n### {title}\n{hardware()}\n')
  print('| | ms, median | speed | memory, MiB | times less |\n|---|---|---|---|---|')
  for name, times in seconds.items():
    speed = statistics.median(t0 / t for t, t0 in zip(times, seconds[first], strict=True))
    size = memory.get(name)
    room = f'{size / 2**20:,.1f} | {memory[first] / max(size, 1):,.1f}' if size is not None else ' | '
    print(f'| {name} | {1e3 * statistics.median(times):,.1f} | {speed:.2f} | {room} |', flush=True)


def gradients(function):
  return jax.value_and_grad(function, argnums=(0, 1, 2))


def one_device(rows, rounds, d=128):
  ours = lambda implementation: functools.partial(_named, losses.nt_xent, implementation)
  for n in rows:
    z1, z2 = jax.random.normal(jax.random.key(0), (2, n // 2, d))
    functions = {'dense JAX': dense, 'SimCLR, four products': four_products, 'jaxssl dense': ours('dense'),
                 'jaxssl tiled': ours('tiled')}
    if n <= 2048:
      functions['optax.losses.ntxent'] = optax_ntxent
    if n > 16384:
      functions = {name: function for name, function in functions.items() if name in ('dense JAX', 'jaxssl tiled')}
    try:
      others = {"PyTorch, lightly's formula": torch_gradients(torch_ntxent, z1, z2)} if n <= 16384 else {}
    except ImportError:
      others = {}
    arguments = z1, z2, jnp.float32(0.1)
    measure(f'NT-Xent, N = {n}, d = {d}: value and gradients', {k: gradients(f) for k, f in functions.items()},
            arguments, rounds, 'dense JAX', others)
    measure(f'NT-Xent, N = {n}, d = {d}: value', {k: functions[k] for k in ('dense JAX', 'jaxssl tiled')},
            arguments, rounds, 'dense JAX')


def _named(loss, implementation, z1, z2, temperature):
  return loss(z1, z2, temperature=temperature, implementation=implementation)


def eight_devices(rows, rounds, d=128):
  mesh = jax.make_mesh((8,), ('data',), (jax.sharding.AxisType.Auto,))
  with jax.set_mesh(mesh):
    place = lambda z: jax.device_put(z, NamedSharding(mesh, P('data')))
    for n in rows:
      z1, z2 = map(place, jax.random.normal(jax.random.key(0), (2, n // 2, d)))
      gathered = jax.shard_map(
          lambda z1, z2, t: jax.lax.pmean(four_products(z1, z2, t, 'data'), 'data'),
          in_specs=(P('data'), P('data'), P()), out_specs=P())
      functions = {'SimCLR, all_gather': gathered}
      for implementation in ('dense', 'tiled', 'ring'):
        functions[f'jaxssl {implementation}'] = functools.partial(_named, losses.nt_xent, implementation)
      measure(f'NT-Xent, N = {n}, d = {d}, eight simulated devices: value and gradients; memory of a device',
              {k: gradients(f) for k, f in functions.items()}, (z1, z2, jnp.float32(0.1)), rounds, 'SimCLR, all_gather')


def pairs(rows, rounds, d=512):
  for n in rows:
    a, b = jax.random.normal(jax.random.key(0), (2, n, d))
    for name, peer, ours in (('CLIP', dense_clip, losses.symmetric_info_nce), ('SigLIP', dense_siglip, losses.siglip)):
      functions = {'dense JAX': peer, 'jaxssl dense': functools.partial(_named, ours, 'dense'),
                   'jaxssl tiled': functools.partial(_named, ours, 'tiled')}
      measure(f'{name}, B = {n}, d = {d}: value and gradients', {k: gradients(f) for k, f in functions.items()},
              (a, b, jnp.float32(0.1)), rounds, 'dense JAX')


def supervised(z1, z2, *, temperature, implementation):
  """SupCon of two views of examples of 100 classes."""
  labels = jnp.tile(jnp.arange(len(z1)) % 100, 2)
  return losses.supervised_contrastive(
      jnp.concatenate([z1, z2]), labels, temperature=temperature, implementation=implementation)


def all_pairs(z1, z2, **settings):
  """Multi-label CPC of as many pairs as there are views."""
  return losses.multi_label_info_nce(jnp.concatenate([z1, z2]), jnp.concatenate([z2, z1]), **settings)


def multi_label(rows, rounds):
  relatives_of_nt_xent(
      {'multi_label_nt_xent': losses.multi_label_nt_xent, 'multi_label_info_nce, N pairs': all_pairs}, rows, rounds)


def family(rows, rounds):
  relatives = {'supervised_contrastive': supervised, 'decoupled_nt_xent': losses.decoupled_nt_xent,
               'debiased_nt_xent': losses.debiased_nt_xent,
               'debiased_nt_xent, hardness 1': functools.partial(losses.debiased_nt_xent, hardness=1.0),
               'nt_logistic': losses.nt_logistic}
  relatives_of_nt_xent(relatives, rows, rounds)


def relatives_of_nt_xent(relatives, rows, rounds, d=128):
  for n in rows:
    z1, z2 = jax.random.normal(jax.random.key(0), (2, n // 2, d))
    for name, loss in relatives.items():
      functions = {form: gradients(functools.partial(_named, loss, form)) for form in ('dense', 'tiled')}
      measure(f'{name}, N = {n}, d = {d}: value and gradients', functions, (z1, z2, jnp.float32(0.1)), rounds, 'dense')


def redundancy(rows, rounds, d=2048):
  every = {'Barlow Twins': (written_out_barlow_twins, losses.barlow_twins, torch_barlow_twins),
           'VICReg': (written_out_vicreg, losses.vicreg, torch_vicreg)}
  for n in rows:
    z1, z2 = jax.random.normal(jax.random.key(0), (2, n, d))
    for name, (peer, ours, theirs) in every.items():
      try:
        others = {'PyTorch, written out': torch_gradients(theirs, z1, z2)}
      except ImportError:
        others = {}
      functions = {form: jax.value_and_grad(loss, argnums=(0, 1))
                   for form, loss in (('JAX, written out', peer), ('jaxssl', ours))}
      measure(f'{name}, n = {n}, d = {d}: value and gradients', functions, (z1, z2), rounds, 'JAX, written out', others)


def main():
  parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
  parts = {'one_device': (one_device, [1024, 2048, 4096, 8192, 16384, 32768]), 'eight_devices': (eight_devices, [8192]),
           'pairs': (pairs, [8192]), 'family': (family, [4096, 8192]), 'multi_label': (multi_label, [4096, 8192]),
           'redundancy': (redundancy, [128, 256, 512, 1024, 2048, 4096])}
  parser.add_argument('--parts', nargs='+', choices=parts, default=['one_device', 'pairs'])
  parser.add_argument('--rows', nargs='+', type=int)
  parser.add_argument('--rounds', type=int, default=5)
  args = parser.parse_args()
  for name in args.parts:
    function, rows = parts[name]
    function(args.rows or rows, args.rounds)


if __name__ == '__main__':
  main()
