"""Views that the data bring themselves: images change, alike or each for itself; all others may get noise."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

from jaxssl import augment, recipes

RNG = np.random.default_rng(0)
IMAGES = RNG.integers(0, 256, (8, 12, 12, 3), np.uint8)
BATCH = {'inputs': (IMAGES, IMAGES[..., :1], RNG.normal(size=(8, 5)).astype(np.float32)),
         'index': np.arange(8, dtype=np.int32)}


@pytest.mark.parametrize('aligned', [True, False])
def test_images_change_alike_where_they_are_aligned(aligned):
  recipe = recipes.paired(10, aligned=aligned)
  made = jax.jit(augment.prepare(recipe))(BATCH, jax.random.key(0))
  assert [view.shape for view in made['views']] == [(8, 10, 10, 3), (8, 10, 10, 1), (8, 5)]
  assert [x.shape for x in made['inputs']] == [(8, 10, 10, 3), (8, 10, 10, 1), (8, 5)]
  assert np.allclose(made['views'][0][..., :1], made['views'][1], atol=1e-5) == aligned
  np.testing.assert_array_equal(made['views'][2], BATCH['inputs'][2])


def test_noise_is_for_what_is_no_image():
  made = augment.prepare(recipes.paired(12, area=(1.0, 1.0), flip=0.0, noise=0.5))(BATCH, jax.random.key(0))
  plain = augment.prepare(recipes.paired(12, area=(1.0, 1.0), flip=0.0))(BATCH, jax.random.key(0))
  np.testing.assert_array_equal(made['views'][0], plain['views'][0])
  difference = made['views'][2] - BATCH['inputs'][2]
  assert 0.3 < float(jnp.std(difference)) < 0.7
  np.testing.assert_array_equal(made['inputs'][2], BATCH['inputs'][2])


def test_a_batch_over_devices_gives_the_same_views():
  prepare = augment.prepare(recipes.paired(10, noise=0.1))
  whole = jax.jit(prepare)(BATCH, jax.random.key(1))
  mesh = jax.make_mesh((8,), ('data',), (AxisType.Auto,))
  sharding = NamedSharding(mesh, P('data'))
  split = jax.jit(prepare)(jax.device_put(BATCH, sharding), jax.random.key(1))
  jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5), whole, split)


def test_mistakes_are_named():
  with pytest.raises(ValueError, match='noise must lie in'):
    recipes.paired(8, noise=-1.0)
  with pytest.raises(ValueError, match="engine must be 'device' for paired views, got 'host'"):
    augment.prepare(recipes.paired(8), 'host')
