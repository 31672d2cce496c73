"""NCE where it could go wrong: chance, its constant, extremes, gradients in tiles, errors."""

import contrastive_reference as reference
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxssl import losses

RNG = np.random.default_rng(0)
QUERY, KEY = RNG.normal(size=(2, 7, 5))
BANK = RNG.normal(size=(11, 5))
SETTINGS = {'normalizer': 40.0, 'num_examples': 100}


def test_a_critic_that_knows_nothing():
  """P = 1 / N: log(1 + m) + m log((1 + m) / m), for scores of 0 and Z = N."""
  for m in (1, 4, 100):
    loss = losses.noise_contrastive(
        jnp.eye(3), jnp.zeros((3, 3)), jnp.zeros((m, 3)), normalizer=50.0, num_examples=50)
    np.testing.assert_allclose(loss, np.log(1 + m) + m * np.log((1 + m) / m), rtol=1e-6)


def test_the_normalizer_makes_the_probabilities_of_a_whole_bank_sum_to_one():
  bank = RNG.normal(size=(40, 5))
  query = QUERY[:1]
  z = losses.noise_contrastive_normalizer(query, bank[:1], bank[1:], num_examples=40, temperature=0.2)
  unit = lambda x: x / np.linalg.norm(x, axis=1, keepdims=True)
  np.testing.assert_allclose(np.sum(np.exp(unit(bank) @ unit(query)[0] / 0.2)), z, rtol=1e-5)
  assert np.all(jax.grad(lambda q: losses.noise_contrastive_normalizer(q, KEY, BANK, num_examples=9))(QUERY) == 0)


@pytest.mark.parametrize('implementation', ['dense', 'tiled'])
@pytest.mark.parametrize('temperature', [0.05, 0.3, 5.0])
def test_value_and_gradients_equal_the_slow_reference(implementation, temperature):
  loss = lambda q, k, b, t: losses.noise_contrastive(q, k, b, temperature=t, implementation=implementation, **SETTINGS)
  arrays = [jnp.float32(x) for x in (QUERY, KEY, BANK)]
  value, grads = jax.value_and_grad(loss, argnums=(0, 1, 2, 3))(*arrays, temperature)
  slow = lambda *arguments: reference.noise_contrastive(*arguments, 40.0, 100)
  np.testing.assert_allclose(value, slow(QUERY, KEY, BANK, temperature), rtol=1e-5)
  change = [RNG.normal(size=np.shape(x)) for x in (QUERY, KEY, BANK, temperature)]
  moved = lambda step: slow(*(x + step * dx for x, dx in zip((QUERY, KEY, BANK, temperature), change, strict=True)))
  expected = (moved(1e-6) - moved(-1e-6)) / 2e-6
  np.testing.assert_allclose(
      sum(np.sum(np.float64(g) * dx) for g, dx in zip(grads, change, strict=True)), expected, rtol=2e-4)


def test_extremes_are_finite():
  zero, same = jnp.zeros((4, 3)), jnp.ones((4, 3))
  for query, key in ((zero, zero), (same, same), (same, -same)):
    for dtype in (jnp.float32, jnp.bfloat16):
      value, grad = jax.value_and_grad(lambda q, k=key, d=dtype: losses.noise_contrastive(
          q.astype(d), k.astype(d), jnp.ones((2, 3), d), temperature=0.02, **SETTINGS))(query)
      assert value.dtype == jnp.float32 and np.isfinite(value) and np.all(np.isfinite(grad))


@pytest.mark.parametrize('change, message', [
    ({'negatives': np.ones((3, 4))}, r'negatives must have shape \[m, 5\] or \[7, m, 5\], got \[3, 4\]'),
    ({'negatives': np.ones((0, 5))}, 'negatives must hold at least one, got none'),
    ({'key': np.ones((6, 5))}, r'key must have the shape of query, \[7, 5\], got \[6, 5\]'),
    ({'num_examples': 0}, 'num_examples must be a Python number, at least 1, got 0'),
    ({'normalizer': np.ones(2)}, r'normalizer must be a scalar, got shape \[2\]'),
    ({'implementation': 'ring'}, "implementation must be one of None, 'dense', 'tiled', got 'ring'"),
])
def test_mistakes_are_named(change, message):
  arguments = {'query': QUERY, 'key': KEY, 'negatives': BANK, **SETTINGS, **change}
  with pytest.raises(ValueError, match=message):
    losses.noise_contrastive(**arguments)
