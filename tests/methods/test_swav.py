"""SwAV against its step, written out: assignments, prototypes of length 1, the first steps, the queue."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from joint import ENCODER, HEAD, OPTIMIZER, B, unit, views

from jaxssl import losses, methods
from jaxssl.methods._prototypes import usage
from jaxssl.models import Prototypes

METHOD = methods.SwAV(ENCODER, HEAD, Prototypes(5), OPTIMIZER, epsilon=0.5, freeze_steps=2)


def variant(**fields):
  return methods.SwAV(**{**vars(METHOD), **fields})


def cross_entropy(scores, codes):
  return -np.mean(np.sum(np.asarray(codes) * np.asarray(jax.nn.log_softmax(scores / 0.1)), axis=1))


def prototypes(state):
  return np.asarray(state.params['prototypes']['kernel'])


@pytest.mark.parametrize('count', [2, 4])
def test_four_steps_written_out(count):
  state = METHOD.init(jax.random.key(0), {'views': views(0, count)})
  first, step = prototypes(state), jax.jit(METHOD.step)
  for i in range(4):
    x = views(i, count)
    z = [METHOD.network.apply({'params': state.params}, view)[1] for view in x]
    scores = [jnp.float32(unit(each) @ prototypes(state)) for each in z]
    codes = [losses.sinkhorn(each, epsilon=0.5) for each in scores[:2]]
    expected = np.mean([cross_entropy(scores[u], codes[v]) for v in range(2) for u in range(count) if u != v])
    state, metrics = step(state, {'views': x}, jax.random.key(i))
    np.testing.assert_allclose(metrics['loss'], expected, rtol=1e-4)
    np.testing.assert_allclose(np.linalg.norm(prototypes(state), axis=0), 1, rtol=1e-5)
    assert np.array_equal(prototypes(state), first) == (i < 2), 'frozen at first'


def test_queue():
  method = variant(queue_size=16, queue_start=1, freeze_steps=0)
  state = method.init(jax.random.key(0), {'views': views(0)})
  step, queue = jax.jit(method.step), np.zeros((2, 16, 4))
  for i in range(5):
    x = views(i)
    z = [unit(method.network.apply({'params': state.params}, view)[1]) for view in x]
    scores = [jnp.float32(each @ prototypes(state)) for each in z]
    if i < 3:  # Filled by steps 1 and 2.
      codes = [losses.sinkhorn(each, epsilon=0.5) for each in scores]
    else:
      beside = [np.concatenate([each @ prototypes(state), own]) for each, own in zip(queue, scores, strict=True)]
      codes = [losses.sinkhorn(jnp.float32(each), epsilon=0.5)[16:] for each in beside]
    if i >= 1:
      queue[:, (i - 1) * B % 16 + np.arange(B)] = z
    state, metrics = step(state, {'views': x}, jax.random.key(i))
    np.testing.assert_allclose(
        metrics['loss'], (cross_entropy(scores[0], codes[1]) + cross_entropy(scores[1], codes[0])) / 2, rtol=1e-4)
    np.testing.assert_allclose(state.stats['queues'], queue, atol=1e-5)


def test_assignments_tell_collapse():
  same, spread = jnp.eye(4)[jnp.zeros(8, int)], jnp.eye(4)[jnp.arange(8) % 4]
  np.testing.assert_allclose(usage(same)['prototypes_used'], 1, rtol=1e-5)
  np.testing.assert_allclose(usage(spread)['prototypes_used'], 4, rtol=1e-5)
  np.testing.assert_allclose(usage(spread)['assignment_entropy'], 0, atol=1e-5)
  np.testing.assert_allclose(usage(jnp.full((8, 4), 0.25))['assignment_entropy'], 1, rtol=1e-5)


@pytest.mark.parametrize('fields, message', [
    ({'temperature': -1.0}, 'temperature must be positive and finite, got -1.0'),
    ({'freeze_steps': -1}, 'freeze_steps must not be negative, got -1'),
    ({'queue_size': 12}, 'queue_size must be a multiple of the batch, 8, got 12'),
    ({'prototypes': Prototypes(5, weight_norm=True)}, 'weight_norm of the prototypes must be False'),
    ({'prototypes': Prototypes(0)}, 'count of the prototypes must be positive, got 0'),
])
def test_mistakes_are_named(fields, message):
  with pytest.raises(ValueError, match=message):
    variant(**fields).init(jax.random.key(0), {'views': views(0)})
