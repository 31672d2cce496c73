"""CPC's networks for images: NumPy references, sizes counted by hand, directions, and exact causality over rows."""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from jaxssl import models
from jaxssl.models.cpc_image import columns, turn, turn_back

KEY = jax.random.key(0, impl='rbg')  # Compiles several times faster than threefry.
NETWORK = models.ResNet((1, 1), 'basic', (4, 6), stem='small', norm='layer', zero_init_residual=False)
ENCODER = models.PatchEncoder(NETWORK, 4, 2)
CONTEXTS = {
    'convolution': models.MaskedConvContext(16, 2),
    'gru': models.RowGRUContext(12),
    'gru without mixing': models.RowGRUContext(12, mix=1),
}
STEPS = {'down': (1, 0), 'left': (0, -1), 'up': (-1, 0), 'right': (0, 1)}  # Row and column of the next row's place.


class Echo(nn.Module):
  """A context that is z, or a predictor that predicts its context `steps` times."""

  steps: int = 0

  def __call__(self, x, train=False):
    return jnp.stack([x] * self.steps, axis=2) if self.steps else x


def normal(*shape):
  return jnp.asarray(np.random.default_rng(1).normal(size=shape), jnp.float32)


def initialised(network, x):
  """Variables of `network` with every parameter random, so that no scale or bias is idle."""
  variables = jax.jit(network.init)(KEY, x)
  rng = np.random.default_rng(2)
  draw = lambda leaf: jnp.asarray(rng.normal(size=leaf.shape) / np.sqrt(math.prod(leaf.shape[:-1])), jnp.float32)
  return {**variables, 'params': jax.tree.map(draw, variables['params'])}


@functools.partial(jax.jit, static_argnums=0, static_argnames='method')
def apply(network, variables, x, method=None):
  return network.apply(variables, x, method=method)


def size(network, *shape):
  variables = jax.eval_shape(lambda: network.init(KEY, jnp.zeros(shape)))
  return sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(variables['params']))


@pytest.mark.parametrize('network, inputs, count', [
    # Per block: 1x1, 1x3, 2x1 and 1x1.
    (models.MaskedConvContext(), 1024, 5 * (262_400 + 196_864 + 131_328 + 263_168)),
    # Convolution; input maps with bias, recurrent ones, the bias of one.
    (models.RowGRUContext(), 1024, 786_688 + 3 * (256 * 256 + 256) + 3 * 256 * 256 + 256),
    (models.GridPredictor(Echo(), models.LinearPredictor(3, 64), tuple(STEPS), 1, 64), 256,
     4 * (256 * 3 * 64 + 256 * 64 + 64)),
])
def test_parameter_counts(network, inputs, count):
  assert size(network, 1, 7, 7, inputs) == count


@pytest.mark.parametrize('pixels, patch, stride, grid', [(256, 64, 32, 7), (260, 80, 36, 6), (64, 16, 8, 7)])
def test_grids_of_the_papers(pixels, patch, stride, grid):
  encoder = models.PatchEncoder(NETWORK, patch, stride)
  z = jax.eval_shape(lambda: encoder.init_with_output(KEY, jnp.zeros((2, pixels, pixels, 3)))[0])
  assert z.shape == (2, grid, grid, 6) and z.dtype == jnp.float32


@pytest.mark.parametrize('norm', ['layer', None, 'batch'])
def test_each_patch_is_encoded_by_itself(norm):
  encoder = models.PatchEncoder(NETWORK.clone(norm=norm), 4, 2)
  images = normal(2, 8, 10, 3)
  variables = initialised(encoder, images)

  def place(images):
    z = encoder.apply(variables, images, train=True, mutable=['batch_stats'])[0]
    return (z[1, 2, 1] * jnp.arange(1.0, 7.0)).sum()

  seen = np.abs(jax.jit(jax.grad(place))(images)).sum(axis=3) > 0
  own = np.zeros_like(seen)
  own[1, 4:8, 2:6] = True
  assert seen[own].all()
  assert seen[~own].any() == (norm == 'batch')


def test_patches_may_be_cut_before():
  images = normal(2, 8, 10, 3)
  variables = initialised(ENCODER, images)
  patches = np.stack([
      np.stack([images[:, 2 * row:2 * row + 4, 2 * column:2 * column + 4] for column in range(4)], axis=1)
      for row in range(3)], axis=1)
  z = apply(ENCODER, variables, images)
  assert z.shape == (2, 3, 4, 6)
  np.testing.assert_array_equal(apply(ENCODER, variables, patches), z)
  alone = apply(NETWORK, {'params': variables['params']['network']}, patches[:, 1, 2])
  np.testing.assert_allclose(z[:, 1, 2], alone, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize('direction', STEPS)
@pytest.mark.parametrize('name', CONTEXTS)
def test_contexts_and_predictions_see_no_row_beyond(name, direction):
  network = models.GridPredictor(CONTEXTS[name], models.LinearPredictor(2, 3), (direction,), skip=0)
  z = normal(1, 4, 5, 12)
  variables = initialised(network, z)
  weights = normal(12)
  seen = jax.jit(jax.jacrev(lambda z: network.apply(variables, z, method='represent')[0] @ weights))(z)
  seen = np.abs(np.asarray(seen)[:, :, 0]).sum(-1) > 0  # [row, column of c, row, column of z]
  down, right = STEPS[direction]
  for row, column in np.ndindex(4, 5):
    ahead = np.array([[(r - row) * down + (q - column) * right for q in range(5)] for r in range(4)])
    assert seen[row, column, row, column] and not seen[row, column][ahead > 0].any()
    # The row before is seen too, unless this is the first.
    assert seen[row, column][ahead == -1].any() or not (ahead == -1).any()
  predictions = lambda z: network.apply(variables, z)[direction][0].sum(-1)  # [columns, rows, K]
  seen = np.abs(np.asarray(jax.jit(jax.jacrev(predictions))(z))).sum((2, 3, 6))
  seen = seen.any(0)  # [row of the turned grid, row, column of z]
  for i in range(seen.shape[0]):
    turned = np.asarray(turn(jnp.asarray(seen[i])[None], direction))[0]
    assert turned[i].any() and not turned[i + 1:].any()


def test_columns_that_a_context_sees():
  z = normal(1, 4, 7, 12)
  for name, reach in (
      ('convolution', [None, 2, 2, 2]),  # Two blocks: a row up and a column to either side each.
      ('gru', [1, 1, 1, 1]),
      ('gru without mixing', [0, 0, 0, 0])):
    context = CONTEXTS[name]
    variables = initialised(context, z)
    place = lambda z, context=context, variables=variables: context.apply(variables, z)[0, 3, 3].sum()
    seen = np.abs(jax.jit(jax.grad(place))(z)[0]).sum(-1) > 0
    expected = [[width is not None and abs(q - 3) <= width for q in range(7)] for width in reach]
    np.testing.assert_array_equal(seen, expected)


def test_masked_convolutions_equal_numpy():
  context = models.MaskedConvContext(5, 2)
  z = normal(2, 4, 3, 6)
  variables = initialised(context, z)
  params = jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), variables['params'])
  x = np.asarray(z, np.float64)
  for block in ('block1', 'block2'):
    conv1, conv2, conv3, conv4 = (params[f'{block}_conv{i}'] for i in range(1, 5))
    a = np.maximum(x @ conv1['kernel'][0, 0] + conv1['bias'], 0)
    b, c = np.zeros_like(a), np.zeros_like(a)
    for row, column in np.ndindex(4, 3):
      b[:, row, column] = conv2['bias'] + sum(
          a[:, row, column + i - 1] @ conv2['kernel'][0, i] for i in range(3) if 0 <= column + i - 1 < 3)
    for row in range(4):
      above = b[:, row - 1] @ conv3['kernel'][0, 0] if row else 0.0
      c[:, row] = above + b[:, row] @ conv3['kernel'][1, 0] + conv3['bias']
    x = x + np.maximum(c, 0) @ conv4['kernel'][0, 0] + conv4['bias']
  np.testing.assert_allclose(apply(context, variables, z), np.maximum(x, 0), rtol=1e-4, atol=1e-5)


def test_row_gru_is_a_gru_down_each_column():
  context = models.RowGRUContext(4)
  z = normal(2, 3, 5, 6)
  variables = initialised(context, z)
  mix = variables['params']['mix']
  padded = np.pad(z, ((0, 0), (0, 0), (1, 1), (0, 0)))
  kernel, bias = np.asarray(mix['kernel']), np.asarray(mix['bias'])
  mixed = np.maximum(sum(padded[:, :, i:i + 5] @ kernel[0, i] for i in range(3)) + bias, 0)
  gru = models.RNNContext('gru', 4)
  for column in range(5):
    expected = apply(gru, {'params': variables['params']['rows']}, mixed[:, :, column])
    np.testing.assert_allclose(apply(context, variables, z)[:, :, column], expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize('skip', [0, 1, 2])
def test_predictions_are_paired_with_the_row_k_plus_skip_on(skip):
  """z holds its own row and column, contexts and predictions echo it: each pair lies k + skip places apart."""
  network = models.GridPredictor(Echo(), Echo(3), tuple(STEPS), skip)
  z = jnp.broadcast_to(jnp.stack(jnp.meshgrid(jnp.arange(5.0), jnp.arange(4.0), indexing='ij'), -1)[None], (2, 5, 4, 2))
  z = jnp.concatenate([z, jnp.broadcast_to(jnp.arange(2.0)[:, None, None, None], (2, 5, 4, 1))], axis=-1)
  outputs = network.apply({}, z)
  assert set(outputs) == set(STEPS)
  for direction, (predictions, targets) in outputs.items():
    rows, width = (5, 4) if direction in ('down', 'up') else (4, 5)
    assert predictions.shape == (2 * width, rows - skip, 3, 3) and targets.shape == (2 * width, rows - skip, 3)
    for k in (1, 2, 3):
      count = rows - skip - k
      if count > 0:
        apart = targets[:, k:] - predictions[:, :count, k - 1]
        expected = [(k + skip) * step for step in STEPS[direction]] + [0]
        np.testing.assert_array_equal(apart, np.broadcast_to(expected, apart.shape))
    np.testing.assert_array_equal(targets[:, 0, 2], np.repeat([0, 1], width))  # Images stay together.


def test_directions_have_weights_of_their_own():
  network = models.GridPredictor(models.RowGRUContext(4), models.LinearPredictor(2, 3), tuple(STEPS), 1, 3)
  z = normal(2, 4, 4, 5)
  variables = jax.jit(network.init)(KEY, z)
  params = variables['params']
  assert set(params) == {f'{part}_{d}' for part in ('contexts', 'predictors', 'targets') for d in STEPS}
  kernels = [params[f'predictors_{d}']['steps']['kernel'] for d in STEPS]
  assert len({kernel.tobytes() for kernel in map(np.asarray, kernels)}) == 4
  for direction, (predictions, targets) in apply(network, variables, z).items():
    c = apply(models.RowGRUContext(4), {'params': params[f'contexts_{direction}']}, turn(z, direction))
    kernel = params[f'predictors_{direction}']['steps']['kernel'].reshape(4, 2, 3)
    expected = np.einsum('btd,dke->btke', columns(c)[:, :3], kernel)
    np.testing.assert_allclose(predictions, expected, rtol=1e-4, atol=1e-5)
    target = params[f'targets_{direction}']
    expected = np.asarray(columns(turn(z, direction))[:, 1:] @ target['kernel']) + np.asarray(target['bias'])
    np.testing.assert_allclose(targets, expected, rtol=1e-4, atol=1e-5)


def test_contexts_as_a_representation_lie_on_the_grid_of_z():
  z = normal(2, 4, 3, 5)
  network = models.GridPredictor(Echo(), Echo(1), tuple(STEPS))
  np.testing.assert_array_equal(network.apply({}, z, method='represent'), np.tile(z, 4))
  for direction in STEPS:
    np.testing.assert_array_equal(turn_back(turn(z, direction), direction), z)


@pytest.mark.parametrize('network, shape', [
    (NETWORK, (2, 6, 6, 3)),
    (NETWORK.clone(norm=None), (2, 6, 6, 3)),
    (models.MaskedConvContext(8, 2), (2, 3, 4, 6)),
    (models.RowGRUContext(8), (2, 3, 4, 6)),
])
def test_bfloat16_keeps_float32_outside(network, shape):
  x = normal(*shape)
  half = network.clone(dtype=jnp.bfloat16)
  variables = jax.jit(half.init)(KEY, x)
  output = apply(half, variables, x)
  assert {leaf.dtype for leaf in jax.tree.leaves((variables, output))} == {jnp.dtype('float32')}
  exact = apply(network, variables, x)
  assert 0 < np.abs(output - exact).max() < 0.05 * np.abs(exact).max()


GRID = models.GridPredictor(Echo(), Echo(1))


@pytest.mark.parametrize('network, shape, message', [
    (ENCODER, (1, 9, 8, 3), r'4 pixels plus a multiple of the stride 2 high and wide .* got shape \(1, 9, 8, 3\)'),
    (ENCODER, (1, 2, 2, 5, 5, 3), r'x must be patches \[b, rows, columns, 4, 4, c\], got shape \(1, 2, 2, 5, 5, 3\)'),
    (models.RowGRUContext(4, mix=2), (1, 3, 3, 2), 'mix must be odd and positive, got 2'),
    (models.RowGRUContext(4), (3, 3, 2), r'z must be a grid \[b, rows, columns, d\], got shape \(3, 3, 2\)'),
    (models.MaskedConvContext(), (3, 2), r'z must be a grid \[b, rows, columns, d\], got shape \(3, 2\)'),
    (GRID.clone(directions=('down', 'north')), (1, 3, 3, 2), r"'left', 'up', 'right'\), each once, got .*'north"),
    (GRID.clone(directions=()), (1, 3, 3, 2), r'directions must be some of'),
    (GRID.clone(skip=2), (1, 3, 4, 2), r"skip must leave two rows in direction 'down' of z \(1, 3, 4, 2\), got 2"),
    (GRID.clone(skip=-1), (1, 3, 3, 2), 'skip must be an integer of at least 0, got -1'),
    (GRID.clone(skip=1.5), (1, 3, 3, 2), 'skip must be an integer of at least 0, got 1.5'),
    (GRID.clone(directions=('up', 'up')), (1, 3, 3, 2), r"each once, got \('up', 'up'\)"),
    (GRID.clone(target_features=0), (1, 3, 3, 2), 'target_features must be at least 1, or None, got 0'),
    (models.LinearPredictor(0, 3), (1, 3, 2), 'steps must be at least 1, got 0'),
    (models.TransformerPredictor(2, 0), (1, 3, 2), 'features must be at least 1, got 0'),
])
def test_errors_name_the_argument(network, shape, message):
  with pytest.raises(ValueError, match=message):
    jax.eval_shape(functools.partial(network.init, KEY), jnp.zeros(shape))
