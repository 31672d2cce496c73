"""CPC against its loss, written out, and what it represents."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxssl import losses, methods, models
from jaxssl.models import AudioEncoder, LinearPredictor, RNNContext, SequenceEncoder

ENCODER = AudioEncoder(4, (4, 3), (2, 2), 'channel')
METHOD = methods.CPC(ENCODER, RNNContext('gru', 5), LinearPredictor(2, 4), optax.sgd(0.1))
KEY = jax.random.key(1)


def make_batch(views=1, b=6, n=24):
  mask = jnp.arange(n)[None] < jnp.array([24, 24, 17, 12, 20, 8])[:b, None]
  waves = [jnp.where(mask, jax.random.normal(jax.random.key(i), (b, n)), 0) for i in range(views)]
  return {'views': tuple(waves), 'mask': mask, 'group': jnp.arange(b) % 2}


@pytest.fixture(scope='module')
def state():
  return jax.jit(METHOD.init)(KEY, make_batch())


def outputs(state, waves):
  variables = {'params': state.params, **state.stats}
  z = ENCODER.apply({'params': state.params['encoder']}, waves)
  c = METHOD.context.apply({'params': state.params['context']}, z)
  predictions = METHOD.predictor.apply({'params': state.params['predictor']}, c)
  for ours, theirs in zip((z, c, predictions), METHOD.network.apply(variables, waves), strict=True):
    np.testing.assert_allclose(ours, theirs, atol=1e-6)
  return z, c, predictions


@pytest.mark.parametrize('views', [1, 2])
def test_loss_is_info_nce_of_the_last_views_steps(state, views):
  batch = make_batch(views)
  steps = jnp.array([6, 6, 4, 3, 5, 2])
  valid = jnp.arange(6)[None] < steps[:, None]
  _, _, predictions = outputs(state, batch['views'][0])
  z, _, _ = outputs(state, batch['views'][-1])
  loss, (_, metrics) = METHOD.loss(state.params, state.stats, batch, KEY)
  np.testing.assert_allclose(loss, losses.cpc_info_nce(predictions, z, mask=valid), rtol=1e-5)
  accuracy, bound = losses.cpc_accuracy_and_bound(predictions, z, mask=valid)
  np.testing.assert_allclose(metrics['accuracy'], jnp.mean(accuracy), rtol=1e-6)
  np.testing.assert_allclose([metrics['accuracy_next'], metrics['accuracy_last']], accuracy, rtol=1e-6)
  np.testing.assert_allclose(metrics['bound'], jnp.mean(bound), rtol=1e-4)


@pytest.mark.parametrize('fields', [
    {'negatives': 'sequence'}, {'negatives': 'group'}, {'negatives': 'others', 'num_negatives': 4},
    {'objective': 'ml_cpc', 'alpha': 0.5}])
def test_fields_reach_the_loss(state, fields):
  batch = make_batch()
  method = dataclasses.replace(METHOD, **fields)
  z, _, predictions = outputs(state, batch['views'][0])
  valid = jnp.arange(6)[None] < jnp.array([6, 6, 4, 3, 5, 2])[:, None]
  group = {'group': batch['group']} if fields.get('negatives') == 'group' else {}
  expected = losses.cpc_info_nce(predictions, z, mask=valid, key=KEY, **group, **fields)
  loss, _ = method.loss(state.params, state.stats, batch, KEY)
  np.testing.assert_allclose(loss, expected, rtol=1e-5)
  plain, _ = METHOD.loss(state.params, state.stats, batch, KEY)
  assert abs(loss - plain) > 1e-3


def test_alpha_may_follow_the_step(state):
  schedule = functools.partial(losses.geometric_alpha, steps=10, high=4.0, low=0.25)
  method = dataclasses.replace(METHOD, objective='ml_cpc', alpha=schedule)
  batch = make_batch()
  for step, alpha in ((0, 4.0), (5, 1.0), (10, 0.25)):
    fixed = dataclasses.replace(method, alpha=alpha)
    np.testing.assert_allclose(
        method.loss(state.params, state.stats, batch, KEY, jnp.int32(step))[0],
        fixed.loss(state.params, state.stats, batch, KEY)[0], rtol=1e-4)


def test_represents_steps_and_their_masked_mean(state):
  batch = make_batch()
  waves, mask = batch['views'][0], batch['mask']
  z, c, _ = outputs(state, waves)
  for name, steps in (('z', z), ('c', c)):
    np.testing.assert_allclose(METHOD.represent(state, waves, f'{name}_steps', mask), steps, atol=1e-6)
    np.testing.assert_allclose(METHOD.represent(state, waves, name), steps.mean(axis=1), atol=1e-6)
    mean = jnp.stack([steps[i, :n].mean(axis=0) for i, n in enumerate([6, 6, 4, 3, 5, 2])])
    np.testing.assert_allclose(METHOD.represent(state, waves, name, mask), mean, atol=1e-6)


@pytest.mark.parametrize('kind', ['gru', 'transformer'])
def test_padding_may_hold_anything(kind):
  """The other examples' loss and gradient, and all features, are those of zeros in the padding."""
  context = models.RNNContext('gru', 5) if kind == 'gru' else models.TransformerContext(4, 1, 2)
  method = dataclasses.replace(METHOD, context=context)
  batch = make_batch()
  start = jax.jit(method.init)(KEY, batch)
  update = jax.jit(method.step)
  clean, _ = update(start, batch, KEY)
  for filler in (jnp.nan, jnp.inf, 1e30):
    waves = jnp.where(batch['mask'], batch['views'][0], filler)
    state, metrics = update(start, {**batch, 'views': (waves,)}, KEY)
    assert jnp.isfinite(metrics['loss']) and int(state.failed_step) == -1
    for one, other in zip(jax.tree.leaves(clean.params), jax.tree.leaves(state.params), strict=True):
      np.testing.assert_array_equal(one, other)
    for name in 'zc':
      np.testing.assert_array_equal(
          method.represent(start, waves, name, batch['mask']),
          method.represent(start, jnp.where(batch['mask'], batch['views'][0], 0), name, batch['mask']))


def test_a_step_is_real_with_all_its_samples(state):
  """Of 27 samples, 4 a step, with 20 real, 5 of the 6 steps count; of 23 for 7 steps none would."""
  waves = jax.random.normal(KEY, (1, 27))
  mask = jnp.arange(27)[None] < 20
  steps = METHOD.represent(state, jnp.where(mask, waves, 0), 'z_steps')
  assert steps.shape == (1, 6, 4)
  np.testing.assert_allclose(METHOD.represent(state, waves, 'z', mask)[0], steps[0, :5].mean(axis=0), atol=1e-6)
  with pytest.raises(ValueError, match=r'mask must have shape \[1, 27\], that of the inputs, got \[1, 30\]'):
    METHOD.represent(state, waves, 'z', jnp.ones((1, 30), bool))


@pytest.mark.parametrize('changed, message', [
    ({'negatives': 'speaker'}, "negatives must be one of 'batch', .*'group_others', got 'speaker'"),
    ({'objective': 'nce'}, "objective must be one of 'info_nce', 'ml_cpc', got 'nce'")])
def test_errors_name_the_field(changed, message):
  with pytest.raises(ValueError, match=message):
    dataclasses.replace(METHOD, **changed)


def test_group_negatives_need_the_groups(state):
  method = dataclasses.replace(METHOD, negatives='group')
  batch = {name: value for name, value in make_batch().items() if name != 'group'}
  with pytest.raises(ValueError, match=r"negatives='group' needs the group \(speaker\) of each sequence"):
    method.loss(state.params, state.stats, batch, KEY)


def test_evaluate_gives_every_distance(state):
  batch = make_batch()
  found = METHOD.evaluate(state, batch, KEY)
  assert set(found) == {'accuracy_1', 'accuracy_2', 'bound_1', 'bound_2'}


def test_learns_a_sequence_of_vectors():
  """Steps that go round a circle, each at its own speed: what comes next can be told, and soon is."""
  method = methods.CPC(
      SequenceEncoder((16, 8)), RNNContext('gru', 16), LinearPredictor(2, 8), optax.adam(1e-2), negatives='others')

  def make(key):
    start, speed = jax.random.uniform(key, (2, 32, 1)) * jnp.array([6.28, 1.0])[:, None, None]
    angle = start + (0.2 + speed) * jnp.arange(10)[None]
    return {'views': (jnp.stack([jnp.cos(angle), jnp.sin(angle)], axis=-1),)}

  state = jax.jit(method.init)(KEY, make(KEY))
  step = jax.jit(lambda state, key: method.step(state, make(key), key))
  first = step(state, KEY)[1]
  for i in range(150):
    state, metrics = step(state, jax.random.fold_in(KEY, i))
  assert metrics['loss'] < first['loss'] - 1 and metrics['bound'] > 1
