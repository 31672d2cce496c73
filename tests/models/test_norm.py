"""Grouped batch norm against NumPy, against Flax's group by group, and on several devices."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from jaxssl import models
from jaxssl.models.norm import GroupedBatchNorm, batch_norm

RNG = np.random.default_rng(0)
X = jnp.asarray(2 + 3 * RNG.normal(size=(8, 2, 3, 5)), jnp.float32)
VARIABLES = {
    'params': {'scale': jnp.asarray(RNG.normal(size=5), jnp.float32), 'bias': jnp.arange(5.0)},
    'batch_stats': {'mean': jnp.ones(5), 'var': 2 * jnp.ones(5)}}


def numpy_norm(x, mean, var):
  scale, bias = (np.asarray(VARIABLES['params'][name], np.float64) for name in ('scale', 'bias'))
  return (x - mean) / np.sqrt(var + 1e-5) * scale + bias


@pytest.mark.parametrize('groups', [2, 4, 8])
def test_each_group_has_its_own_statistics(groups):
  module = GroupedBatchNorm(groups, momentum=0.9)
  y, updated = module.apply(VARIABLES, X, mutable=['batch_stats'])
  parts = np.asarray(X, np.float64).reshape(groups, -1, 5)
  expected = np.concatenate([numpy_norm(part, part.mean(0), part.var(0)) for part in parts]).reshape(X.shape)
  np.testing.assert_allclose(y, expected, atol=2e-5)
  np.testing.assert_allclose(updated['batch_stats']['mean'], 0.9 + 0.1 * parts.mean((0, 1)), rtol=1e-5)
  np.testing.assert_allclose(updated['batch_stats']['var'], 1.8 + 0.1 * parts.var(1).mean(0), rtol=1e-4)


def test_one_group_is_flax_batch_norm_and_the_running_averages_need_no_groups():
  fields = {'momentum': 0.9, 'epsilon': 1e-5}
  ours = GroupedBatchNorm(1, **fields).apply(VARIABLES, X, mutable=['batch_stats'])
  flax = nn.BatchNorm(use_running_average=False, **fields).apply(VARIABLES, X, mutable=['batch_stats'])
  jax.tree.map(functools.partial(np.testing.assert_allclose, atol=1e-5), ours, flax)
  assert isinstance(batch_norm(), nn.BatchNorm)
  y = GroupedBatchNorm(4, use_running_average=True).apply(VARIABLES, X[:3])
  np.testing.assert_allclose(y, numpy_norm(np.asarray(X[:3], np.float64), 1.0, 2.0), atol=1e-5)


@pytest.mark.parametrize('module', [
    models.ResNet((1,), 'basic', (4,), stem='small', bn_groups=4), models.MLP((6, 3), bn_groups=4)])
def test_a_network_in_groups_is_the_network_on_each_group(module):
  x = X if isinstance(module, models.ResNet) else X.reshape(8, -1)
  variables = jax.jit(module.init)(jax.random.key(0), x)
  whole = module.copy(bn_groups=1)
  apply = lambda module, x: module.apply(variables, x, train=True, mutable=['batch_stats'])
  y, updated = jax.jit(lambda x: apply(module, x))(x)
  each = [jax.jit(lambda x: apply(whole, x))(part) for part in jnp.split(x, 4)]
  np.testing.assert_allclose(y, np.concatenate([part for part, _ in each]), atol=2e-5)
  mean = jax.tree.map(lambda *leaves: np.mean(leaves, 0), *(stats for _, stats in each))
  jax.tree.map(functools.partial(np.testing.assert_allclose, atol=1e-5), updated, mean)
  assert jax.tree.map(jnp.shape, variables) == jax.tree.map(jnp.shape, jax.eval_shape(whole.init, jax.random.key(0), x))


def test_no_statistics_cross_the_devices_whose_groups_they_are():
  mesh = jax.make_mesh((4,), ('data',), axis_types=(AxisType.Auto,), devices=jax.devices()[:4])
  x = jax.device_put(X, NamedSharding(mesh, PartitionSpec('data')))
  forward = jax.jit(lambda x: GroupedBatchNorm(4).apply(VARIABLES, x, mutable=['batch_stats'])[0])
  compiled = forward.lower(x).compile().as_text()
  assert not any(name in compiled for name in ('all-reduce', 'all-gather', 'collective-permute', 'all-to-all'))
  np.testing.assert_allclose(forward(x), forward(X), atol=1e-6)
  alone = jax.jit(lambda x: GroupedBatchNorm(1).apply(VARIABLES, x, mutable=['batch_stats'])[0])
  assert 'all-reduce' in alone.lower(x).compile().as_text(), 'what the search would find'


@pytest.mark.parametrize('make, message', [
    (lambda: GroupedBatchNorm(3).apply(VARIABLES, X, mutable=['batch_stats']),
     'bn_groups must divide the 8 rows of the batch, all views together, got 3'),
    (lambda: GroupedBatchNorm(0).apply(VARIABLES, X, mutable=['batch_stats']), 'got 0'),
    (lambda: batch_norm(2, 'i'), "bn_groups=2 with axis_name='i'"),
])
def test_errors(make, message):
  with pytest.raises(ValueError, match=message):
    make()
