"""ResNets against torchvision, timm, SimCLRv2's published sizes and themselves on several devices."""

import functools
import importlib.util
import math
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from jaxssl import models

SCRIPT = pathlib.Path(__file__).parents[2] / 'scripts' / 'golden_resnet.py'
spec = importlib.util.spec_from_file_location('golden_resnet', SCRIPT)
golden_resnet = importlib.util.module_from_spec(spec)
spec.loader.exec_module(golden_resnet)

SMALL = models.ResNet((1, 1), 'basic', (8, 16), stem='small', zero_init_residual=False)
D = {'stem': 'd', 'average_pool_shortcut': True}
NETWORKS = {
  'resnet18': models.resnet18(),
  'resnet50': models.resnet50(),
  'resnet18d': models.resnet18(**D),
  'resnet50d': models.resnet50(**D),
}


def shapes(network, channels=3):
  return jax.eval_shape(lambda: network.init(jax.random.key(0), jnp.zeros((1, 32, 32, channels))))


def size(tree):
  return sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(tree))


def init(network, x):
  return jax.jit(network.init)(jax.random.key(0, impl='rbg'), x)  # Compiles seven times faster than threefry.


def images(*shape):
  return jnp.asarray(np.random.default_rng(1).random(shape, np.float32))


@functools.partial(jax.jit, static_argnums=0)
def train(network, variables, x):
  return network.apply(variables, x, train=True, mutable=['batch_stats'])


@functools.partial(jax.jit, static_argnums=0, static_argnames='train')
def intermediates(network, variables, x, train=False):
  mutable = ['batch_stats', 'intermediates']
  return network.apply(variables, x, train=train, mutable=mutable, capture_intermediates=True)[1]


@pytest.mark.parametrize(
  'name, features, published',
  [
    ('resnet18', 512, 11_689_512),  # torchvision's documentation, with its classifier of 1000 classes
    ('resnet34', 512, 21_797_672),
    ('resnet50', 2048, 25_557_032),
    ('resnet101', 2048, 44_549_160),
    ('resnet152', 2048, 60_192_808),
    ('resnet200', 2048, 64_673_832),  # timm
  ],
)
def test_parameter_count_is_the_published_one(name, features, published):
  classifier = 1000 * features + 1000
  assert size(shapes(getattr(models, name)())['params']) == published - classifier


def test_parameter_count_of_resnet_d_is_timms():
  assert size(shapes(NETWORKS['resnet18d'])['params']) == 11_708_744 - 513_000
  assert size(shapes(NETWORKS['resnet50d'])['params']) == 25_576_264 - 2_049_000


@pytest.mark.parametrize(
  'name, width, plain, selective',
  [  # Millions of variables, from the table of google-research/simclr's README.
    ('resnet50', 1, 24, 35),
    ('resnet50', 2, 94, 140),
    pytest.param('resnet101', 1, 43, 65, marks=pytest.mark.slow),
    pytest.param('resnet101', 2, 170, 257, marks=pytest.mark.slow),
    pytest.param('resnet152', 1, 58, 89, marks=pytest.mark.slow),
    pytest.param('resnet152', 2, 233, 354, marks=pytest.mark.slow),
    ('resnet152', 3, None, 795),
  ],
)
def test_simclr_v2_sizes(name, width, plain, selective):
  constructor = getattr(models, name)
  if plain:
    assert round(size(shapes(constructor(width_multiplier=width))) / 1e6) == plain
  assert round(size(shapes(constructor(width_multiplier=width, sk_ratio=0.0625, **D))) / 1e6) == selective


def torch_state(variables, name):
  """Names and shapes of a torch state dict, from ours: the inverse of load_torchvision, by way of the recipe."""
  stem = {'conv1': 'conv1.0', 'bn1': 'conv1.1', 'conv2': 'conv1.3', 'bn2': 'conv1.4', 'conv3': 'conv1.6', 'bn3': 'bn1'}
  leaves = {'kernel': 'weight', 'scale': 'weight', 'bias': 'bias', 'mean': 'running_mean', 'var': 'running_var'}
  shortcut = {'downsample_conv': 0, 'downsample_bn': 1}
  state = {}
  for path, leaf in jax.tree_util.tree_leaves_with_path(variables):
    *module, last = [key.key for key in path][1:]
    if len(module) == 1:
      prefix = stem[module[0]] if name.endswith('d') else module[0]
    else:
      inner = module[1]
      if inner in shortcut:  # timm's has an average pool (or an identity) in front.
        inner = f'downsample.{shortcut[inner] + name.endswith("d")}'
      prefix = module[0].replace('_', '.') + '.' + inner
    shape = leaf.shape if len(leaf.shape) == 1 else tuple(leaf.shape[i] for i in (3, 2, 0, 1))
    key = f'{prefix}.{leaves[last]}'
    state[key] = golden_resnet.random_weights(key, shape)
  return {**state, 'bn1.num_batches_tracked': np.int64(0), 'fc.bias': np.zeros(10, np.float32)}


@pytest.fixture(scope='module')
def golden():
  with np.load(golden_resnet.GOLDEN) as file:
    return dict(file)


@pytest.mark.parametrize('name', NETWORKS)
def test_features_equal_torch(name, golden):
  network = NETWORKS[name]
  variables = models.load_torchvision(torch_state(shapes(network), name))
  features = jax.jit(network.apply)(variables, golden_resnet.random_images())
  np.testing.assert_allclose(features[:, ::4], golden[name], rtol=2e-4, atol=2e-4)


def test_training_forward_equals_torch(golden):
  network = NETWORKS['resnet18']
  variables = models.load_torchvision(torch_state(shapes(network), 'resnet18'))
  features, updated = train(network, variables, golden_resnet.random_images())
  np.testing.assert_allclose(features[:, ::4], golden['resnet18/train'], rtol=2e-4, atol=2e-4)
  averages = {k.removeprefix('resnet18/train/'): v for k, v in golden.items() if 'running' in k}
  assert len(averages) == 40  # mean and variance of 20 batch norms
  ours = models.load_torchvision(averages)['batch_stats']
  jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b[:5], rtol=2e-4, atol=2e-4), ours, updated['batch_stats'])


@pytest.mark.parametrize('name', NETWORKS)
def test_installed_torch_agrees(name):
  pytest.importorskip('torch')
  pytest.importorskip('timm', exc_type=(ImportError, RuntimeError)) if name.endswith('d') else None
  expected, state = golden_resnet.torch_features(name)
  features = jax.jit(NETWORKS[name].apply)(models.load_torchvision(state), golden_resnet.random_images())
  np.testing.assert_allclose(features, expected, rtol=2e-4, atol=2e-4)


def test_selective_kernels_equal_numpy():
  network = models.ResNet((1,), 'bottleneck', (8,), stem='small', sk_ratio=0.0625, zero_init_residual=False)
  x = images(2, 6, 6, 3)
  variables = init(network, x)
  captured = intermediates(network, variables, x)
  inner = captured['intermediates']['layer1_0']
  params = jax.tree.map(lambda a: np.asarray(a, np.float64), variables['params']['layer1_0'])
  branches = np.maximum(np.asarray(inner['bn2']['__call__'][0], np.float64), 0)
  first, second = branches[..., :8], branches[..., 8:]
  squeezed = (first + second).mean((1, 2)) @ params['sk_squeeze']['kernel'][0, 0]
  assert squeezed.shape == (2, 32)
  logits = np.maximum(squeezed / np.sqrt(1 + 1e-5), 0) @ params['sk_expand']['kernel'][0, 0]
  weight = 1 / (1 + np.exp(logits[:, None, None, 8:] - logits[:, None, None, :8]))
  mixed = weight * first + (1 - weight) * second
  np.testing.assert_allclose(inner['conv3']['__call__'][0], mixed @ params['conv3']['kernel'][0, 0], atol=1e-5)


def test_eight_devices_equal_one():
  x = images(16, 8, 8, 1)
  variables = init(SMALL, x)
  direction = images(16, 16)

  @jax.jit
  def loss_and_gradient(variables, x):
    def loss(params):
      features, updated = train(SMALL, {**variables, 'params': params}, x)
      return (features * direction).sum(), (features, updated)
    return jax.value_and_grad(loss, has_aux=True)(variables['params'])

  mesh = jax.make_mesh((8,), ('data',), axis_types=(AxisType.Auto,))
  sharded = jax.device_put(x, NamedSharding(mesh, PartitionSpec('data')))
  replicated = jax.device_put(variables, NamedSharding(mesh, PartitionSpec()))
  one, eight = loss_and_gradient(variables, x), loss_and_gradient(replicated, sharded)
  jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=2e-4, atol=2e-5), one, eight)
  assert len(eight[0][1][0].sharding.device_set) == 8


def test_axis_name_spans_the_mapped_batch():
  x = images(4, 3, 8, 8, 1)
  variables = init(SMALL, x[0])
  per_device, updated = jax.vmap(lambda x: train(SMALL.clone(axis_name='batch'), variables, x), axis_name='batch')(x)
  whole, stats = train(SMALL, variables, x.reshape(12, 8, 8, 1))
  np.testing.assert_allclose(per_device.reshape(12, -1), whole, rtol=1e-4, atol=1e-5)
  jax.tree.map(lambda a, b: np.testing.assert_allclose(a[2], b, rtol=1e-4, atol=1e-6), updated, stats)


def test_batch_norm_averages_equal_numpy():
  x = images(4, 8, 8, 3)
  variables = init(SMALL, x)
  captured = intermediates(SMALL, variables, x, train=True)
  activations = np.asarray(captured['intermediates']['conv1']['__call__'][0], np.float64)
  stats = captured['batch_stats']['bn1']
  np.testing.assert_allclose(stats['mean'], 0.1 * activations.mean((0, 1, 2)), rtol=1e-5, atol=1e-7)
  np.testing.assert_allclose(stats['var'], 0.9 + 0.1 * activations.var((0, 1, 2)), rtol=1e-5)


@pytest.mark.parametrize('norm', ['layer', None])
def test_norms_without_statistics_of_the_batch(norm):
  network = SMALL.clone(norm=norm)
  x = images(4, 8, 8, 3)
  variables = init(network, x)
  assert set(variables) == {'params'}
  assert jax.tree.map(jnp.shape, variables['params']) == jax.tree.map(jnp.shape, init(SMALL, x)['params'])
  scale, bias = images(2, 8)
  variables['params']['bn1'] = {'scale': scale, 'bias': bias}
  inner = intermediates(network, variables, x)['intermediates']
  expected = np.asarray(inner['conv1']['__call__'][0], np.float64)
  if norm:
    expected = (expected - expected.mean(-1, keepdims=True)) / np.sqrt(expected.var(-1, keepdims=True) + 1e-5)
  expected = expected * np.asarray(scale) + np.asarray(bias)
  np.testing.assert_allclose(inner['bn1']['__call__'][0], expected, rtol=1e-4, atol=1e-5)
  features, updated = train(network, variables, x)
  assert not updated
  np.testing.assert_allclose(train(network, variables, x[2:3])[0], features[2:3], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize('block, last', [('basic', 'bn2'), ('bottleneck', 'bn3')])
def test_zero_init_makes_a_block_its_shortcut(block, last):
  network = models.ResNet((2,), block, (8,), stem='small')
  x = images(2, 8, 8, 3)
  variables = init(network, x)
  assert not variables['params']['layer1_1'][last]['scale'].any()
  captured = intermediates(network, variables, x)
  outputs = captured['intermediates']
  np.testing.assert_array_equal(outputs['layer1_0']['__call__'][0], outputs['layer1_1']['__call__'][0])
  ones = init(network.clone(zero_init_residual=False), x)
  assert (ones['params']['layer1_1'][last]['scale'] == 1).all()


def test_bfloat16_keeps_float32_outside():
  network = SMALL.clone(dtype=jnp.bfloat16)
  x = images(4, 8, 8, 1)
  variables = init(network, x)
  features, updated = train(network, variables, x)
  assert {leaf.dtype for leaf in jax.tree.leaves((variables, updated, features))} == {jnp.dtype('float32')}
  exact, _ = train(SMALL, variables, x)
  assert 0 < np.abs(features - exact).max() < 0.05 * np.abs(exact).max()


@pytest.mark.parametrize('stem, resolution', [('imagenet', 8), ('small', 32), ('strided', 16), ('d', 8)])
def test_stem_resolution_and_channels(stem, resolution):
  network = models.ResNet((1,), 'basic', (8,), width_multiplier=2, stem=stem)
  for channels in (1, 3):
    variables = shapes(network, channels)
    assert variables['params']['conv1']['kernel'].shape[2] == channels
  outputs = jax.eval_shape(
    lambda: network.apply(
      network.init(jax.random.key(0), jnp.zeros((1, 32, 32, 3))), jnp.zeros((1, 32, 32, 3)),
      capture_intermediates=True)[1])
  assert outputs['intermediates']['layer1_0']['__call__'][0].shape == (1, resolution, resolution, 16)


@pytest.mark.parametrize(
  'fields, shape, message',
  [
    ({'stem': 'cifar'}, (1, 8, 8, 3), r"stem must be one of 'imagenet', 'small', 'strided', 'd', got 'cifar'"),
    ({'norm': 'group'}, (1, 8, 8, 3), r"norm must be one of 'batch', 'layer', None, got 'group'"),
    ({'block': 'wide'}, (1, 8, 8, 3), r"block must be one of 'basic', 'bottleneck', got 'wide'"),
    ({'stage_sizes': (1, 1, 1)}, (1, 8, 8, 3), r'one entry a stage, got \(1, 1, 1\) and \(8, 16\)'),
    ({'sk_ratio': 0.0625}, (1, 8, 8, 3), "needs block='bottleneck', got sk_ratio=0.0625"),
    ({}, (8, 8, 3), r'x must be images \[b, h, w, c\], got shape \(8, 8, 3\)'),
  ],
)
def test_errors_name_the_argument(fields, shape, message):
  with pytest.raises(ValueError, match=message):
    SMALL.clone(**fields).init(jax.random.key(0), jnp.zeros(shape))


def test_runs_inside_nnx():
  x = images(4, 8, 8, 1)
  wrapped = nnx.bridge.lazy_init(nnx.bridge.ToNNX(SMALL, rngs=nnx.Rngs(0)), x)
  params, stats, _ = nnx.state(wrapped, nnx.Param, nnx.BatchStat, ...)
  before = wrapped(x)
  assert before.shape == (4, 16)
  trained = wrapped(x, train=True, mutable=['batch_stats'])
  assert np.abs(trained - before).max() > 1e-3
  assert np.abs(wrapped(x) - before).max() > 1e-3  # The averages moved.
