"""DCGAN's train step, beside the same step in PyTorch when it is installed.

  python benchmarks/gan_train.py [--side 32] [--batch 128] [--rounds 5] [--dtype float32|bfloat16]

One step: the discriminator's update on real and generated images, the generator's on new latents, the generator's
moving average. Widths are 64, 128, 256 and back, with batch norm in both networks.
The generator doubles the resolution by sub-pixel convolutions; DCGAN's transposed ones, of which a step has fewer
products, stand as a further row.
"""

import argparse

import jax
import jax.numpy as jnp
import numpy as np
import optax
from timing import interleave, report, stepper

from jaxssl import methods, models

WIDTHS, LATENT_SIZE = (256, 128, 64), 100


def jax_step(images: np.ndarray, steps: int, dtype: str):
  """Returns a function that takes `steps` steps of jaxssl's GAN."""
  dtype = jnp.dtype(dtype)
  adam = lambda: optax.adam(2e-4, b1=0.5)
  method = methods.GAN(
      models.ConvDiscriminator(WIDTHS[::-1], norm='batch', dtype=dtype),
      models.Generator(models.ConvDecoder(WIDTHS, batch_norm=True, dtype=dtype)), adam(), adam(),
      latent_size=LATENT_SIZE)
  batch, key = {'views': (jnp.asarray(images),)}, jax.random.key(0)
  return stepper(method.step, jax.jit(method.init)(key, batch), batch, key, steps)


def torch_step(images: np.ndarray, steps: int, dtype: str, transposed: bool):
  """Returns the same for PyTorch."""
  import torch
  from torch_gan_peer import stepper

  device = 'cuda' if torch.cuda.is_available() else 'cpu'
  x = torch.from_numpy(images.transpose(0, 3, 1, 2).copy()).to(device)
  return stepper(x, LATENT_SIZE, WIDTHS, steps, dtype, transposed)


def main():
  parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
  parser.add_argument('--side', type=int, default=32, help='a multiple of 8')
  parser.add_argument('--batch', type=int, default=128)
  parser.add_argument('--steps', type=int, default=5, help='steps a round')
  parser.add_argument('--rounds', type=int, default=5)
  parser.add_argument('--dtype', choices=('float32', 'bfloat16'), default='float32')
  args = parser.parse_args()
  images = np.random.default_rng(0).uniform(size=(args.batch, args.side, args.side, 3)).astype(np.float32)
  functions = {'jaxssl': jax_step(images, args.steps, args.dtype)}
  try:
    functions['PyTorch'] = torch_step(images, args.steps, args.dtype, transposed=False)
    functions['PyTorch, transposed convolutions'] = torch_step(images, args.steps, args.dtype, transposed=True)
  except ImportError as error:
    print(f'PyTorch is not measured: {error}')
  report(f'DCGAN step, {args.side} px, batch {args.batch}, {args.dtype}', interleave(functions, args.rounds),
         dict.fromkeys(functions, args.steps), 'steps')


if __name__ == '__main__':
  main()
