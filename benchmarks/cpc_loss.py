"""The loss of CPC: time and memory of value and gradients, by where its negatives come from.

  python benchmarks/cpc_loss.py [--sequences 64] [--steps 50] [--rounds 5]

Peers, in plain JAX: all pairs stored at once; negatives drawn once for the whole batch; and negatives drawn for each
context, as facebookresearch/CPC_audio does. Memory is what the compiled program allocates beside its arguments.
"""

import argparse
import statistics

import jax
import jax.numpy as jnp
from timing import hardware, interleave

from jaxssl import losses

AHEAD, D, DRAWN = 12, 256, 128  # CPC_audio's K, width and number of negatives.


def drawn_in_plain_jax(predictions, z, shape, equation):
  """InfoNCE with negatives of `shape`, [..., m], each step of the batch as likely; the target is not taken out."""
  positive = jnp.stack([jnp.sum(predictions[:, :-k, k - 1] * z[:, k:], axis=-1)[:, :z.shape[1] - AHEAD]
                        for k in range(1, AHEAD + 1)], axis=-1)
  number = jax.random.randint(jax.random.key(0), shape, 0, z.shape[0] * z.shape[1])
  negative = jnp.einsum(equation, predictions, z.reshape(-1, D)[number])[:, :z.shape[1] - AHEAD]
  return jnp.mean(jax.nn.logsumexp(jnp.concatenate([positive[..., None], negative], axis=-1), axis=-1) - positive)


def main():
  parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
  for name, value in [('--sequences', 64), ('--steps', 50), ('--rounds', 5)]:
    parser.add_argument(name, type=int, default=value)
  b, t, rounds = vars(parser.parse_args()).values()
  arrays = [jax.random.normal(jax.random.key(0), shape) / 4 for shape in [(b, t, AHEAD, D), (b, t, D)]]
  ours = lambda **settings: lambda *arrays: losses.cpc_info_nce(*arrays, **settings)
  plain = lambda shape, equation: lambda *arrays: drawn_in_plain_jax(*arrays, shape, equation)
  variants = {
      "'batch'": ours(),
      "'batch', all at once": ours(chunk=b * t),
      "'sequence'": ours(negatives='sequence'),
      f'{DRAWN} drawn a sequence': ours(num_negatives=DRAWN, key=jax.random.key(0)),
      f'plain JAX: {DRAWN} drawn a batch': plain((DRAWN,), 'bikd,md->bikm'),
      f'plain JAX: {DRAWN} drawn a context': plain((b, t, DRAWN), 'bikd,bimd->bikm'),
  }
  programs = {name: jax.jit(jax.value_and_grad(loss, argnums=(0, 1))).lower(*arrays).compile()
              for name, loss in variants.items()}
  calls = {name: lambda program=program: jax.block_until_ready(program(*arrays)) and None
           for name, program in programs.items()}
  print(f'### {b} sequences of {t} steps, K = {AHEAD}, d = {D}: value and gradients\n{hardware()}\n')
  print('| | ms, median | memory, MiB |\n|---|---|---|')
  for name, seconds in interleave(calls, rounds).items():
    memory = programs[name].memory_analysis().temp_size_in_bytes / 2**20
    print(f'| {name} | {1e3 * statistics.median(seconds):,.0f} | {memory:,.0f} |')


if __name__ == '__main__':
  main()
