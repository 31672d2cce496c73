"""Generators and discriminators: shapes, residual blocks against loops, spectral norms, features by name."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxssl import models
from jaxssl.models import gan

KEY = jax.random.key(0, impl='rbg')  # Quick to compile.
CONV, MLP = models.ConvDiscriminator((3, 4)), models.MLPDiscriminator((6, 5))
RESNET = models.ResNetDiscriminator((4, 4, 6), downsamplings=2)
DISCRIMINATORS = {'conv': CONV, 'resnet': RESNET, 'mlp': MLP}


def inputs(*shape):
  return jnp.asarray(np.random.default_rng(0).uniform(size=shape).astype(np.float32))


def initial(network, *arguments):
  return jax.jit(network.init, static_argnums=tuple(range(2, len(arguments) + 1)))(KEY, *arguments)


def apply(network, variables, x, *shape, method=None):
  return jax.jit(lambda v, x: network.apply(v, x, *shape, method=method))(variables, x)


def train(network, variables, x, steps):
  """The variables after so many forward passes."""
  update = jax.jit(lambda v: {**v, **network.apply(v, x, train=True, mutable=['spectral'])[1]})
  for _ in range(steps):
    variables = update(variables)
  return variables


@pytest.mark.parametrize('decoder, side, start', [
    (models.ConvDecoder((4, 3), batch_norm=True), 28, 7), (models.ConvDecoder((4, 3, 3)), 32, 4),
    (models.ConvDecoder((4, 3, 3, 2, 2), batch_norm=True), 128, 4), (models.ResNetDecoder((4, 3, 3)), 28, 7),
    (models.ResNetDecoder((4, 3, 3, 3)), 32, 4), (models.ResNetDecoder((4, 3, 3, 3)), 28, 4),
    (models.ResNetDecoder((4, 3, 3, 3, 2, 2)), 128, 4), (models.MLPDecoder((8,), batch_norm=True), 28, None)])
def test_generators_make_images_of_the_size_asked(decoder, side, start):
  z, shape = jnp.asarray(np.random.default_rng(1).normal(size=(3, 5)), jnp.float32), (side, side, 3)
  generator = models.Generator(decoder)
  variables = initial(generator, z, shape)
  images = apply(generator, variables, z, shape)
  assert images.shape == (3, *shape) and images.dtype == jnp.float32
  assert 0 <= images.min() < images.max() <= 1
  if start is not None:
    assert variables['params']['decoder']['start']['kernel'].shape == (5, start * start * 4)


def test_images_need_not_be_square_and_may_have_other_ranges():
  z = 9 * jnp.asarray(np.random.default_rng(1).normal(size=(2, 5)), jnp.float32)
  found = {}
  for output in gan.OUTPUTS:
    generator = models.Generator(models.ResNetDecoder((4, 3), batch_norm=False), output)
    found[output] = apply(generator, initial(generator, z, (6, 9, 1)), z, (6, 9, 1))
  assert found['linear'].shape == (2, 6, 9, 1)
  np.testing.assert_allclose(found['tanh'], np.tanh(found['linear']), rtol=1e-5, atol=1e-7)
  np.testing.assert_allclose(found['sigmoid'], 1 / (1 + np.exp(-found['linear'])), rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize('name', DISCRIMINATORS)
@pytest.mark.parametrize('shape', [(28, 28, 1), (9, 14, 3)])
def test_discriminators_score_images_and_name_their_layers(name, shape):
  network, x = DISCRIMINATORS[name], inputs(3, *shape)
  variables = initial(network, x)
  scores = apply(network, variables, x)
  assert scores.shape == (3,) and scores.dtype == jnp.float32
  assert variables.keys() == {'params'}, 'nothing but parameters, by default'
  outputs, again = apply(network, variables, x, method='layers')
  assert tuple(outputs) == network.names
  np.testing.assert_allclose(again, scores, rtol=1e-5, atol=1e-6)
  last = outputs[network.names[-1]].reshape(3, -1)
  score = variables['params']['score']
  np.testing.assert_allclose(last @ score['kernel'][:, 0] + score['bias'], scores, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize('side, widths', [(28, 3), (32, 3), (64, 4), (128, 5)])
def test_convolutions_lead_to_four_by_four_places(side, widths):
  network = models.ConvDiscriminator((2,) * widths)
  outputs, _ = jax.eval_shape(
      lambda x: network.init_with_output(KEY, x, method='layers')[0], jnp.zeros((1, side, side, 1)))
  assert outputs[network.names[-1]].shape == (1, 4, 4, 2)


def convolution(x, kernel, bias):
  """Of [h, w, c], with zeros around it, place by place."""
  reach = kernel.shape[0] // 2
  padded = np.pad(x, ((reach, reach), (reach, reach), (0, 0)))
  found = np.zeros((*x.shape[:2], kernel.shape[3]))
  for i, j in np.ndindex(x.shape[:2]):
    window = padded[i : i + kernel.shape[0], j : j + kernel.shape[1]]
    found[i, j] = np.tensordot(window, kernel, 3) + bias
  return found


def layer(params, name, x):
  return convolution(x, *(np.float64(params[name][kind]) for kind in ('kernel', 'bias')))


def double(x):
  return np.stack([[x[i // 2, j // 2] for j in range(2 * x.shape[1])] for i in range(2 * x.shape[0])])


def halve(x):
  return (x[::2, ::2] + x[1::2, ::2] + x[::2, 1::2] + x[1::2, 1::2]) / 4


def test_a_block_that_doubles_written_out():
  block = gan.UpBlock(3, (7, 8), False, jnp.float32)
  x = inputs(2, 4, 4, 2) - 0.5
  variables = block.init(KEY, x)
  params = variables['params']
  for image, found in zip(np.float64(x), block.apply(variables, x), strict=True):
    shortcut = layer(params, 'shortcut', double(image))[:7, :8]
    y = layer(params, 'conv1', double(np.maximum(image, 0))[:7, :8])
    np.testing.assert_allclose(found, shortcut + layer(params, 'conv2', np.maximum(y, 0)), atol=1e-5)


@pytest.mark.parametrize('of_pixels', [True, False])
def test_a_block_that_halves_written_out(of_pixels):
  block = gan.DownBlock(3, of_pixels, True, None, False, jnp.float32)
  x = inputs(2, 4, 6, 2) - 0.5
  variables = block.init(KEY, x)
  params = variables['params']
  for image, found in zip(np.float64(x), block.apply(variables, x), strict=True):
    y = layer(params, 'conv1', image if of_pixels else np.maximum(image, 0))
    y = halve(layer(params, 'conv2', np.maximum(y, 0)))
    np.testing.assert_allclose(found, y + halve(layer(params, 'shortcut', image)), atol=1e-5)


def test_a_block_of_one_width_and_size_keeps_its_input():
  block = gan.DownBlock(3, False, False, None, False, jnp.float32)
  x = inputs(2, 4, 4, 3)
  variables = block.init(KEY, x)
  assert variables['params'].keys() == {'conv1', 'conv2'}
  np.testing.assert_array_equal(block.apply(jax.tree.map(jnp.zeros_like, variables), x), x)


@pytest.mark.parametrize('name', DISCRIMINATORS)
def test_spectral_norms_become_one(name):
  """After many steps of power iteration; those of a convolution are of its kernel as a matrix."""
  network, x = DISCRIMINATORS[name].clone(spectral_norm=True), inputs(2, 8, 8, 1)
  variables = initial(network, x)
  assert variables.keys() == {'params', 'spectral'}
  variables = train(network, variables, x, 200)
  sigmas = {jax.tree_util.keystr(path): value for path, value in jax.tree_util.tree_leaves_with_path(
      variables['spectral']) if 'sigma' in str(path)}
  kernels = [value for path, value in jax.tree_util.tree_leaves_with_path(variables['params'])
             if 'kernel' in str(path)]
  assert len(sigmas) == len(kernels)
  expected = [np.linalg.svd(np.reshape(kernel, (-1, kernel.shape[-1])), compute_uv=False)[0] for kernel in kernels]
  np.testing.assert_allclose(sorted(sigmas.values()), sorted(expected), rtol=1e-3)
  # Weights of any length then make the same scores, but for biases, which are 0 here.
  stretched = {**variables, 'params': jax.tree.map(lambda w: 7 * w, variables['params'])}
  np.testing.assert_allclose(apply(network, stretched, x), apply(network, variables, x), rtol=1e-4, atol=1e-6)


def test_a_spectrally_normalised_mlp_has_slopes_of_one_at_most():
  network, x = MLP.clone(spectral_norm=True), inputs(50, 7)
  variables = initial(network, x)
  variables = {**variables, 'params': jax.tree.map(lambda w: 30 * w, variables['params'])}
  slopes = lambda v: jnp.linalg.norm(jax.grad(lambda x: network.apply(v, x).sum())(x), axis=1).max()
  assert 0.01 < jax.jit(slopes)(train(network, variables, x, 100)) < 1 + 1e-4


def test_the_state_of_the_power_iteration_moves_in_training_alone():
  network, x = MLP.clone(spectral_norm=True), inputs(3, 7)
  variables = initial(network, x)
  _, kept = jax.jit(lambda v: network.apply(v, x, mutable=['spectral']))(variables)
  jax.tree.map(np.testing.assert_array_equal, kept['spectral'], variables['spectral'])
  moved = train(network, variables, x, 2)
  changed = [bool(jnp.any(a != b)) for a, b in zip(
      jax.tree.leaves(moved['spectral']), jax.tree.leaves(variables['spectral']), strict=True) if a.size > 1]
  assert len(changed) == 2 and all(changed), 'of both hidden layers; the vector of a single score has but one direction'


@pytest.mark.parametrize('name', DISCRIMINATORS)
@pytest.mark.parametrize('norm, mixes', [('batch', True), ('layer', False)])
def test_layer_norm_leaves_examples_apart_and_batch_norm_does_not(name, norm, mixes):
  network, x = DISCRIMINATORS[name].clone(norm=norm), inputs(4, 8, 8, 1)
  variables = initial(network, x)
  assert ('batch_stats' in variables) == mixes
  score = jax.jit(lambda x: network.apply(variables, x, train=True, mutable=['batch_stats'])[0])
  changed = np.asarray(score(x.at[3].multiply(3.0)) - score(x))
  assert changed[3] and np.any(changed[:3]) == mixes
  norms = [key for key in jax.tree_util.tree_leaves_with_path(variables['params']) if 'scale' in str(key)]
  assert len(norms) == {'conv': 1, 'resnet': 4, 'mlp': 1}[name], 'none in the first layer'


def test_layer_norm_is_of_the_whole_example():
  x = 3 + 2 * inputs(2, 4, 4, 3) * jnp.arange(1.0, 4.0)[None, None, None]
  found = Normed().apply(Normed().init(KEY, x), x)
  np.testing.assert_allclose(found.mean((1, 2, 3)), 0, atol=1e-5)
  np.testing.assert_allclose(found.std((1, 2, 3)), 1, atol=1e-4)
  assert np.abs(found.mean((1, 2))).max() > 0.5, 'not of each channel'


class Normed(gan.nn.Module):

  @gan.nn.compact
  def __call__(self, x):
    return gan._normalized(x, 'layer', True, 'norm')


@pytest.mark.parametrize('shape', [(16, 16), (14, 7), (4, 4), (3, 5), (1, 9)])
def test_features_are_max_pooled_to_four_by_four_places(shape):
  """Parts as PyTorch's AdaptiveMaxPool2d has them."""
  x = np.random.default_rng(0).normal(size=(2, *shape, 3)).astype(np.float32)
  found = gan.max_pooled(jnp.asarray(x), 4)
  sides = [min(side, 4) for side in shape]
  assert found.shape == (2, *sides, 3)
  for i, j in np.ndindex(*sides):
    rows, columns = (
        slice(int(np.floor(k * side / n)), int(np.ceil((k + 1) * side / n)))
        for k, side, n in zip((i, j), shape, sides, strict=True))
    np.testing.assert_array_equal(found[:, i, j], x[:, rows, columns].max((1, 2)))


@pytest.mark.parametrize('name', DISCRIMINATORS)
def test_features_of_a_layer_and_of_all(name):
  network, x = DISCRIMINATORS[name], inputs(3, 20, 20, 1)
  variables = initial(network, x)
  outputs, _ = apply(network, variables, x, method='layers')
  features = lambda layer: apply(
      models.DiscriminatorFeatures(network, layer), {'params': {'network': variables['params']}}, x)
  each = [features(layer) for layer in network.names]
  for layer, found in zip(network.names, each, strict=True):
    np.testing.assert_allclose(found, gan.max_pooled(outputs[layer], 4).reshape(3, -1), rtol=1e-5, atol=1e-6)
  np.testing.assert_allclose(features('all'), np.concatenate(each, axis=1), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize('name', DISCRIMINATORS)
def test_bfloat16_computes_near_float32_and_returns_it(name):
  x = inputs(2, 16, 16, 1)
  network = DISCRIMINATORS[name].clone(spectral_norm=True)
  short = network.clone(dtype=jnp.bfloat16)
  variables = initial(network, x)
  assert all(leaf.dtype == jnp.float32 for leaf in jax.tree.leaves(jax.eval_shape(short.init, KEY, x)))
  exact, found = apply(network, variables, x), apply(short, variables, x)
  assert found.dtype == jnp.float32
  np.testing.assert_allclose(found, exact, atol=0.02 * np.abs(exact).max() + 0.02)
  z = inputs(2, 5)
  decoder = models.ResNetDecoder((4, 3), dtype=jnp.bfloat16)
  variables = initial(decoder, z, (8, 8, 1))
  y = apply(decoder, variables, z, (8, 8, 1))
  assert y.dtype == jnp.float32
  np.testing.assert_allclose(y, apply(decoder.clone(dtype=jnp.float32), variables, z, (8, 8, 1)), atol=0.05)


IMAGE = jnp.ones((2, 9, 9, 1))


@pytest.mark.parametrize('network, arguments, message', [
    (models.Generator(models.MLPDecoder(), 'relu'), (jnp.ones((2, 3)), (4,)),
     "output must be one of 'sigmoid', 'tanh', 'linear', got 'relu'"),
    (models.ResNetDecoder(), (jnp.ones((2, 3, 3, 1)), (8, 8, 1)), r'z must be \[b, d\] .* got shape \[2, 3, 3, 1\]'),
    (models.ResNetDecoder((4, 0)), (jnp.ones((2, 3)), (8, 8, 1)), r'widths must hold .* all positive, got \(4, 0\)'),
    (models.ConvDiscriminator(norm='group'), (IMAGE,), "norm must be one of None, 'batch', 'layer', got 'group'"),
    (models.ConvDiscriminator(), (jnp.ones((2, 9)),), r'x must be images \[b, h, w, c\], .* got shape \[2, 9\]'),
    (models.ConvDiscriminator(()), (IMAGE,), r'widths must hold at least one size, all positive, got \(\)'),
    (models.MLPDiscriminator((-1,)), (IMAGE,), r'features must hold at least one size, all positive, got \(-1,\)'),
    (models.ResNetDiscriminator((4,), 2), (IMAGE,), 'downsamplings must be .* at most the 1 blocks, got 2'),
    (models.ResNetDiscriminator((4,) * 4, 4), (IMAGE,), r'sides at least 16, got shape \[2, 9, 9, 1\]'),
])
def test_what_does_not_fit_is_said(network, arguments, message):
  with pytest.raises(ValueError, match=message):
    network.init(KEY, *arguments)
