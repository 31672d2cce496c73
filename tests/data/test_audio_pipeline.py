"""Batches of audio: a function of (seed, step, slot), padded and masked, the same for any split over hosts."""

import dataclasses
import itertools

import jax
import numpy as np
import pytest

from jaxssl import data, recipes
from jaxssl.data import audio, pipeline

N, B, RATE = 13, 6, 8000
LENGTHS = np.random.default_rng(0).integers(200, 2000, N)
RECIPE = recipes.Audio(RATE, 500, tempo=0.1)


@pytest.fixture(scope='module')
def source():
  """Clips whose sample t of clip i is i * 2000 + t - 13000, so that a sample tells where it is from."""
  offsets = np.concatenate([[0], np.cumsum(LENGTHS)])
  waves = np.concatenate([np.arange(length) + 2000 * i - 13000 for i, length in enumerate(LENGTHS)]).astype(np.int16)
  clips = audio.in_memory(waves, offsets, RATE)
  groups = np.arange(N) % 3
  return data.Source('ramps', clips, np.arange(N) % 2, ('a', 'b'), groups=groups, group_names=('p', 'q', 'r'))


def take(source, steps, recipe=RECIPE, **options):
  stream = data.batches(source, recipe, **({'engine': 'device', 'seed': 3, 'batch_size': B} | options))
  taken = list(itertools.islice(stream, steps))
  stream.close()
  return taken


def assert_same(ones, others):
  for one, other in zip(ones, others, strict=True):
    assert one.keys() == other.keys()
    jax.tree.map(np.testing.assert_array_equal, one, other)


def starts(batch):
  return batch['inputs'][:, 0].astype(int) + 13000 - 2000 * batch['index']


def test_batches_are_windows_of_the_clips(source):
  for step, batch in enumerate(take(source, 20)):
    assert batch.keys() == {'index', 'label', 'group', 'inputs', 'mask'}
    np.testing.assert_array_equal(batch['index'], data.indices(3, step, B, N))
    np.testing.assert_array_equal(batch['label'], batch['index'] % 2)
    np.testing.assert_array_equal(batch['group'], batch['index'] % 3)
    assert batch['inputs'].shape == batch['mask'].shape == (B, RECIPE.span) and RECIPE.span == 553
    assert batch['inputs'].dtype == np.int16 and batch['group'].dtype == np.int32
    for slot, start in enumerate(starts(batch)):
      length = LENGTHS[batch['index'][slot]]
      assert 0 <= start <= max(length - RECIPE.window, 0)
      real = min(length - start, RECIPE.span)
      np.testing.assert_array_equal(batch['mask'][slot], np.arange(RECIPE.span) < real)
      np.testing.assert_array_equal(np.diff(batch['inputs'][slot, :real].astype(int)), 1)
      assert not batch['inputs'][slot, real:].any()


def test_starts_are_the_philox_draws_of_the_step(source):
  words = np.asarray(jax.random.key_data(jax.random.key(3))).astype(np.uint64)
  for step, batch in enumerate(take(source, 5)):
    u = np.random.Generator(np.random.Philox(key=words, counter=[0, 0, 2, step])).random(B)
    room = np.maximum(LENGTHS[batch['index']] - RECIPE.window, 0)
    np.testing.assert_array_equal(starts(batch), np.floor(u * (room + 1)))


def test_starts_are_uniform_and_reach_both_ends():
  drawn = np.concatenate([pipeline.window_starts(0, step, 50, np.full(50, 4)) for step in range(200)])
  np.testing.assert_allclose(np.bincount(drawn), 2000, atol=200)  # Five standard deviations.
  assert not pipeline.window_starts(0, 0, 50, np.zeros(50, np.int64)).any()


@pytest.mark.parametrize('start', [1, 3])
def test_resume_at_any_step_is_exact(source, start):
  assert_same(take(source, 5 - start, start=start), take(source, 5)[start:])


@pytest.mark.parametrize('hosts', [2, 3])
def test_hosts_concatenate_to_one(source, hosts):
  parts = zip(*(take(source, 5, host=host, hosts=hosts) for host in range(hosts)), strict=True)
  assert_same([jax.tree.map(lambda *each: np.concatenate(each), *part) for part in parts], take(source, 5))


def test_an_epoch_later_a_clip_has_another_window(source):
  seen = {}
  for batch in take(source, 10 * N // B):
    for index, start in zip(batch['index'].tolist(), starts(batch).tolist(), strict=True):
      seen.setdefault(index, []).append(start)
  long = [index for index in seen if LENGTHS[index] > 1000]
  assert long and all(len(set(seen[index])) > 3 for index in long)


def test_decoded_on_demand_gives_the_same_batches(source):
  decoded = dataclasses.replace(source, inputs=dataclasses.replace(source.inputs, decoded=True))
  assert_same(take(decoded, 3), take(source, 3))


def test_float_clips_stay_float(source):
  waves = np.linspace(-1, 1, 2000, dtype=np.float32)
  floats = data.Source('floats', audio.in_memory(waves, np.array([0, 900, 2000]), RATE))
  (batch,) = take(floats, 1, batch_size=2)
  assert batch['inputs'].dtype == np.float32 and batch.keys() == {'index', 'inputs', 'mask'}
  start = np.searchsorted(waves, batch['inputs'][0, 0])
  np.testing.assert_array_equal(batch['inputs'][0, :400], waves[start : start + 400])


@pytest.mark.parametrize('options, message', [
  ({'engine': 'host'}, "engine='host' makes views of images; the one for audio is 'device'"),
  ({'engine': 'gpu'}, "engine='gpu' is unknown"),
  ({'batch_size': 14}, "batch_size=14 is more than the 13 examples of 'ramps'"),
  ({'recipe': recipes.simclr(32)}, "recipe: 'ramps' is audio, which needs a recipe for audio"),
  ({'recipe': recipes.Audio(16000, 500)}, "recipe: its rate is 16000, that of 'ramps' 8000"),
])
def test_errors_come_before_the_first_batch(source, options, message):
  options = {'engine': 'device', 'seed': 3, 'batch_size': B, 'recipe': RECIPE} | options
  with pytest.raises(ValueError, match=message):
    data.batches(source, options.pop('recipe'), **options)


def test_images_need_a_recipe_for_images():
  images = data.Source('images', np.zeros((8, 4, 4, 1), np.uint8))
  with pytest.raises(ValueError, match="recipe: 'images' holds images, which need a recipe for images"):
    data.batches(images, RECIPE, engine='device', seed=0, batch_size=2)
