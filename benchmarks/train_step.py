"""SimCLR's train step, ResNet-18 at 32 pixels, beside the same step in PyTorch when torch is installed.

  python benchmarks/train_step.py [--batch 64] [--rounds 5] [--dtype float32|bfloat16]

One step: two views (made before the clock starts) through ResNet-18 with the 3x3 stem and a 512-128 head, NT-Xent,
gradients, SGD with momentum. PyTorch runs channels_last, and torch.compile where a GPU is used.
"""

import argparse

import jax
import jax.numpy as jnp
import numpy as np
import optax
from timing import interleave, report, stepper

from jaxssl import methods, models


def jax_step(views: np.ndarray, steps: int, dtype: str):
  """Returns a function that takes `steps` steps of jaxssl's SimCLR."""
  encoder = models.resnet18(stem='small', dtype=jnp.dtype(dtype))
  method = methods.SimCLR(encoder, models.MLP((512, 128)), optax.sgd(0.06, momentum=0.9), temperature=0.5)
  batch = {'views': tuple(jnp.asarray(view) for view in views)}
  key = jax.random.key(0)
  return stepper(method.step, jax.jit(method.init)(key, batch), batch, key, steps)


def torch_step(views: np.ndarray, steps: int, dtype: str):
  """Returns the same for PyTorch."""
  import torch
  from torch_peer import SimCLR, stepper

  device = 'cuda' if torch.cuda.is_available() else 'cpu'
  model = SimCLR().to(device, memory_format=torch.channels_last)
  x = torch.from_numpy(views.transpose(0, 1, 4, 2, 3)).reshape(-1, 3, 32, 32).to(device)
  x = x.contiguous(memory_format=torch.channels_last)
  return stepper(model, torch.optim.SGD(model.parameters(), 0.06, momentum=0.9), x, steps, dtype)


def main():
  parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
  parser.add_argument('--batch', type=int, default=64)
  parser.add_argument('--steps', type=int, default=3, help='steps a round')
  parser.add_argument('--rounds', type=int, default=5)
  parser.add_argument('--dtype', choices=('float32', 'bfloat16'), default='float32')
  args = parser.parse_args()
  views = np.random.default_rng(0).uniform(size=(2, args.batch, 32, 32, 3)).astype(np.float32)
  functions = {'jaxssl': jax_step(views, args.steps, args.dtype)}
  try:
    functions['PyTorch'] = torch_step(views, args.steps, args.dtype)
  except ImportError as error:
    print(f'PyTorch is not measured: {error}')
  seconds = interleave(functions, args.rounds)
  report(f'SimCLR step, ResNet-18, 32 px, batch {args.batch}, {args.dtype}', seconds,
         dict.fromkeys(functions, args.steps), 'steps')


if __name__ == '__main__':
  main()
