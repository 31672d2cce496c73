"""Encoders and decoders of autoencoders: shapes at any size, the sub-pixel convolution, linear networks."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxssl import models
from jaxssl.models import autoencoder

KEY = jax.random.key(0)


def inputs(*shape):
  return jnp.asarray(np.random.default_rng(0).uniform(size=shape).astype(np.float32))


@pytest.mark.parametrize('shape', [(28, 28, 1), (32, 24, 3), (13, 7, 2), (1, 1, 1), (5, 64, 1)])
def test_conv_decoder_reaches_any_size_from_codes_and_from_the_encoders_grid(shape):
  x = inputs(2, *shape)
  grid = models.ConvEncoder((4, 6), pool='grid').init_with_output(KEY, x)[0]
  assert grid.shape == (2, -(-shape[0] // 4), -(-shape[1] // 4), 6)
  decoder = models.ConvDecoder((6, 4))
  for z in (jnp.ones((2, 5)), grid):
    y, _ = decoder.init_with_output(KEY, z, shape)
    assert y.shape == x.shape and y.dtype == jnp.float32


@pytest.mark.parametrize('shape', [(12,), (7, 5), (4, 4, 3)])
def test_linear_layers_take_inputs_of_any_shape(shape):
  h, _ = models.MLPEncoder((8, 6)).init_with_output(KEY, inputs(3, *shape))
  y, _ = models.MLPDecoder((8,)).init_with_output(KEY, h, shape)
  assert h.shape == (3, 6) and y.shape == (3, *shape)


def test_pools_of_one_grid_agree():
  x = inputs(2, 8, 6, 1)
  by = {pool: models.ConvEncoder((3,), residual_blocks=1, pool=pool) for pool in ('grid', 'flatten', 'mean')}
  variables = by['grid'].init(KEY, x)
  grid, flat, mean = (by[pool].apply(variables, x) for pool in ('grid', 'flatten', 'mean'))
  np.testing.assert_array_equal(flat, grid.reshape(2, -1))
  np.testing.assert_allclose(mean, grid.mean((1, 2)), rtol=1e-6)


def test_resnet_pools_its_last_stage_as_asked():
  x = inputs(2, 16, 12, 1)
  fields = {'stage_sizes': (1, 1), 'block': 'basic', 'widths': (4, 6), 'stem': 'strided'}
  variables = jax.jit(models.ResNet(**fields).init)(jax.random.key(0, impl='rbg'), x)
  grid, flat, mean = (
      models.ResNet(**fields, pool=pool).apply(variables, x) for pool in ('grid', 'flatten', 'mean'))
  assert grid.shape == (2, 4, 3, 6)
  np.testing.assert_array_equal(flat, grid.reshape(2, -1))
  np.testing.assert_allclose(mean, grid.mean((1, 2)), rtol=1e-6)
  with pytest.raises(ValueError, match="pool must be one of 'mean', 'flatten', 'grid', got 'max'"):
    models.ResNet(**fields, pool='max').apply(variables, x)


def test_doubled_puts_each_channel_in_its_place():
  x = np.arange(2 * 3 * 8, dtype=np.float32).reshape(1, 2, 3, 8)
  expected = np.zeros((1, 4, 6, 2), np.float32)
  for i in range(4):
    for j in range(6):
      for c in range(2):
        expected[0, i, j, c] = x[0, i // 2, j // 2, (i % 2 * 2 + j % 2) * 2 + c]
  np.testing.assert_array_equal(autoencoder.doubled(x), expected)


def test_residual_block_adds_to_its_input():
  x = inputs(1, 4, 4, 3)
  block = autoencoder.ResidualBlock(3, False, jnp.float32)
  variables = block.init(KEY, x)
  silent = jax.tree.map(jnp.zeros_like, variables)
  np.testing.assert_array_equal(block.apply(silent, x), x)
  assert not np.allclose(block.apply(variables, x), x)


def test_bfloat16_computes_near_float32_and_returns_it():
  x = inputs(2, 8, 8, 1)
  exact = models.AutoencoderNetwork(models.ConvEncoder((8,)), models.ConvDecoder((8,)), 4, lambda z: z)
  short = models.AutoencoderNetwork(
      models.ConvEncoder((8,), dtype=jnp.bfloat16), models.ConvDecoder((8,), dtype=jnp.bfloat16), 4, lambda z: z)
  variables = exact.init(KEY, x)
  assert all(leaf.dtype == jnp.float32 for leaf in jax.tree.leaves(short.init(KEY, x)))
  for a, b in zip(exact.apply(variables, x), short.apply(variables, x), strict=True):
    assert b.dtype == jnp.float32
    np.testing.assert_allclose(b, a, atol=0.03)


def test_batch_norm_can_be_had():
  x = inputs(4, 8, 8, 1)
  network = models.AutoencoderNetwork(
      models.ConvEncoder((4,), 1, batch_norm=True), models.ConvDecoder((4,), 1, batch_norm=True), 4, lambda z: z)
  variables = network.init(KEY, x)
  assert set(variables['batch_stats']) == {'encoder', 'decoder'}
  _, updated = network.apply(variables, x, train=True, mutable=['batch_stats'])
  changed = jax.tree.map(lambda a, b: bool(jnp.any(a != b)), variables['batch_stats'], updated['batch_stats'])
  assert all(jax.tree.leaves(changed))


@pytest.mark.parametrize('network, arguments, message', [
    (models.ConvEncoder((4,)), (jnp.ones((2, 9)),), r'x must be images \[b, h, w, c\], got shape \[2, 9\]'),
    (models.ConvEncoder(()), (jnp.ones((2, 9, 9, 1)),), r'widths must hold at least one size, all positive, got \(\)'),
    (models.ConvEncoder((4,), pool='max'), (jnp.ones((2, 9, 9, 1)),), "pool must be one of .*'flatten'.* got 'max'"),
    (models.MLPEncoder((4, 0)), (jnp.ones((2, 9)),), r'features must hold at least one size, .* got \(4, 0\)'),
    (models.ConvDecoder((4,)), (jnp.ones((2, 9)), (9,)), r'shape must be \(h, w, c\) for ConvDecoder, got \(9,\)'),
    (models.ConvDecoder((4,)), (jnp.ones((2, 3, 3, 1)), (8, 8, 1)), r'z must be \[b, d\], or \[b, 4, 4, d\] .* 1 doub'),
])
def test_what_does_not_fit_is_said(network, arguments, message):
  with pytest.raises(ValueError, match=message):
    network.init(KEY, *arguments)
