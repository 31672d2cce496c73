"""The claims of contrastive multiview coding, in small: CIFAR-10, a network of seconds, several seeds.

  python benchmarks/cmc_claims.py --data cifar10.npz --out claims.json [--seeds 3] [--steps 1000] [--only NAME …]

Every setting sees the same images, crops, batch and number of steps, with one small ResNet for each view; then its
features are measured by a linear probe (L-BFGS) and by weighted k-NN, of all views side by side and of L's encoder
alone. FILE.npz holds train_images, train_labels, test_images and test_labels. Settings and seeds that --out has already
are not run again.
"""

import argparse
import dataclasses
import json
import os
import statistics

import jax
import jax.numpy as jnp
import numpy as np
import optax
from timing import hardware

from jaxssl import augment, core, data, evaluation, methods, models, recipes
from jaxssl.evaluation import knn, linear_probe
from jaxssl.models.forward import forward
from jaxssl.models.multiview import PerView
from jaxssl.training import loop, optimizers, schedules

SIZE, BATCH = 32, 128
ENCODER = models.ResNet((1, 1, 1), 'basic', (16, 32, 64), stem='strided', average_pool_shortcut=True)


@dataclasses.dataclass(frozen=True)
class Prediction:
  """The baseline of the paper's section 4.3: each view's encoder predicts the pixels of every other view, by L2."""

  encoder: models.ResNet
  optimizer: optax.GradientTransformation
  views: int

  def network(self, views):
    decoders = tuple(
        models.MLP((256, sum(v.size // len(v) for j, v in enumerate(views) if j != i)), output_bn=False,
                   output_bias=True) for i in range(self.views))
    return models.MultiviewNetwork(PerView(self.encoder), PerView(decoders))

  def init(self, key, batch):
    return core.init_state(self.network(batch['views']), self.optimizer, key, batch['views'])

  def loss(self, params, stats, views):
    (_, predicted), stats = forward(self.network(views), params, stats, views)
    flat = [view.reshape(len(view), -1) for view in views]
    targets = [jnp.concatenate(flat[:i] + flat[i + 1 :], axis=1) for i in range(self.views)]
    return sum(jnp.mean((p - t) ** 2) for p, t in zip(predicted, targets, strict=True)), (stats, {})

  def step(self, state, batch, key):
    del key
    return core.descend(lambda params: self.loss(params, state.stats, batch['views']), self.optimizer, state)

  def represent(self, state, inputs, name=None, mask=None):
    del mask
    cmc = methods.CMC(self.encoder, self.optimizer, views=self.views)
    return cmc.represent(state, inputs, name)


# Name -> the recipe's modalities, whether all are of the same crop, the method's class, and its fields.
COLOURS, THREE = ('L', 'ab'), ('L', 'ab', 'gradients')
SETTINGS = {
    'random encoders: L, ab': (COLOURS, True, methods.CMC, {}),
    '1 view: crops of L': (('L', 'L'), False, methods.CMC, {'shared': True}),
    '2 views: L, ab': (COLOURS, True, methods.CMC, {}),
    '3 views: L, a, b, full graph': (('L', 'a', 'b'), True, methods.CMC, {}),
    '3 views: L, a, b, core view': (('L', 'a', 'b'), True, methods.CMC, {'graph': 'core'}),
    '3 views: L, ab, gradients, full graph': (THREE, True, methods.CMC, {}),
    '3 views: L, ab, gradients, core view': (THREE, True, methods.CMC, {'graph': 'core'}),
    'prediction: L, ab': (COLOURS, True, Prediction, {}),
    'memory, softmax: L, ab': (COLOURS, True, methods.CMC, {'contrast': 'memory'}),
    'memory, NCE: L, ab': (COLOURS, True, methods.CMC, {'contrast': 'memory_nce'}),
}


def pretrain(name, source, seed, steps, rate, temperature):
  """Returns the method, its recipe and its state after `steps` steps."""
  modalities, same_crop, make, fields = SETTINGS[name]
  recipe = recipes.multiview(SIZE, modalities, same_crop=same_crop)
  rate = schedules.warmup_cosine(
      rate, batch_size=BATCH, steps=steps, steps_per_epoch=steps, scaling='none', warmup_epochs=0.05)
  optimizer = optimizers.adamw(rate, weight_decay=1e-4)
  if make is methods.CMC:
    fields = {'num_examples': len(source), 'num_negatives': 4096, 'temperature': temperature, **fields}
  method = make(ENCODER, optimizer, views=len(modalities), **fields)
  prepare, key = augment.prepare(recipe), jax.random.key(seed)
  batches = data.batches(source, recipe, engine='device', seed=seed, batch_size=BATCH)
  example = {'inputs': source.inputs[:BATCH], 'index': np.arange(BATCH, dtype=np.int32)}
  state = jax.jit(lambda key: method.init(key, prepare(example, key)))(key)
  metrics = {}
  if not name.startswith('random'):
    for update in loop.train(method, prepare, state, batches, key, 0, steps):
      _, state, metrics, _ = update
    if int(state.failed_step) >= 0:
      raise FloatingPointError(f'{name}: the loss was not finite at step {int(state.failed_step)}')
  batches.close()
  return method, recipe, state, {key: float(value) for key, value in metrics.items()}


def measure(method, recipe, state, train, test, layers=('h', 'h_view0')):
  """Returns linear-probe and k-NN accuracies of each of the layers."""
  found = {}
  for layer in layers:
    encode = jax.jit(lambda x, layer=layer: method.represent(state, evaluation.adapt(x, recipe, 3), layer))
    features = [evaluation.extract(encode, source.inputs, batch_size=500) for source in (train, test)]
    pairs = features[0], train.labels, features[1], test.labels
    found[f'{layer}: linear'] = linear_probe.accuracy(*pairs)[0]
    found[f'{layer}: k-NN'] = knn.accuracy(*pairs, k=20, temperature=0.1)
  return found


def load(path, train_size, test_size):
  with np.load(path, allow_pickle=False) as arrays:
    part = lambda name, count: data.Source(
        name, arrays[f'{name}_images'][:count], arrays[f'{name}_labels'][:count])
    return part('train', train_size), part('test', test_size)


def report(results, settings, arguments):
  columns = [key for key in next(iter(results.values())) if ':' in key]
  print(f'\nCIFAR-10, {arguments.train:,} training and {arguments.test:,} test images, {arguments.steps:,} steps of '
        f'{BATCH}; {hardware()}\n')
  print('| setting | ' + ' | '.join(columns) + ' | seeds |\n|' + '---|' * (len(columns) + 2))
  for name in settings:
    rows = [row for key, row in results.items() if key.rpartition(' / ')[0] == name]
    if rows:
      cells = [[row[column] for row in rows] for column in columns]
      text = [f'{statistics.mean(each):.3f} [{min(each):.3f}-{max(each):.3f}]' for each in cells]
      print('| ' + ' | '.join([name, *text, str(len(rows))]) + ' |')


def main(description, settings, pretrain, measure):
  parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
  parser.add_argument('--data', required=True)
  parser.add_argument('--out', required=True)
  parser.add_argument('--seeds', type=int, default=3)
  parser.add_argument('--steps', type=int, default=1000)
  parser.add_argument('--rate', type=float, default=3e-3)
  parser.add_argument('--temperature', type=float, default=0.1)
  parser.add_argument('--train', type=int, default=50_000)
  parser.add_argument('--test', type=int, default=10_000)
  parser.add_argument('--only', nargs='*', default=list(settings), choices=list(settings))
  arguments = parser.parse_args()
  train, test = load(arguments.data, arguments.train, arguments.test)
  results = {}
  if os.path.exists(arguments.out):
    with open(arguments.out, encoding='utf-8') as file:
      results = json.load(file)
  for seed in range(arguments.seeds):
    for name in arguments.only:
      if f'{name} / {seed}' in results:
        continue
      method, recipe, state, metrics = pretrain(
          name, train, seed, arguments.steps, arguments.rate, arguments.temperature)
      results[f'{name} / {seed}'] = {**measure(method, recipe, state, train, test), **metrics}
      print(name, seed, {k: round(v, 3) for k, v in results[f'{name} / {seed}'].items()}, flush=True)
      with open(arguments.out, 'w', encoding='utf-8') as file:
        json.dump(results, file, indent=1)
  report(results, settings, arguments)


if __name__ == '__main__':
  main(__doc__, SETTINGS, pretrain, measure)
