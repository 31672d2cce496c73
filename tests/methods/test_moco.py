"""MoCo against its step, written out: momentum encoder, loss beside the queue, and the queue's turn."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxssl import losses, methods
from jaxssl.methods import _queue
from jaxssl.models import MLP

B, K = 6, 16
METHOD = methods.MoCo(
    MLP((5,), output_bn=False, output_bias=True), MLP((4,), output_bn=False, output_bias=True), optax.sgd(0.5),
    temperature=0.3, momentum=0.8, queue_size=K)


def variant(**fields):
  return methods.MoCo(**{**vars(METHOD), **fields})


def make_batch(seed):
  query, key = jax.random.normal(jax.random.key(seed), (2, B, 7))
  return {'views': (query, key)}


def unit(x):
  return np.asarray(x) / np.linalg.norm(x, axis=1, keepdims=True)


@pytest.mark.parametrize('objective', ['info_nce', 'ml_cpc'])
def test_three_steps_written_out(objective):
  method = variant(objective=objective, alpha=1.0 if objective == 'info_nce' else lambda step: 2.0 / (1 + step))
  state = method.init(jax.random.key(0), make_batch(0))
  step, target = jax.jit(method.step), state.params
  queue = np.asarray(state.stats['queue']).copy()
  np.testing.assert_allclose(np.linalg.norm(queue, axis=1), 1, rtol=1e-6)
  for i in range(3):
    batch = make_batch(i)
    target = jax.tree.map(lambda old, new: 0.8 * old + 0.2 * new, target, state.params)
    _, query = method.network.apply({'params': state.params}, batch['views'][0])
    _, key = method.network.apply({'params': target}, batch['views'][1])
    query, key = unit(query), unit(key)
    positive, others = np.sum(query * key, axis=1) / 0.3, query @ queue.T / 0.3
    if objective == 'info_nce':
      expected = np.mean(np.log(np.exp(positive) + np.exp(others).sum(axis=1)) - positive)
    else:
      expected = np.log(K + 1) - losses.ml_cpc_bound(positive, others, alpha=2.0 / (1 + i))
    queue[(B * i + np.arange(B)) % K] = key
    state, metrics = step(state, batch, jax.random.key(i))
    np.testing.assert_allclose(metrics['loss'], expected, rtol=1e-5)
    np.testing.assert_allclose(state.stats['queue'], queue, atol=1e-6)
  jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6), state.stats['target']['params'], target)


def test_no_gradient_reaches_the_keys():
  """The gradient is that of a loss with the keys as constants."""
  batch = make_batch(0)
  state = METHOD.init(jax.random.key(0), batch)
  found = jax.grad(lambda params: METHOD.loss(params, state.stats, batch)[0])(state.params)
  _, key = METHOD.network.apply({'params': state.params}, batch['views'][1])

  def constant(params):
    _, query = METHOD.network.apply({'params': params}, batch['views'][0])
    return losses.info_nce(query, key, state.stats['queue'], temperature=0.3)

  jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6), found, jax.grad(constant)(state.params))


def test_relational():
  method = variant(objective='relational', target_temperature=0.1)
  batch = make_batch(0)
  state = method.init(jax.random.key(0), batch)
  (_, query), (_, key) = (method.network.apply({'params': state.params}, view) for view in batch['views'])
  similar = [unit(z) @ np.asarray(state.stats['queue']).T for z in (query, key)]
  log_p = jax.nn.log_softmax(similar[0] / 0.3)
  expected = -np.mean(np.sum(jax.nn.softmax(similar[1] / 0.1) * log_p, axis=1))
  np.testing.assert_allclose(method.loss(state.params, state.stats, batch)[0], expected, rtol=1e-5)


def test_momentum_may_be_a_schedule():
  """That of the step whose update it follows; at step 0 there is none."""
  method = variant(momentum=lambda step: 0.5 + 0.1 * step)
  state = method.init(jax.random.key(0), make_batch(0))
  target = state.params
  for i in range(3):
    if i:
      target = jax.tree.map(lambda old, new, m=0.5 + 0.1 * (i - 1): m * old + (1 - m) * new, target, state.params)
    state, _ = method.step(state, make_batch(i), jax.random.key(i))
  jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6), state.stats['target']['params'], target)


def test_representations_are_those_of_the_trained_network():
  state = METHOD.init(jax.random.key(0), make_batch(0))
  state, _ = METHOD.step(state, make_batch(1), jax.random.key(1))
  x = make_batch(2)['views'][0]
  h, z = METHOD.network.apply({'params': state.params}, x)
  np.testing.assert_array_equal(METHOD.represent(state, x), h)
  np.testing.assert_array_equal(METHOD.represent(state, x, 'z'), z)


@pytest.mark.parametrize('fields, message', [
    ({'temperature': 0.0}, 'temperature must be positive and finite, got 0.0'),
    ({'temperature': 1e-300}, 'temperature must be positive and finite, got 1e-300, which is 0 in float32'),
    ({'queue_size': 2**31}, 'queue_size must be at most 2147483647, got 2147483648'),
    ({'momentum': 1.5}, r'momentum must lie in \[0, 1\], or be a schedule, got 1.5'),
    ({'objective': 'nt_xent'}, "objective must be one of 'info_nce', 'ml_cpc', 'relational', got 'nt_xent'"),
    ({'alpha': 0.5}, "alpha is of objective='ml_cpc' alone, got 0.5 with 'info_nce'"),
])
def test_mistakes_are_named(fields, message):
  with pytest.raises(ValueError, match=message):
    variant(**fields)


def test_what_the_batch_lacks_is_named():
  with pytest.raises(ValueError, match='queue_size must be at least the batch, 6, got 5'):
    variant(queue_size=5).init(jax.random.key(0), make_batch(0))
  for count in (1, 3):
    with pytest.raises(ValueError, match=f'views must be 2, got {count}'):
      METHOD.init(jax.random.key(0), {'views': (jnp.ones((6, 7)),) * count})


def test_accuracy_is_over_the_key_and_the_queue():
  query, key = jnp.float32([[2, 0, 0], [0, 1, 0], [0, 0, 1]]), jnp.float32([[1, 0, 0], [1, 1, 0], [0, 0.5, 3]])
  queue = jnp.float32([[0.9, 0.1, 0.4], [0.3, 0.9, 0.3]])
  assert _queue.accuracy(query, key, queue / jnp.linalg.norm(queue, axis=1, keepdims=True)) == pytest.approx(2 / 3)


def test_places_in_a_long_queue_do_not_overflow():
  step, rows = 98_301, jnp.ones((32_768, 1))  # Their product is more than 2^31.
  queue = _queue.enqueue(jnp.zeros((98_304, 1)), rows, jnp.int32(step))
  place = (step * len(rows) + np.arange(len(rows))) % len(queue)
  np.testing.assert_array_equal(np.flatnonzero(queue), np.sort(place))
