"""Projection heads against NumPy, SimCLR's code and themselves on several devices."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from jaxssl import models

KEY = jax.random.key(0, impl='rbg')  # Compiles several times faster than threefry.


def normal(*shape):
  return jnp.asarray(np.random.default_rng(1).normal(size=shape), jnp.float32)


X = normal(16, 6)


def initialised(head):
  """Variables of `head` with every parameter random, so that no scale or bias is idle."""
  variables = jax.jit(head.init)(KEY, X)
  rng = np.random.default_rng(2)
  draw = lambda leaf: jnp.asarray(rng.normal(size=leaf.shape), jnp.float32)
  return {**variables, 'params': jax.tree.map(draw, variables['params'])}


@functools.partial(jax.jit, static_argnums=0, static_argnames='method')
def train(head, variables, x, method=None):
  return head.apply(variables, x, train=True, mutable=['batch_stats'], method=method)


def numpy_layer(x, params, i, norm):
  """Linear map and, if `norm`, batch norm in training mode; float64."""
  x = x @ np.asarray(params[f'linear{i}']['kernel'], np.float64) + np.asarray(params[f'linear{i}'].get('bias', 0.0))
  if norm:
    affine = params.get(f'bn{i}', {})
    x = (x - x.mean(0)) / np.sqrt(x.var(0) + 1e-5)
    x = x * np.asarray(affine.get('scale', 1.0)) + np.asarray(affine.get('bias', 0.0))
  return x


FIELDS = {
  'simclr': ((7, 5), {}),
  'simclr_v2': ((7, 8, 5), {}),
  'no batch norm': ((7, 5), {'hidden_bn': False, 'output_bn': False}),
  'byol': ((7, 5), {'output_bn': False, 'output_bias': True}),
  'simsiam': ((7, 8, 5), {'output_scale': False}),
}
NAMES = {
  'simclr': {'linear1': ['kernel'], 'bn1': ['bias', 'scale'], 'linear2': ['kernel'], 'bn2': ['scale']},
  'simclr_v2': {'linear1': ['kernel'], 'bn1': ['bias', 'scale'], 'linear2': ['kernel'], 'bn2': ['bias', 'scale'],
                'linear3': ['kernel'], 'bn3': ['scale']},
  'no batch norm': {'linear1': ['bias', 'kernel'], 'linear2': ['kernel']},
  'byol': {'linear1': ['kernel'], 'bn1': ['bias', 'scale'], 'linear2': ['bias', 'kernel']},
  'simsiam': {'linear1': ['kernel'], 'bn1': ['bias', 'scale'], 'linear2': ['kernel'], 'bn2': ['bias', 'scale'],
              'linear3': ['kernel']},
}


@pytest.mark.parametrize('name', FIELDS)
def test_layers_equal_numpy(name):
  features, fields = FIELDS[name]
  head = models.MLP(features, **fields)
  variables = initialised(head)
  params = variables['params']
  assert {k: sorted(v) for k, v in params.items()} == NAMES[name]
  layers = train(head, variables, X, method='layers')[0]
  assert len(layers) == len(features) + 1
  x = np.asarray(X, np.float64)
  np.testing.assert_array_equal(layers[0], X)
  for i in range(1, len(features) + 1):
    last = i == len(features)
    x = numpy_layer(x, params, i, head.output_bn if last else head.hidden_bn)
    x = x if last else np.maximum(x, 0)
    np.testing.assert_allclose(layers[i], x, rtol=1e-4, atol=1e-4)
  np.testing.assert_array_equal(train(head, variables, X)[0], layers[-1])


def test_evaluation_uses_the_averages():
  head = models.MLP((5,))
  variables = initialised(head)
  variables['batch_stats'] = {'bn1': {'mean': jnp.arange(5.0), 'var': jnp.arange(1.0, 6.0)}}
  linear = np.asarray(X) @ np.asarray(variables['params']['linear1']['kernel'])
  expected = (linear - np.arange(5)) / np.sqrt(np.arange(1, 6) + 1e-5) * variables['params']['bn1']['scale'][None]
  np.testing.assert_allclose(head.apply(variables, X), expected, rtol=1e-4, atol=1e-4)


def test_kernel_init():
  wide = jnp.zeros((1, 400))
  for init, deviation in ((None, 400**-0.5), (nn.initializers.normal(0.01), 0.01)):
    kernel = models.MLP((300,), kernel_init=init).init(KEY, wide)['params']['linear1']['kernel']
    assert abs(kernel.std() / deviation - 1) < 0.02


def test_bfloat16_keeps_float32_outside():
  head = models.MLP((7, 5), dtype=jnp.bfloat16)
  variables = initialised(head)
  z, updated = train(head, variables, X)
  assert {leaf.dtype for leaf in jax.tree.leaves((z, updated))} == {jnp.dtype('float32')}
  exact, _ = train(models.MLP((7, 5)), variables, X)
  assert 0 < np.abs(z - exact).max() < 0.1 * np.abs(exact).max()


def test_wrong_rank_is_an_error():
  with pytest.raises(ValueError, match=r'x must be features \[b, d\], got shape \(2, 3, 4\)'):
    models.MLP((5,)).init(KEY, jnp.zeros((2, 3, 4)))


def test_eight_devices_equal_one():
  head = models.MLP((7, 5))
  variables = initialised(head)
  direction = normal(16, 5)

  @jax.jit
  def loss_and_gradient(variables, x):
    def loss(params):
      z, updated = train(head, {**variables, 'params': params}, x)
      return (z * direction).sum(), (z, updated)
    return jax.value_and_grad(loss, has_aux=True)(variables['params'])

  mesh = jax.make_mesh((8,), ('data',), axis_types=(AxisType.Auto,))
  sharded = jax.device_put(X, NamedSharding(mesh, PartitionSpec('data')))
  replicated = jax.device_put(variables, NamedSharding(mesh, PartitionSpec()))
  one, eight = loss_and_gradient(variables, X), loss_and_gradient(replicated, sharded)
  jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4), one, eight)


def test_axis_name_spans_the_mapped_batch():
  head = models.MLP((7, 5))
  variables = initialised(head)
  mapped = jax.vmap(lambda x: train(head.clone(axis_name='batch'), variables, x)[0], axis_name='batch')
  np.testing.assert_allclose(
    mapped(X.reshape(4, 4, 6)).reshape(16, 5), train(head, variables, X)[0], rtol=1e-4, atol=1e-4)


def test_projected_returns_representation_and_projection():
  encoder = models.ResNet((1,), 'basic', (8,), stem='small')
  network = models.Projected(encoder, models.MLP((7, 5)))
  x = normal(4, 6, 6, 1)
  variables = jax.jit(network.init)(KEY, x)
  assert set(variables['params']) == {'encoder', 'head'}
  (h, z), updated = train(network, variables, x)
  assert set(updated['batch_stats']) == {'encoder', 'head'}
  layers, _ = train(network, variables, x, method='layers')
  assert [layer.shape for layer in layers] == [(4, 8), (4, 7), (4, 5)]
  np.testing.assert_array_equal(layers[0], h)
  np.testing.assert_array_equal(layers[2], z)
  alone = encoder.apply({collection: tree['encoder'] for collection, tree in variables.items()}, x)
  np.testing.assert_allclose(network.apply(variables, x)[0], alone, rtol=1e-6)


def test_gelu_between_layers():
  head = models.MLP((4, 3), hidden_bn=False, output_bn=False, output_bias=True, activation='gelu')
  x = jax.random.normal(jax.random.key(0), (5, 6))
  variables = head.init(jax.random.key(1), x)
  hidden, output = (variables['params'][f'linear{i}'] for i in (1, 2))
  expected = jax.nn.gelu(x @ hidden['kernel'] + hidden['bias'][None], approximate=False)
  np.testing.assert_allclose(head.apply(variables, x), expected @ output['kernel'] + output['bias'][None], atol=1e-6)
  with pytest.raises(ValueError, match="activation must be one of 'relu', 'gelu', got 'tanh'"):
    models.MLP((4,), activation='tanh').init(jax.random.key(0), x)


@pytest.mark.parametrize('weight_norm', [False, True])
def test_prototypes_are_cosines(weight_norm):
  prototypes = models.Prototypes(7, weight_norm)
  z = jax.random.normal(jax.random.key(0), (5, 4))
  variables = prototypes.init(jax.random.key(1), z)
  kernel = np.asarray(variables['params']['kernel'])
  np.testing.assert_allclose(np.linalg.norm(kernel, axis=0), 1, rtol=1e-6)
  cosines = np.asarray(z) / np.linalg.norm(z, axis=1, keepdims=True) @ kernel
  np.testing.assert_allclose(prototypes.apply(variables, z), cosines, atol=1e-6)
  longer = {'params': {'kernel': 3 * kernel}}
  np.testing.assert_allclose(prototypes.apply(longer, z), cosines * (1 if weight_norm else 3), atol=1e-5)


def test_predictor_stands_on_the_projection():
  network = models.Predicted(models.MLP((6,)), models.MLP((4,)), models.MLP((5,), output_bn=False))
  x = jax.random.normal(jax.random.key(0), (5, 3))
  variables = network.init(jax.random.key(1), x)
  h, z, prediction = network.apply(variables, x)
  of_head = {kind: {name: tree[name] for name in ('encoder', 'head')} for kind, tree in variables.items()}
  np.testing.assert_array_equal(z, models.Projected(network.encoder, network.head).apply(of_head, x)[1])
  kernel = variables['params']['predictor']['linear1']['kernel']
  assert h.shape == (5, 6)
  np.testing.assert_allclose(prediction, z @ kernel, atol=1e-6)
