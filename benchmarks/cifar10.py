"""SimCLR, CPC or CMC on CIFAR-10 from an .npz of arrays, as in configs/: accuracies, minutes, peak memory.

  python benchmarks/cifar10.py --data cifar10.npz --method simclr --epochs 200 --batch 512
  python benchmarks/cifar10.py --data cifar10.npz --method cpc --epochs 60 --batch 256
  python benchmarks/cifar10.py --data cifar10.npz --method cmc --epochs 100 --batch 256

Needs neither TensorFlow nor ml_collections nor a work directory. Published beside it: lightly's SimCLR, ResNet-18,
batch 512, 200 epochs: k-NN (k = 200, temperature 0.1) .848, its best epoch on the test set, in 97.7 minutes; Lightning
Bolts' CPC v2, a ResNet-101 on the patches, batch 64, 1000 epochs: .845 after fine-tuning.
"""

import argparse
import time

import jax
import jax.numpy as jnp
from timing import hardware

from jaxssl import augment, data, methods, models, recipes
from jaxssl.evaluation import adapt, evaluate, flatten
from jaxssl.training import loop, optimizers, schedules


def simclr(dtype, **run):
  """Returns recipe and method of configs/simclr_cifar10.py."""
  rate = schedules.warmup_cosine(1.0, **run)
  return recipes.simclr(32, strength=0.5, blur=0.0), methods.SimCLR(
      models.resnet18(stem='small', dtype=dtype), models.MLP((512, 128), dtype=dtype),
      optimizers.lars(rate, weight_decay=1e-4), temperature=0.5)


def cpc(dtype, **run):
  """Returns recipe and method of configs/cpc_cifar10.py."""
  rate = schedules.warmup_cosine(1e-3, scaling='none', warmup_epochs=5.0, **run)
  recipe = recipes.patches(
      32, 8, 4, area=(0.3, 1.0), ratio=(3 / 4, 4 / 3), strength=0.5, patch_flip=0.0, color_drop=0.0, shear=0.0,
      elastic=0.0)
  network = models.ResNet((3, 4, 6), 'bottleneck', (64, 128, 256), stem='small', norm='layer', dtype=dtype)
  predictor = models.GridPredictor(
      models.MaskedConvContext(256, 5, dtype), models.LinearPredictor(3, 64), ('down', 'left', 'up', 'right'), skip=1,
      target_features=64)
  return recipe, methods.CPCImage(
      models.PatchEncoder(network, 8, 4), predictor, optimizers.adamw(rate, weight_decay=1e-5))


def cmc(dtype, **run):
  """Returns recipe and method of configs/cmc_cifar10.py."""
  rate = schedules.warmup_cosine(0.06, warmup_epochs=5.0, **run)
  encoder = models.resnet18(stem='small', widths=(32, 64, 128, 256), dtype=dtype)
  return recipes.multiview(32), methods.CMC(encoder, optimizers.sgd(rate, weight_decay=1e-4), temperature=0.1)


METHODS = {'simclr': simclr, 'cpc': cpc, 'cmc': cmc}


def main():
  parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
  parser.add_argument('--data', required=True)
  parser.add_argument('--method', choices=tuple(METHODS), default='simclr')
  parser.add_argument('--epochs', type=int, default=200)
  parser.add_argument('--batch', type=int, default=512)
  parser.add_argument('--dtype', choices=('float32', 'bfloat16'), default='bfloat16')
  parser.add_argument('--minutes', type=float, default=9.0, help='stop, evaluate and say so after so long')
  args = parser.parse_args()
  source, train, test = (data.load('npz', None, args.data, split) for split in ('pretrain', 'train', 'test'))
  steps = args.epochs * len(source) // args.batch
  recipe, method = METHODS[args.method](
      jnp.dtype(args.dtype), batch_size=args.batch, steps=steps, steps_per_epoch=len(source) / args.batch)
  prepare = augment.prepare(recipe, 'device')
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
  encode = lambda state: jax.jit(lambda images: method.represent(state, adapt(images, recipe, 3)))
  rows = evaluate({'raw': flatten, 'random': encode(initial), 'trained': encode(state)}, train, test,
                  knn={'k': 200, 'temperature': 0.1}, linear={'l2': 1e-4}, batch_size=args.batch)
  print(f'\n### {args.method}, CIFAR-10, batch {args.batch}, {args.dtype}, {step} of {steps} steps\n{hardware()}\n')
  print(f'{minutes:.1f} minutes, {step * args.batch / minutes / 60:,.0f} images/s, peak memory {peak:.1f} GiB')
  for row in rows:
    print(f'{row["protocol"]:8} {row["features"]:8} {row["value"]:.4f}')


if __name__ == '__main__':
  main()
