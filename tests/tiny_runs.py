"""Any config at a size of seconds: the same sections and the same code, with small networks, images and batches."""

import contextlib
import itertools
import math

import jax
import numpy as np

from jaxssl import build, recipes
from jaxssl.cli import runs
from jaxssl.training import loop, mesh

BATCH_SIZE = 8
# The most that an integer, or each of a tuple of them, may be. Widths of 4 let w_mse whiten a batch of 8.
MOST = {
    'blocks': 1, 'categories': 3, 'code_dim': 8, 'code_size': 4, 'count': 8, 'depth': 1, 'directions': 8, 'features': 4,
    'freeze_steps': 0, 'heads': 2, 'latent_size': 4, 'n_critic': 2, 'num_codes': 8, 'num_negatives': 4, 'patch': 4,
    'queue_size': 16, 'queue_start': 0, 'residual_blocks': 1, 'stage_sizes': 1, 'target_features': 4,
    'warmup_epochs': 0.0, 'whitening_size': 8, 'width': 16, 'widths': 4,
}
BLOCKS = {'resnet18': 'basic', 'resnet34': 'basic', 'resnet50': 'bottleneck', 'resnet101': 'bottleneck'}


def shrink(config):
  """Returns a config's values with all that takes time made small; two steps of it take seconds."""
  return {**config, 'steps': 2, 'batch_size': BATCH_SIZE, 'method': _small('method', config['method']),
          'data': {**config['data'], 'recipe': _small_recipe(config['data']['recipe'], _patch(config['method']))}}


def two_steps(config, folder):
  """Takes two steps on random data, as the train command does; returns the state before and after, and the metrics."""
  config = _with_data(config, folder / 'data.npz')
  source = build.load_source(config, 'pretrain')
  experiment = build.build(config, len(source))
  device = mesh.make_mesh(1, 1, jax.devices()[:1])
  with contextlib.closing(build.stream(config, source)) as stream, jax.set_mesh(device):
    first = next(stream)
    state = runs.initial_state(experiment, _Seed(config['seed']), device, first)
    before = jax.tree.map(np.asarray, state)
    batches, key = itertools.chain([first], stream), jax.random.key(config['seed'])
    taken = list(loop.train(experiment.method, experiment.prepare, state, batches, key, steps=2))
  after = jax.tree.map(np.asarray, taken[-1][1])
  return before, after, [jax.tree.map(np.asarray, metrics) for _, _, metrics, _ in taken]


class _Seed:
  """What `runs.initial_state` reads of a config."""

  def __init__(self, seed):
    self.seed = seed


def _small(key, value):
  if isinstance(value, dict):
    return _small_network({name: _small(name, each) for name, each in value.items()})
  if isinstance(value, tuple | list):
    return tuple(_small(key, each) for each in value)
  is_number = isinstance(value, int | float) and not isinstance(value, bool)
  return min(value, MOST[key]) if key in MOST and is_number else value


def _small_network(section):
  """Presets become the network that they are of; networks of patches get small patches."""
  name = section.get('name')
  if name in BLOCKS:
    return {'block': BLOCKS[name], **section, 'name': 'resnet', 'stage_sizes': (1,) * 4, 'widths': (4,) * 4}
  if isinstance(name, str) and name.startswith('vit_'):
    return {**section, 'name': 'vit', 'width': 16, 'depth': 1, 'heads': 2}
  return {**section, 'size': 8, 'stride': 4} if name == 'patches' else section


def _small_recipe(recipe, patch):
  """Images of few pixels: where they are cut into patches, of as many as before, up to seven by seven."""
  recipe = dict(recipe)
  if recipe['name'] == 'patches':
    columns = (recipe['size'] - recipe['patch_size']) // recipe['patch_stride'] + 1
    return {**recipe, 'size': 8 + 4 * (min(columns, 7) - 1), 'patch_size': 8, 'patch_stride': 4}
  if recipe['name'] in ('audio', 'speech', 'spectrogram'):
    return recipe
  size, small = recipe['size'], min(patch, MOST['patch']) if patch else 4
  columns = min(size // patch, 7) if patch else 4
  if 'small_size' in recipe:
    recipe['small_size'] = small * max(2, round(columns * recipe['small_size'] / size))
  return {**recipe, 'size': small * columns}


def _patch(section):
  """The patch of the vision transformer in a section, if there is one."""
  if not isinstance(section, dict):
    return None
  return section.get('patch') or next(filter(None, map(_patch, section.values())), None)


def _with_data(config, file):
  """The config with random examples of the kind that its recipe reads, from a file; the bundled set stays."""
  section = config['data']
  if section['source'] == 'bundled':
    return config
  np.savez(file, **_examples(config))
  return {**config, 'data': {**section, 'source': 'npz', 'name': '', 'path': str(file)}}


def _examples(config, n=40):
  rng = np.random.default_rng(0)
  recipe = build.views(config)[0]
  wave = lambda length: rng.integers(-9999, 9999, n * length).astype(np.int16)
  if isinstance(recipe, recipes.Audio):
    return {'audio': wave(recipe.span), 'offsets': recipe.span * np.arange(n + 1), 'rate': recipe.rate,
            'speakers': np.arange(n) // 8}
  if getattr(recipe, 'spectrogram', None) is not None:
    heard = config['data']['recipe']
    length = math.ceil(heard['rate'] * heard['seconds'])
    return {'audio': wave(length), 'offsets': length * np.arange(n + 1), 'rate': heard['rate']}
  channels = 1 if 'fashion_mnist' in config['data']['name'] else 3
  images = rng.integers(0, 256, (n, recipe.input_size, recipe.input_size, channels), np.uint8)
  if isinstance(recipe, recipes.Paired):
    return {'view_0': images, 'view_1': rng.standard_normal((n, 5)).astype(np.float32)}
  return {'images': images}
