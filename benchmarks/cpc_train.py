"""CPC's train step on audio, at 8 and at 16 kHz, beside the same step in PyTorch when torch is installed.

  python benchmarks/cpc_train.py [--rate 8000] [--batch 64] [--rounds 5]

One step: windows (made before the clock starts) through the convolutions with batch norm, the GRU and W_k for 12 steps
ahead, InfoNCE with 128 negatives drawn for each sequence, gradients, Adam. At 8 kHz the network of
configs/cpc_spoken_digit.py (128 channels, windows of 0.5 s), at 16 kHz the paper's (512 channels, 1.28 s). Ours also
measures accuracy and bound at every step; 'loss alone' does not.
"""

import argparse

import jax
import jax.numpy as jnp
import numpy as np
import optax
from timing import interleave, report, stepper

from jaxssl import core, losses, methods, models
from jaxssl.models.forward import forward

AHEAD, DRAWN = 12, 128
# Samples of a window, channels, size of the context, kernels and strides.
SIZES = {
    8000: (4000, 128, 128, (10, 8, 4, 4), (5, 4, 2, 2)),
    16000: (20_480, 512, 256, (10, 8, 4, 4, 4), (5, 4, 2, 2, 2)),
}


def jax_step(waves: np.ndarray, rate: int, steps: int, metrics: bool):
  """Returns a function that takes `steps` steps of jaxssl's CPC."""
  _, features, context, kernels, strides = SIZES[rate]
  method = methods.CPC(
      models.AudioEncoder(features, kernels, strides), models.RNNContext('gru', context),
      models.LinearPredictor(AHEAD, features), optax.adam(2e-4), num_negatives=DRAWN)

  def loss(params, stats, batch, key):
    (z, _, predictions), stats = forward(method.network, params, stats, batch['views'][0])
    return losses.cpc_info_nce(predictions, z, num_negatives=DRAWN, key=key), (stats, {})

  def step(state, batch, key):
    if metrics:
      return method.step(state, batch, key)
    return core.descend(lambda params: loss(params, state.stats, batch, key), method.optimizer, state)

  batch, key = {'views': (jnp.asarray(waves),)}, jax.random.key(0)
  return stepper(step, jax.jit(method.init)(key, batch), batch, key, steps)


def torch_step(waves: np.ndarray, rate: int, steps: int):
  """Returns the same for PyTorch."""
  import torch
  from torch_peer import CPC, stepper

  device = 'cuda' if torch.cuda.is_available() else 'cpu'
  model = CPC(*SIZES[rate][1:], AHEAD, DRAWN).to(device)
  return stepper(model, torch.optim.Adam(model.parameters(), 2e-4), torch.from_numpy(waves).to(device), steps)


def main():
  parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
  parser.add_argument('--rate', type=int, choices=SIZES, default=8000)
  parser.add_argument('--batch', type=int, default=64)
  parser.add_argument('--steps', type=int, default=3, help='steps a round')
  parser.add_argument('--rounds', type=int, default=5)
  args = parser.parse_args()
  samples = SIZES[args.rate][0]
  waves = np.random.default_rng(0).normal(size=(args.batch, samples)).astype(np.float32)
  functions = {'jaxssl': jax_step(waves, args.rate, args.steps, metrics=True),
               'jaxssl, loss alone': jax_step(waves, args.rate, args.steps, metrics=False)}
  try:
    functions['PyTorch'] = torch_step(waves, args.rate, args.steps)
  except ImportError as error:
    print(f'PyTorch is not measured: {error}')
  seconds = interleave(functions, args.rounds)
  report(f'CPC step, {args.rate} Hz, {args.batch} windows of {samples} samples', seconds,
         dict.fromkeys(functions, args.steps), 'steps')


if __name__ == '__main__':
  main()
