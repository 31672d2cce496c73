"""Every config is built, traced at its real shapes, and takes two steps at a tiny size; most of them with `-m slow`."""

import os
import sys

import jax
import numpy as np
import pytest

sys.path.insert(0, os.path.dirname(__file__))
from config_files import CONFIGS, host_batch, load
from tiny_runs import shrink, two_steps

from jaxssl import build, recipes

# One a method that is quick to trace, and one a kind of data: drawings, colour and grey images, pairs of any views, two
# modalities, crops of two sizes, patches, recordings, spectrograms.
TRACED = {
    'adversarial_autoencoder_omniglot', 'autoencoder_fashion_mnist', 'barlow_twins_omniglot', 'bigan_omniglot',
    'byol_omniglot', 'cmc_cifar10', 'cmc_views', 'cpc_cifar10', 'cpc_spoken_digit', 'dino_omniglot', 'gan_omniglot',
    'i_jepa_omniglot', 'lejepa_omniglot', 'mae_spoken_digit', 'moco_omniglot', 'moco_v3_omniglot', 'nnclr_omniglot',
    'simclr_folder', 'simsiam_omniglot', 'swav_imagenette', 'vae_omniglot', 'vicreg_omniglot', 'vq_vae_omniglot',
    'w_mse_omniglot'}
# Of images, pairs and recordings; tests/cli trains most of the others.
STEPPED = {'cmc_views', 'cpc_spoken_digit', 'mae_fashion_mnist'}


def configs(quick):
  """All configs, those that are not `quick` marked slow."""
  assert quick <= {path.stem for path in CONFIGS}
  return pytest.mark.parametrize('path', [
      pytest.param(path, id=path.stem, marks=() if path.stem in quick else pytest.mark.slow) for path in CONFIGS])


def test_those_traced_by_default_cover_the_methods_and_the_recipes():
  loaded = {path.stem: load(path) for path in CONFIGS}
  of = lambda stems: {loaded[stem]['method']['name'] for stem in stems}
  assert of(TRACED) == of(loaded)
  recipe = lambda stems: {loaded[stem]['data']['recipe']['name'] for stem in stems}
  assert recipe(TRACED) == recipe(loaded) - {'byol', 'dino'}  # Those of 'simclr' and of 'multi_crop' but for numbers.


@pytest.mark.parametrize('path', CONFIGS, ids=lambda path: path.stem)
def test_every_config_builds_and_has_the_same_sections(path):
  made = load(path)
  experiment = build.build(made, 2_000_000)
  hears = isinstance(experiment.recipe, recipes.Audio)
  expected = build.METHODS[made['method']['name']]
  assert isinstance(experiment.method, expected) and hears == (made['data']['recipe']['name'] in ('audio', 'speech'))
  rate = experiment.schedules['learning_rate']
  schedule = made['method']['optimizer']['learning_rate']
  warms_up = schedule['name'] == 'warmup_cosine' and schedule['warmup_epochs'] > 0
  assert rate(made['steps'] // 2) > 0 and (rate(0) == 0) == warms_up
  default = load(CONFIGS[0].with_name('default.py'))
  assert made.keys() == default.keys()
  for section in ('data', 'checkpoint', 'logging', 'evaluation', 'mesh'):
    absent = {'sgd', 'finetune'} if hears and section == 'evaluation' else set()  # What trains on images.
    protocols = {*made[section].get('protocols', ())}
    added = {'reconstruction'} & protocols
    optional = ({'samples'} & protocols) | {'online'}  # All their keys have defaults.
    assert made[section].keys() - optional == (default[section].keys() - absent - optional) | added
    assert hasattr(experiment.method, 'score') or not added
    assert hasattr(experiment.method, 'sample') or 'samples' not in protocols


@configs(TRACED)
def test_a_step_can_be_traced_at_the_real_shapes(path):
  made = load(path)
  experiment = build.build(made, 2_000_000)

  def run(batch, key):
    batch = experiment.prepare(batch, key)
    state = experiment.method.init(key, batch)
    return state, experiment.method.step(state, batch, key)

  before, (after, metrics) = jax.eval_shape(run, host_batch(made, experiment.recipe), jax.random.key(0))
  assert metrics['loss'].shape == ()
  assert jax.tree.map(lambda leaf: (leaf.shape, leaf.dtype), before) == jax.tree.map(
      lambda leaf: (leaf.shape, leaf.dtype), after)


@configs(STEPPED)
def test_two_steps_at_a_tiny_size(path, tmp_path):
  before, after, metrics = two_steps(shrink(load(path)), tmp_path)
  assert after.step == 2 and after.failed_step == -1
  assert all(np.isfinite(each['loss']) for each in metrics), metrics
  moved = jax.tree.map(lambda old, new: not np.array_equal(old, new), before.params, after.params)
  assert np.mean(jax.tree.leaves(moved)) > 0.5, moved
