"""NNCLR against its step, written out: neighbours, loss, and the queue's turn."""

import jax
import numpy as np
import pytest
from joint import ENCODER, HEAD, OPTIMIZER, PREDICTOR, B, unit, views

from jaxssl import methods

METHOD = methods.NNCLR(ENCODER, HEAD, PREDICTOR, OPTIMIZER, temperature=0.3, queue_size=20)


def contrast(anchors, predictions):
  scores = unit(anchors) @ unit(predictions).T / 0.3
  return np.mean(np.log(np.exp(scores).sum(1)) - np.diag(scores))


def test_four_steps_written_out():
  state = METHOD.init(jax.random.key(0), {'views': views(0)})
  step, queue = jax.jit(METHOD.step), np.asarray(state.stats['queue'], np.float64).copy()
  for i in range(4):
    x = views(i)
    (_, z1, p1), (_, z2, p2) = (METHOD.network.apply({'params': state.params}, view) for view in x)
    near = [queue[np.argmax(unit(z) @ queue.T, axis=1)] for z in (z1, z2)]
    state, metrics = step(state, {'views': x}, jax.random.key(i))
    np.testing.assert_allclose(metrics['loss'], (contrast(near[0], p2) + contrast(near[1], p1)) / 2, rtol=1e-4)
    queue[(i * B + np.arange(B)) % 20] = unit(z1)
    np.testing.assert_allclose(state.stats['queue'], queue, atol=1e-6)


def test_mistakes_are_named():
  with pytest.raises(ValueError, match='queue_size must be at least the batch, 8, got 5'):
    methods.NNCLR(**{**vars(METHOD), 'queue_size': 5}).init(jax.random.key(0), {'views': views(0)})
  with pytest.raises(ValueError, match='temperature must be positive and finite, got 0.0'):
    methods.NNCLR(**{**vars(METHOD), 'temperature': 0.0})
