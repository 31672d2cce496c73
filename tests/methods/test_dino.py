"""DINO against its step, written out: centre, sharpening, moving average, the first steps."""

import jax
import numpy as np
import pytest
from joint import ENCODER, HEAD, OPTIMIZER, assert_close, followed, views

from jaxssl import losses, methods
from jaxssl.models import Prototypes, ViT

METHOD = methods.DINO(
    ENCODER, HEAD, Prototypes(5, weight_norm=True), OPTIMIZER, target_temperature=lambda step: 0.2 + 0.1 * step,
    momentum=0.8, freeze_steps=2)


def variant(**fields):
  return methods.DINO(**{**vars(METHOD), **fields})


@pytest.mark.parametrize('koleo', [0.0, 0.5])
@pytest.mark.parametrize('count', [2, 4])
def test_four_steps_written_out(count, koleo):
  method = variant(koleo_weight=koleo)
  state = method.init(jax.random.key(0), {'views': views(0, count)})
  step, target, center, first = jax.jit(method.step), state.params, np.zeros(5), state.params['prototypes']
  for i in range(4):
    x = views(i, count)
    target = followed(target, state.params, 0.8)
    student = [method.network.apply({'params': state.params}, view) for view in x]
    teacher = [np.asarray(method.network.apply({'params': target}, view)[2]) for view in x[:2]]
    sharp = [np.asarray(jax.nn.softmax((each - center) / (0.2 + 0.1 * i))) for each in teacher]
    expected = np.mean([
        -np.mean(np.sum(sharp[v] * np.asarray(jax.nn.log_softmax(student[u][2] / 0.1)), axis=1))
        for v in range(2) for u in range(count) if u != v])
    expected += koleo * sum(losses.koleo(h) for h, _, _ in student[:2])
    center = 0.9 * center + 0.1 * np.concatenate(teacher).mean(0)
    state, metrics = step(state, {'views': x}, jax.random.key(i))
    np.testing.assert_allclose(metrics['loss'], expected, rtol=1e-4)
    np.testing.assert_allclose(state.stats['center'], center, atol=1e-6)
    same = np.array_equal(state.params['prototypes']['kernel'], first['kernel'])
    assert same == (i < 2), 'frozen at first'
  assert_close(state.stats['target']['params'], target)


def test_targets_drop_no_paths():
  encoder = ViT(2, 8, 2, 2, drop_path=0.9)
  method = variant(encoder=encoder, target_temperature=0.1)
  x = tuple(jax.random.normal(jax.random.key(5), (2, 4, 4, 4, 3)))
  state = jax.jit(method.init)(jax.random.key(0), {'views': x})
  loss = jax.jit(lambda key: method.loss(state.params, state.stats, x, key))
  (one, (stats, _)), (other, (again, _)) = loss(jax.random.key(1)), loss(jax.random.key(2))
  assert float(one) != float(other), 'the student drops paths'
  np.testing.assert_array_equal(stats['center'], again['center'])
  assert np.abs(stats['center']).max() > 0


def test_length_of_the_prototypes_does_not_matter():
  x = views(0)
  state = METHOD.init(jax.random.key(0), {'views': x})
  longer = {**state.params, 'prototypes': jax.tree.map(lambda w: 3 * w, state.params['prototypes'])}
  scores = [METHOD.network.apply({'params': params}, x[0])[2] for params in (state.params, longer)]
  np.testing.assert_allclose(*scores, atol=1e-6)
  assert np.abs(scores[0]).max() <= 1 + 1e-6


@pytest.mark.parametrize('fields, message', [
    ({'temperature': 0.0}, 'temperature must be positive and finite, got 0.0'),
    ({'center_momentum': 1.0}, r'center_momentum must lie in \[0, 1\), got 1.0'),
    ({'koleo_weight': -0.1}, 'koleo_weight must be finite and not negative, got -0.1'),
    ({'koleo_weight': float('inf')}, 'koleo_weight must be finite and not negative, got inf'),
    ({'prototypes': Prototypes(5)}, 'weight_norm of the prototypes must be True'),
])
def test_mistakes_are_named(fields, message):
  with pytest.raises(ValueError, match=message):
    variant(**fields)
