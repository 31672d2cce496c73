"""MAE's train step, beside the same step in PyTorch with timm's blocks when both are installed.

  python benchmarks/mae_train.py [--model small] [--batch 64] [--rounds 5] [--dtype float32|bfloat16]

One step: a mask drawn for each image, a quarter of the patches through the encoder, all through the decoder, the error
of the hidden ones, gradients, AdamW. 'small' is ViT-S with patches of 4 at 32 pixels and a decoder of 4 blocks of width
192; 'base' the paper's ViT-B with patches of 16 at 224 pixels and 8 blocks of width 512. On a GPU whose peak is known
it also prints what share of it the matrix products use: forward and twice that for the gradients, nothing computed
again.
"""

import argparse
import statistics

import jax
import jax.numpy as jnp
import numpy as np
import optax
from timing import interleave, report, stepper

from jaxssl import methods, models

# Side of an image, encoder, and the decoder's width, depth and heads.
SIZES = {
    'small': (32, models.vit_small(4), (192, 4, 3)),
    'base': (224, models.vit_base(16), (512, 8, 16)),
}
BATCHES = {'small': 64, 'base': 8}
ADAMW = {'b1': 0.9, 'b2': 0.95, 'weight_decay': 0.05}
PEAKS = {  # Dense matrix products a second, without sparsity: TF32 and bfloat16, from NVIDIA's data sheets.
    'NVIDIA A100': {'float32': 156e12, 'bfloat16': 312e12},
    'NVIDIA H100': {'float32': 494.7e12, 'bfloat16': 989.4e12},
    'NVIDIA H200': {'float32': 494.7e12, 'bfloat16': 989.4e12},
}


def jax_step(images: np.ndarray, model: str, steps: int, dtype: str, remat: bool = False):
  """Returns a function that takes `steps` steps of jaxssl's MAE."""
  _, encoder, decoder = SIZES[model]
  dtype = jnp.dtype(dtype)
  method = methods.MAE(
      encoder.clone(dtype=dtype, remat=remat), models.MAEDecoder(*decoder, dtype=dtype), optax.adamw(1e-4, **ADAMW))
  batch, key = {'views': (jnp.asarray(images),)}, jax.random.key(0)
  return stepper(method.step, jax.jit(method.init)(key, batch), batch, key, steps)


def torch_step(images: np.ndarray, model: str, steps: int, dtype: str):
  """Returns the same for PyTorch."""
  import torch
  from torch_mae_peer import MAE
  from torch_peer import stepper

  side, encoder, decoder = SIZES[model]
  device = 'cuda' if torch.cuda.is_available() else 'cpu'
  network = MAE(side, encoder.patch, encoder.width, encoder.depth, encoder.heads, decoder).to(device)
  optimizer = torch.optim.AdamW(network.parameters(), 1e-4, betas=(0.9, 0.95), weight_decay=0.05)
  return stepper(network, optimizer, torch.from_numpy(images.transpose(0, 3, 1, 2).copy()).to(device), steps, dtype)


def products_per_image(model: str) -> float:
  """Returns the floating-point operations of a step's matrix products for one image; a product and a sum are 2."""
  side, encoder, (width, depth, _) = SIZES[model]
  n, pixels = (side // encoder.patch) ** 2, 3 * encoder.patch**2
  blocks = lambda t, d, layers: layers * (2 * t * 12 * d**2 + 4 * t**2 * d)  # q, k, v, out, perceptron; scores, values.
  forward = (
      2 * (n // 4) * pixels * encoder.width + blocks(n // 4 + 1, encoder.width, encoder.depth)
      + 2 * (n // 4 + 1) * encoder.width * width + blocks(n + 1, width, depth) + 2 * n * width * pixels)
  return 3.0 * forward


def share_of_peak(seconds: dict[str, list[float]], images: int, model: str, dtype: str) -> None:
  """Prints it, where the peak is known."""
  kind = jax.devices()[0].device_kind
  peak = next((peaks[dtype] for name, peaks in PEAKS.items() if kind.startswith(name)), None)
  print(f'\nMatrix products of a step: {products_per_image(model) / 1e9:.2f} GFLOP an image.')
  for name, times in seconds.items():
    rate = products_per_image(model) * images / statistics.median(times)
    share = f', {rate / peak:.1%} of the peak for {dtype}' if peak else ''
    print(f'{name}: {rate / 1e12:.3g} TFLOP/s{share}')


def main():
  parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
  parser.add_argument('--model', choices=SIZES, default='small')
  parser.add_argument('--batch', type=int, help='64 for small, 8 for base')
  parser.add_argument('--steps', type=int, default=3, help='steps a round')
  parser.add_argument('--rounds', type=int, default=5)
  parser.add_argument('--dtype', choices=('float32', 'bfloat16'), default='float32')
  parser.add_argument('--remat', action='store_true', help='also the step that computes blocks again')
  args = parser.parse_args()
  batch, (side, *_) = args.batch or BATCHES[args.model], SIZES[args.model]
  images = np.random.default_rng(0).uniform(size=(batch, side, side, 3)).astype(np.float32)
  arguments = (images, args.model, args.steps, args.dtype)
  functions = {'jaxssl': jax_step(*arguments)}
  if args.remat:
    functions['jaxssl, remat'] = jax_step(*arguments, remat=True)
  try:
    functions['PyTorch'] = torch_step(*arguments)
  except ImportError as error:
    print(f'PyTorch is not measured: {error}')
  seconds = interleave(functions, args.rounds)
  patch = SIZES[args.model][1].patch
  report(f'MAE step, ViT-{args.model[0].upper()}/{patch}, {side} px, batch {batch}, {args.dtype}', seconds,
         dict.fromkeys(functions, args.steps * batch), 'images')
  share_of_peak(seconds, args.steps * batch, args.model, args.dtype)


if __name__ == '__main__':
  main()
