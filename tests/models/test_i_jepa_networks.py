"""I-JEPA's predictor: sizes, independence of its blocks, types, mistakes."""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxssl import models

PREDICTOR = models.JEPAPredictor(8, 2, 2)
GRID = 3, 4
BLOCKS = models.Blocks(
    context=jnp.array([[0, 1, 4], [11, 10, 3]]), seen=jnp.array([[True, True, True], [True, True, False]]),
    targets=jnp.array([[[2, 3], [6, 7]], [[4, 5], [8, 0]]]),
    real=jnp.array([[[True, True], [True, True]], [[True, True], [True, False]]]))


def tokens(prefix=1, seed=0):
  return jnp.asarray(np.random.default_rng(seed).normal(size=(2, prefix + 3, 6)), jnp.float32)


@functools.cache
def init(network):
  return jax.jit(functools.partial(network.init, grid=GRID))(jax.random.key(0, impl='rbg'), tokens(), BLOCKS)


@functools.partial(jax.jit, static_argnums=0)
def predict(network, variables, x, blocks):
  return network.apply(variables, x, blocks, GRID)


def test_predictions_are_as_wide_as_the_tokens():
  found = predict(PREDICTOR, init(PREDICTOR), tokens(), BLOCKS)
  assert found.shape == (2, 2, 2, 6) and found.dtype == jnp.float32
  near = predict(PREDICTOR.clone(dtype=jnp.bfloat16), init(PREDICTOR), tokens(), BLOCKS)
  assert near.dtype == jnp.float32 and 1e-4 < np.abs(near - found).max() < 0.2


def test_size_beside_a_vit_huge():
  """Of twelve layers of width 384, an embedding of 1280 numbers, its inverse, the mask token and the last norm."""
  network, width = models.JEPAPredictor(), 384
  shapes = jax.eval_shape(
      functools.partial(network.init, grid=GRID), jax.random.key(0), jnp.zeros((2, 3, 1280)), BLOCKS)
  layer = 12 * width**2 + 13 * width  # Kernels; biases 3 + 1 + 4 + 1 and the scales and biases of two norms.
  expected = 12 * layer + 1281 * width + 385 * 1280 + 3 * width
  assert sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(shapes)) == expected


def test_remat_changes_no_number():
  loss = lambda network, variables: jnp.sum(jnp.square(network.apply(variables, tokens(), BLOCKS, GRID)))
  gradients = [jax.jit(jax.value_and_grad(functools.partial(loss, PREDICTOR.clone(remat=remat))))
               for remat in (False, True)]
  found, expected = (gradient(init(PREDICTOR)) for gradient in gradients)
  jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5), found, expected)
  traced = [str(jax.make_jaxpr(gradient)(init(PREDICTOR))) for gradient in gradients]
  assert [jaxpr.count('prevent_cse') for jaxpr in traced] == [0, 2], 'two blocks are computed again'


def test_blocks_are_predicted_one_by_one():
  variables, found = init(PREDICTOR), predict(PREDICTOR, init(PREDICTOR), tokens(), BLOCKS)
  moved = BLOCKS._replace(targets=BLOCKS.targets.at[:, 1].set(jnp.array([[9, 8], [1, 2]])))
  other = predict(PREDICTOR, variables, tokens(), moved)
  np.testing.assert_array_equal(other[:, 0], found[:, 0])
  assert np.abs(other[:, 1] - found[:, 1])[np.asarray(BLOCKS.real[:, 1])].max() > 1e-3
  alone = BLOCKS._replace(targets=BLOCKS.targets[:, 1:], real=BLOCKS.real[:, 1:])
  np.testing.assert_allclose(predict(PREDICTOR, variables, tokens(), alone)[:, 0], found[:, 1], atol=1e-5)


def test_predictions_depend_on_all_that_is_seen_and_on_nothing_else():
  variables = init(PREDICTOR)
  gradient = jax.jit(jax.grad(lambda x: jnp.sum(predict(PREDICTOR, variables, x, BLOCKS)[BLOCKS.real] ** 3)))(tokens())
  counts = np.pad(BLOCKS.seen, ((0, 0), (1, 0)), constant_values=True)
  np.testing.assert_array_equal((gradient != 0).any(-1), counts)


@pytest.mark.parametrize('network', [
    models.JEPAPredictor(8, 1, 3), models.JEPAPredictor(8, 0, 2), models.JEPAPredictor(0, 1, 1)])
def test_mistakes_are_named(network):
  with pytest.raises(ValueError, match='JEPAPredictor: width must be a multiple of heads, and depth positive, got'):
    jax.eval_shape(functools.partial(network.init, grid=GRID), jax.random.key(0), tokens(), BLOCKS)
