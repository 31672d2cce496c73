"""Losses in groups: the mean over the groups, values and gradients, on one device and on several."""

import functools

import contrastive_reference as reference
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

from jaxssl import losses

RNG = np.random.default_rng(0)
Z1, Z2 = RNG.normal(size=(2, 24, 4))
IMPLEMENTATIONS = ('dense', 'tiled', None)


def loss(z1, z2, implementation=None):
  return losses.nt_xent(z1, z2, temperature=0.5, implementation=implementation)


def slow(z1, z2, groups):
  pairs = zip(np.split(z1, groups), np.split(z2, groups), strict=True)
  return np.mean([reference.nt_xent(a, b, 0.5) for a, b in pairs])


def value_and_gradients(groups, implementation, z1=Z1, z2=Z2):
  grouped = lambda z1, z2: losses.in_groups(
      functools.partial(loss, implementation=implementation), z1, z2, groups=groups)
  return jax.jit(jax.value_and_grad(grouped, argnums=(0, 1)))(z1, z2)


@pytest.mark.parametrize('implementation', IMPLEMENTATIONS)
@pytest.mark.parametrize('groups', [1, 3, 8])
def test_is_the_mean_of_the_groups(groups, implementation):
  value, gradients = value_and_gradients(groups, implementation)
  np.testing.assert_allclose(value, slow(Z1, Z2, groups), rtol=1e-5)
  direction = RNG.normal(size=Z1.shape)
  step = 1e-4
  difference = (slow(Z1 + step * direction, Z2, groups) - slow(Z1 - step * direction, Z2, groups)) / (2 * step)
  np.testing.assert_allclose(np.sum(np.asarray(gradients[0]) * direction), difference, rtol=1e-4)


@pytest.mark.parametrize('implementation', IMPLEMENTATIONS)
@pytest.mark.parametrize('devices, groups', [(8, 8), (4, 8), (8, 3), (2, 1)])
def test_any_number_of_devices_computes_the_same(devices, groups, implementation):
  expected = value_and_gradients(groups, implementation)
  mesh = jax.make_mesh((devices,), ('data',), axis_types=(AxisType.Auto,), devices=jax.devices()[:devices])
  with jax.set_mesh(mesh):
    z1, z2 = (jax.device_put(z, NamedSharding(mesh, P('data'))) for z in (Z1, Z2))
    found = value_and_gradients(groups, implementation, z1, z2)
  jax.tree.map(functools.partial(np.testing.assert_allclose, rtol=1e-4, atol=1e-7), found, expected)


def test_embeddings_stay_on_the_devices_that_share_the_groups():
  mesh = jax.make_mesh((4,), ('data',), axis_types=(AxisType.Auto,), devices=jax.devices()[:4])
  with jax.set_mesh(mesh):
    z1, z2 = (jax.device_put(z, NamedSharding(mesh, P('data'))) for z in (Z1, Z2))
    text = {groups: jax.jit(lambda a, b, groups=groups: losses.in_groups(loss, a, b, groups=groups)).lower(
        z1, z2).compile().as_text() for groups in (8, 3)}
  assert 'all-gather' not in text[8] and 'collective-permute' not in text[8]
  assert 'all-gather' in text[3], 'what the search would find'


@pytest.mark.parametrize('groups', [0, 5, -2])
def test_groups_divide_the_rows(groups):
  with pytest.raises(ValueError, match=f'groups must divide the 24 rows of array 0, got groups={groups}'):
    losses.in_groups(loss, jnp.asarray(Z1), jnp.asarray(Z2), groups=groups)
