"""SimCLR's augmentation: views per second and core, for every engine, beside torchvision's transforms if installed.

  python benchmarks/input_pipeline.py [--size 32] [--batch 256] [--engines device host split torchvision]

The images are random uint8 arrays of the size asked for, in memory: what is measured is the augmentation, not a disk.
"""

import argparse
import os
import time

import jax
import numpy as np
from timing import interleave, report

from jaxssl import augment, data, recipes

STEPS = 20  # Batches a round, many beside the two that are prefetched.


def device(images: np.ndarray, recipe: recipes.Recipe, batch: int):
  """The JAX engine: one jitted call a batch."""
  prepare = jax.jit(augment.prepare(recipe, 'device'))
  inputs, key = jax.device_put(images[:batch]), jax.random.key(0)

  def run():
    for step in range(STEPS):
      views = prepare({'inputs': inputs}, jax.random.fold_in(key, step))['views']
    jax.block_until_ready(views)

  return run


def streaming(images: np.ndarray, recipe: recipes.Recipe, batch: int, engine: str):
  """tf.data: 'host' makes the whole view, 'split' crop and flip alone."""
  source = data.Source('random', images)

  def run():
    # A stream of its own, closed at the end: an open one would fill its buffers while the others are timed.
    stream = data.batches(source, recipe, engine=engine, seed=0, batch_size=batch)
    next(stream)
    began = time.perf_counter()
    for _ in range(STEPS):
      next(stream)
    seconds = time.perf_counter() - began
    stream.close()
    return seconds

  return run


def torchvision(images: np.ndarray, recipe: recipes.Recipe, batch: int):
  """torchvision's transforms on PIL images, one process: the usual PyTorch pipeline before its workers."""
  from PIL import Image
  from torchvision import transforms

  view = recipe.views[0]
  jitter = transforms.ColorJitter(view.brightness, view.contrast, view.saturation, view.hue)
  steps = [
      transforms.RandomResizedCrop(view.size, view.area, interpolation=transforms.InterpolationMode.BICUBIC),
      transforms.RandomHorizontalFlip(view.flip), transforms.RandomApply([jitter], view.jitter),
      transforms.RandomGrayscale(view.grey)]
  if view.blur:
    steps.append(transforms.RandomApply([transforms.GaussianBlur(view.kernel_size, view.sigma)], view.blur))
  transform = transforms.Compose([*steps, transforms.ToTensor()])
  pictures = [Image.fromarray(image) for image in images[:batch]]

  def run():
    for _ in range(STEPS):
      for picture in pictures:
        transform(picture), transform(picture)

  return run


def main():
  parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
  parser.add_argument('--size', type=int, default=32)
  parser.add_argument('--batch', type=int, default=256)
  parser.add_argument('--rounds', type=int, default=5)
  names = ('device', 'host', 'split', 'torchvision')
  parser.add_argument('--engines', nargs='+', choices=names, default=names)
  args = parser.parse_args()
  images = np.random.default_rng(0).integers(0, 256, (4 * args.batch, args.size, args.size, 3), np.uint8)
  recipe = recipes.simclr(args.size, strength=0.5 if args.size <= 32 else 1.0)
  make = {
      'device': device, 'torchvision': torchvision,
      'host': lambda *a: streaming(*a, 'host'), 'split': lambda *a: streaming(*a, 'split')}
  functions = {}
  for name in args.engines:
    try:
      functions[name] = make[name](images, recipe, args.batch)
    except (ImportError, RuntimeError) as error:  # torchvision raises RuntimeError beside another build of torch.
      print(f'{name} is not measured: {error}')
  seconds = interleave(functions, args.rounds)
  # Per core: tf.data and XLA use all cores of a CPU, torchvision's transforms one; a GPU counts as one.
  cores = {name: os.cpu_count() or 1 for name in functions}
  if 'torchvision' in cores:
    cores['torchvision'] = 1
  if jax.devices()[0].platform != 'cpu' and 'device' in cores:
    cores['device'] = 1
  items = {name: 2 * args.batch * STEPS / cores[name] for name in functions}
  report(f'SimCLR views, {args.size} px, batch {args.batch}', seconds, items, 'views/core')


if __name__ == '__main__':
  main()
