"""SimCLR on CIFAR-10 from an .npz of arrays, with configs/simclr_cifar10.py: k-NN accuracy, minutes, peak memory.

  python benchmarks/cifar10.py --data cifar10.npz --epochs 200 --batch 512

Needs neither TensorFlow nor ml_collections nor a work directory. Published beside it: lightly's SimCLR, ResNet-18,
batch 512, 200 epochs: k-NN (k = 200, temperature 0.1) .848, its best epoch on the test set, in 97.7 minutes.
"""

import argparse
import time

import jax
import jax.numpy as jnp
from timing import hardware

from jaxssl import augment, data, methods, models, recipes
from jaxssl.evaluation import evaluate, flatten
from jaxssl.training import loop, optimizers, schedules


def main():
  parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
  parser.add_argument('--data', required=True)
  parser.add_argument('--epochs', type=int, default=200)
  parser.add_argument('--batch', type=int, default=512)
  parser.add_argument('--learning_rate', type=float, default=1.0, help='at batch 256')
  parser.add_argument('--dtype', choices=('float32', 'bfloat16'), default='bfloat16')
  parser.add_argument('--minutes', type=float, default=9.0, help='stop, evaluate and say so after so long')
  args = parser.parse_args()
  source, train, test = (data.load('npz', None, args.data, split) for split in ('pretrain', 'train', 'test'))
  recipe = recipes.simclr(32, strength=0.5, blur=0.0)
  prepare = augment.prepare(recipe, 'device')
  steps = args.epochs * len(source) // args.batch
  rate = schedules.warmup_cosine(
      args.learning_rate, batch_size=args.batch, steps=steps, steps_per_epoch=len(source) / args.batch)
  method = methods.SimCLR(
      models.resnet18(stem='small', dtype=jnp.dtype(args.dtype)), models.MLP((512, 128), dtype=jnp.dtype(args.dtype)),
      optimizers.lars(rate, weight_decay=1e-4), temperature=0.5)
  key = jax.random.key(0)
  example = {'inputs': jnp.zeros((args.batch, 32, 32, 3), jnp.uint8)}
  initial = jax.jit(lambda key, batch: method.init(key, prepare(batch, key)))(key, example)
  began = time.time()
  batches = data.batches(source, recipe, engine='device', seed=0, batch_size=args.batch)
  run = loop.train(method, prepare, jax.tree.map(jnp.copy, initial), batches, key, 0, steps)
  for step, state, metrics, _ in run:  # noqa: B007 (the last state is evaluated)
    if step % 500 == 0:
      minutes = (time.time() - began) / 60
      print(f'step {step}/{steps}, loss {float(metrics["loss"]):.4f}, {minutes:.2f} min', flush=True)
      if minutes > args.minutes:
        break
  jax.block_until_ready(state)
  minutes = (time.time() - began) / 60
  peak = (jax.devices()[0].memory_stats() or {}).get('peak_bytes_in_use', 0) / 2**30
  encode = lambda state: jax.jit(lambda images: method.represent(state, images))
  rows = evaluate({'raw': flatten, 'random': encode(initial), 'trained': encode(state)}, train, test,
                  knn={'k': 200, 'temperature': 0.1}, linear={'l2': 1e-4}, batch_size=1000)
  print(f'\n### SimCLR, CIFAR-10, ResNet-18, batch {args.batch}, {args.dtype}, {step} of {steps} steps\n{hardware()}\n')
  print(f'{minutes:.1f} minutes, {step * args.batch / minutes / 60:,.0f} images/s, peak memory {peak:.1f} GiB')
  for row in rows:
    print(f'{row["protocol"]:8} {row["features"]:8} {row["value"]:.4f}')


if __name__ == '__main__':
  main()
