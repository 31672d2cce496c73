"""SimCLR by NT-Xent and by multi-label CPC, in small: CIFAR-10, a network of seconds, the same budget, several seeds.

  python benchmarks/objectives.py --data cifar10.npz --out objectives.json [--seeds 3] [--steps 500]

FILE.npz and --out are as in cmc_claims.py, and so is how features are measured. The encoder is that of
configs/default.py.
"""

import functools

import cmc_claims
import jax
import numpy as np
from cmc_claims import BATCH, SIZE, measure

from jaxssl import augment, data, losses, methods, models, recipes
from jaxssl.training import loop, optimizers, schedules

ENCODER = models.ResNet((1, 1, 1), 'basic', (32, 64, 128), stem='strided', average_pool_shortcut=True)
SETTINGS = {
    'random encoder': None,
    'NT-Xent': {},
    'multi-label CPC, alpha 1': {'objective': 'ml_cpc'},
    'multi-label CPC, alpha 10 to 0.1': {'objective': 'ml_cpc', 'alpha': (10.0, 0.1)},
}


def pretrain(name, source, seed, steps, rate, temperature):
  """Returns the method, its recipe, its state after `steps` steps and the last metrics."""
  fields = dict(SETTINGS[name] or {})
  if 'alpha' in fields:
    high, low = fields['alpha']
    fields['alpha'] = functools.partial(losses.geometric_alpha, steps=steps, high=high, low=low)
  rate = schedules.warmup_cosine(
      rate, batch_size=BATCH, steps=steps, steps_per_epoch=steps, scaling='none', warmup_epochs=0.05)
  method = methods.SimCLR(
      ENCODER, models.MLP((128, 64)), optimizers.adamw(rate, weight_decay=1e-4), temperature=temperature, **fields)
  recipe, key = recipes.simclr(SIZE, strength=0.5, blur=0.0), jax.random.key(seed)
  prepare = augment.prepare(recipe)
  example = {'inputs': source.inputs[:BATCH], 'index': np.arange(BATCH, dtype=np.int32)}
  state, metrics = jax.jit(lambda key: method.init(key, prepare(example, key)))(key), {}
  batches = data.batches(source, recipe, engine='device', seed=seed, batch_size=BATCH)
  for update in loop.train(method, prepare, state, batches, key, 0, steps if SETTINGS[name] is not None else 0):
    _, state, metrics, _ = update
  batches.close()
  return method, recipe, state, {key: float(value) for key, value in metrics.items()}


if __name__ == '__main__':
  cmc_claims.main(__doc__, SETTINGS, pretrain, functools.partial(measure, layers=('h', 'z')))
