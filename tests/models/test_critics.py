"""Critics against NumPy, pair by pair, and their initialisation."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxssl import models

RNG = np.random.default_rng(0)
X, Y = np.float32(RNG.normal(size=(3, 2, 2))), np.float32(RNG.normal(size=(4, 3)))


def weights(params):
  return {name: (np.float64(layer['kernel']), np.float64(layer.get('bias', 0.0))) for name, layer in params.items()}


def numpy_mlp(layers, x):
  for i, (kernel, bias) in enumerate(layers):
    x = (np.maximum(x, 0) if i else x) @ kernel + bias
  return x


def test_separable_against_numpy():
  critic = models.SeparableCritic(features=(5, 6), embedding=7)
  variables = critic.init(jax.random.key(0), X, Y)
  found, w = jax.jit(critic.apply)(variables, X, Y), weights(variables['params'])
  assert found.shape == (3, 4) and found.dtype == jnp.float32
  for i, x in enumerate(X):
    for j, y in enumerate(Y):
      g, h = (numpy_mlp([w[f'{name}{k}'] for k in (1, 2, 3)], value.ravel()) for name, value in (('g', x), ('h', y)))
      np.testing.assert_allclose(found[i, j], g @ h, rtol=1e-4, atol=1e-6)


def test_concatenated_is_an_mlp_of_both_side_by_side():
  critic = models.ConcatenatedCritic(features=(5, 6, 7))
  variables = critic.init(jax.random.key(0), X, Y)
  found, w = jax.jit(critic.apply)(variables, X, Y), weights(variables['params'])
  first = np.concatenate([w['x'][0], w['y'][0]]), w['x'][1]
  assert found.shape == (3, 4) and found.dtype == jnp.float32 and 'bias' not in variables['params']['y']
  for i, x in enumerate(X):
    for j, y in enumerate(Y):
      expected = numpy_mlp([first, *(w[f'mlp{k}'] for k in (1, 2, 3))], np.concatenate([x.ravel(), y]))
      np.testing.assert_allclose(found[i, j], expected[0], rtol=1e-4, atol=1e-6)


def test_log_baseline_against_numpy():
  baseline = models.LogBaseline(features=(5, 6))
  variables = baseline.init(jax.random.key(0), X)
  w = weights(variables['params'])
  expected = numpy_mlp([w[f'mlp{k}'] for k in (1, 2, 3)], X.reshape(3, -1))[:, 0]
  np.testing.assert_allclose(baseline.apply(variables, X), expected, rtol=1e-4, atol=1e-6)


def test_sizes_of_the_benchmark():
  x = jnp.zeros((2, 20))
  separable = models.SeparableCritic().init(jax.random.key(0), x, x)['params']
  assert [separable[f'{name}{i}']['kernel'].shape for name in 'gh' for i in (1, 2, 3, 4)] == 2 * [
      (20, 256), (256, 256), (256, 256), (256, 32)]
  joint = models.ConcatenatedCritic().init(jax.random.key(0), x, x)['params']
  assert [joint[name]['kernel'].shape for name in ('x', 'y', 'mlp1', 'mlp2', 'mlp3')] == [
      (20, 256), (20, 256), (256, 256), (256, 256), (256, 1)]


def test_initialised_as_torch_does():
  x, y = jnp.zeros((2, 16)), jnp.zeros((2, 20))
  separable = models.SeparableCritic().init(jax.random.key(0), x, y)['params']
  joint = models.ConcatenatedCritic().init(jax.random.key(0), x, y)['params']
  # The first layer of the concatenated critic has both as its inputs.
  fan_in = [(separable['g1'], 16), (separable['h1'], 20), (separable['g2'], 256), (joint['x'], 36), (joint['y'], 36),
            (joint['mlp2'], 256)]
  for layer, size in fan_in:
    for values in layer.values():
      assert size**-0.5 * 0.97 < np.max(np.abs(values)) <= size**-0.5
      assert abs(np.mean(values)) < 0.2 * size**-0.5


@pytest.mark.parametrize('critic', [models.SeparableCritic(), models.ConcatenatedCritic()])
@pytest.mark.parametrize('x, y, message', [
    (jnp.ones(3), Y, r'x must have shape \[n, ...\], none of it 0, got \[3\]'),
    (X, jnp.ones((4, 0)), r'y must have shape \[n, ...\], none of it 0, got \[4, 0\]')])
def test_wrong_shapes(critic, x, y, message):
  with pytest.raises(ValueError, match=message):
    critic.init(jax.random.key(0), x, y)
