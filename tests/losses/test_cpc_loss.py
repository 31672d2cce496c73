"""The losses of CPC against float64 loops, closed forms and symmetries; on several devices in test_cpc_devices.py."""

import functools

import cpc_reference as reference
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxssl import losses
from jaxssl.losses import _cpc
from jaxssl.losses.cpc import NEGATIVES

RNG = np.random.default_rng(0)
B, T, STEPS, D = 6, 7, 3, 4
PREDICTIONS, Z = RNG.normal(size=(B, T, STEPS, D)), RNG.normal(size=(B, T, D))
GROUP = np.array([0, 1, 0, 2, 1, 0])  # Sequence 3 is alone in its group: no negatives for 'group_others'.
LENGTHS = np.array([7, 3, 6, 5, 0, 1])  # One empty, and one without a target.
MASK = np.arange(T)[None, :] < LENGTHS[:, None]
HOLES = MASK & (RNG.uniform(size=(B, T)) < 0.8)
KEY = jax.random.key(5)


def pair(**settings):
  """Returns the settings of the loss, and of its slow reference."""
  slow = {name: value for name, value in settings.items() if name not in ('key', 'num_negatives', 'chunk')}
  if 'num_negatives' in settings:
    mask = settings.get('mask', np.ones((B, T), bool))
    slow['drawn'] = reference.drawn(
        KEY, settings.get('negatives', 'batch'), mask, GROUP, settings['num_negatives'])
    settings['key'] = KEY
  return settings, slow


CASES = {
    **{negatives: pair(negatives=negatives, group=GROUP) for negatives in NEGATIVES},
    **{f'{negatives}, padded': pair(negatives=negatives, group=GROUP, mask=MASK) for negatives in NEGATIVES},
    **{f'{negatives}, drawn': pair(negatives=negatives, group=GROUP, mask=MASK, num_negatives=5)
       for negatives in NEGATIVES},
    'holes': pair(mask=HOLES),
    'more drawn than there are': pair(num_negatives=100, negatives='sequence', mask=HOLES),
    'alpha-CPC': pair(alpha=0.3, negatives='group', group=GROUP),
    'ML-CPC': pair(objective='ml_cpc'),
    'alpha-ML-CPC': pair(objective='ml_cpc', alpha=0.1, negatives='sequence', mask=MASK),
    'large alpha': pair(objective='ml_cpc', alpha=4.5, negatives='sequence', mask=MASK),  # More than some have.
    'alpha-ML-CPC, drawn': pair(objective='ml_cpc', alpha=2.0, num_negatives=5, negatives='others', mask=HOLES),
}


@pytest.fixture(params=CASES)
def case(request):
  return CASES[request.param]


def slopes(directions, **slow):
  """Returns the derivative of the slow reference in the direction of the predictions, and in that of z."""
  found = []
  for a, b in [(1e-6, 0.0), (0.0, 1e-6)]:
    ahead, behind = (reference.loss(PREDICTIONS + sign * a * directions[0], Z + sign * b * directions[1], **slow)
                     for sign in (1, -1))
    found.append((ahead - behind) / 2e-6)
  return found


@pytest.mark.parametrize('name, chunk', [
    pytest.param(name, chunk, marks=[pytest.mark.slow] * ((i + j) % 2))
    for i, name in enumerate(CASES) for j, chunk in enumerate([None, 5])])
def test_equals_the_slow_reference(name, chunk):
  settings, slow = CASES[name]
  directions = RNG.normal(size=PREDICTIONS.shape), RNG.normal(size=Z.shape)
  function = jax.value_and_grad(functools.partial(losses.cpc_info_nce, **settings, chunk=chunk), argnums=(0, 1))
  loss, grads = jax.jit(function)(jnp.float32(PREDICTIONS), jnp.float32(Z))
  assert loss.dtype == jnp.float32 and loss.shape == ()
  np.testing.assert_allclose(loss, reference.loss(PREDICTIONS, Z, **slow), rtol=2e-6)
  found = [np.sum(np.float64(grad) * direction) for grad, direction in zip(grads, directions, strict=True)]
  np.testing.assert_allclose(found, slopes(directions, **slow), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize('settings', [{}, {'negatives': 'sequence'}, {'num_negatives': 5, 'key': KEY}])
def test_chunks_of_any_size(settings):
  arrays = jnp.float32(PREDICTIONS), jnp.float32(Z)
  whole = losses.cpc_info_nce(*arrays, **settings)
  for chunk in (1, 13, B * T - 1):
    np.testing.assert_allclose(losses.cpc_info_nce(*arrays, **settings, chunk=chunk), whole, rtol=1e-6)


def test_accuracy_and_bound_equal_the_slow_reference(case):
  settings, slow = case
  function = functools.partial(losses.cpc_accuracy_and_bound, **settings)
  accuracy, bound = jax.jit(function)(jnp.float32(PREDICTIONS), jnp.float32(Z))
  hits, estimates = reference.accuracy_and_bound(PREDICTIONS, Z, **slow)
  np.testing.assert_allclose(accuracy, hits, rtol=1e-6)
  np.testing.assert_allclose(bound, estimates, rtol=1e-5, atol=2e-6)


def test_padding_has_no_gradient_and_no_influence():
  settings = {'mask': MASK, 'num_negatives': 5, 'key': KEY}
  grads = jax.grad(losses.cpc_info_nce, argnums=(0, 1))(jnp.float32(PREDICTIONS), jnp.float32(Z), **settings)
  assert not grads[0][~MASK].any() and not grads[1][~MASK].any() and grads[1][MASK].any()
  other = np.where(MASK[..., None], Z, 1e3), np.where(MASK[..., None, None], PREDICTIONS, -1e3)
  for extra in ({}, settings):
    loss = jax.jit(functools.partial(losses.cpc_info_nce, **{'mask': MASK, **extra}))
    found = [loss(jnp.float32(p), jnp.float32(z)) for p, z in [(PREDICTIONS, Z), other[::-1]]]
    assert found[0] == found[1]


@pytest.mark.parametrize('objective', ['info_nce', 'ml_cpc'])
@pytest.mark.parametrize('alpha', [0.01, 1.0, 3.0])
def test_equal_scores_cost_log_n(objective, alpha):
  """A collapsed encoder, of vectors whose products are rounded: chance, no accuracy, a bound of 0."""
  z = jnp.broadcast_to(jnp.float32(RNG.normal(size=300)), (B, T, 300))
  predictions = jnp.broadcast_to(jnp.float32(RNG.normal(size=300)), (B, T, STEPS, 300))
  settings = {'objective': objective, 'alpha': alpha}
  np.testing.assert_allclose(losses.cpc_info_nce(predictions, z, **settings), np.log(B * T), rtol=1e-5)
  accuracy, bound = losses.cpc_accuracy_and_bound(predictions, z, **settings)
  assert not accuracy.any()
  np.testing.assert_allclose(bound, 0, atol=3e-5)


def test_a_tie_is_a_miss():
  far = jnp.float32(10 * Z[0, 1])
  z = jnp.float32(Z).at[0, 1].set(far).at[1, 2].set(far)
  predictions = jnp.float32(PREDICTIONS).at[0, 0, 0].set(far)  # Its target z[0, 1] scores as z[1, 2] does.
  accuracy, _ = losses.cpc_accuracy_and_bound(predictions, z)
  apart, _ = losses.cpc_accuracy_and_bound(predictions, z.at[1, 2].multiply(0.99))
  np.testing.assert_allclose(apart[0] - accuracy[0], 1 / (B * (T - 1)), rtol=1e-5)


@pytest.mark.parametrize('scale', [0.1, 1.0, 100.0])
@pytest.mark.parametrize('negatives', ['batch', 'sequence'])
def test_the_bound_never_exceeds_its_ceiling(negatives, scale):
  z = jnp.float32(Z)
  foresight = jnp.stack([jnp.roll(z, -k, axis=1) for k in range(1, STEPS + 1)], axis=2)  # Knows what comes.
  n = B * T if negatives == 'batch' else T
  for alpha, objective in [(1.0, 'info_nce'), (1.0, 'ml_cpc'), (0.05, 'ml_cpc')]:
    _, bound = losses.cpc_accuracy_and_bound(
        scale * foresight, z, negatives=negatives, objective=objective, alpha=alpha)
    assert (bound <= np.log(n / alpha) + 1e-5).all()


def test_perfect_foresight_reaches_the_ceiling():
  z = 20 * jnp.eye(8)[None]
  accuracy, bound = losses.cpc_accuracy_and_bound(jnp.roll(z, -1, axis=1)[:, :, None], z)
  np.testing.assert_allclose(accuracy, 1)
  np.testing.assert_allclose(bound, np.log(8), rtol=1e-6)


@pytest.mark.parametrize('objective', ['info_nce', 'ml_cpc'])
@pytest.mark.parametrize('negatives', NEGATIVES)
def test_the_order_of_sequences_does_not_matter(negatives, objective):
  order = RNG.permutation(B)
  settings = {'negatives': negatives, 'objective': objective, 'alpha': 0.5}
  found = [losses.cpc_info_nce(jnp.float32(PREDICTIONS[rows]), jnp.float32(Z[rows]), **settings, group=GROUP[rows],
                               mask=MASK[rows]) for rows in (np.arange(B), order)]
  np.testing.assert_allclose(found[0], found[1], rtol=1e-6)


@pytest.mark.parametrize('dtype', [jnp.bfloat16, jnp.float16])
def test_low_precision_inputs_are_computed_in_float32(dtype):
  predictions, z = jnp.asarray(PREDICTIONS, dtype), jnp.asarray(Z, dtype)
  loss, grads = jax.value_and_grad(losses.cpc_info_nce, argnums=(0, 1))(predictions, z, chunk=5)
  assert loss.dtype == jnp.float32 and grads[0].dtype == grads[1].dtype == dtype
  np.testing.assert_allclose(loss, reference.loss(np.float64(predictions), np.float64(z)), rtol=2e-6)


def test_large_scores_stay_finite():
  for settings in ({}, {'objective': 'ml_cpc', 'alpha': 1e-4}, {'negatives': 'sequence', 'mask': MASK}):
    loss, grads = jax.value_and_grad(losses.cpc_info_nce, argnums=(0, 1))(
        jnp.float32(1e4 * PREDICTIONS), jnp.float32(Z), **settings)
    assert jnp.isfinite(loss) and all(jnp.isfinite(grad).all() for grad in grads)


@pytest.mark.parametrize('objective', ['info_nce', 'ml_cpc'])
@pytest.mark.parametrize('mask, settings', [
    (jnp.zeros((B, T), bool), {}),
    (jnp.zeros((B, T), bool), {'num_negatives': 4, 'key': KEY}),
    (jnp.arange(T)[None, :] < jnp.ones((B, 1)), {}),  # One step a sequence: no targets.
    (jnp.arange(B)[:, None] < jnp.ones((1, T)), {'negatives': 'others'}),  # One sequence: no negatives.
])
def test_a_batch_without_contexts_costs_nothing(mask, settings, objective):
  arrays = jnp.float32(PREDICTIONS), jnp.float32(Z)
  settings = {**settings, 'mask': mask, 'objective': objective}
  loss, grads = jax.value_and_grad(losses.cpc_info_nce, argnums=(0, 1))(*arrays, **settings)
  assert loss == 0 and not any(grad.any() for grad in grads)
  assert not jnp.any(jnp.stack(losses.cpc_accuracy_and_bound(*arrays, **settings)))


def test_a_distance_without_contexts_is_left_out():
  short = np.arange(T)[None, :] < np.full((B, 1), 3)  # Three steps: no target at k = 3.
  loss = losses.cpc_info_nce(jnp.float32(PREDICTIONS), jnp.float32(Z), mask=short)
  np.testing.assert_allclose(
      loss, np.mean(reference.losses_at(PREDICTIONS[:, :, :2], Z, mask=short)), rtol=2e-6)
  accuracy, bound = losses.cpc_accuracy_and_bound(jnp.float32(PREDICTIONS), jnp.float32(Z), mask=short)
  assert accuracy[2] == bound[2] == 0 and bound[0] != 0


@pytest.mark.parametrize('negatives', NEGATIVES)
def test_every_step_in_scope_is_drawn_equally_often(negatives):
  number = reference.drawn(KEY, negatives, HOLES, GROUP, 20_000)
  for s in range(B):
    pool = [r * T + j for r, j in np.ndindex(B, T) if reference.within(negatives, s, r, GROUP) and HOLES[r, j]]
    if pool:
      counts = np.bincount(number[s], minlength=B * T)
      assert counts.sum() == counts[pool].sum()
      np.testing.assert_allclose(counts[pool], 20_000 / len(pool), atol=5 * np.sqrt(20_000 / len(pool)))


def test_draws_differ_with_the_key_and_the_sequence():
  first, again, other = (
      reference.drawn(jax.random.key(seed), 'batch', HOLES, GROUP, 8) for seed in (0, 0, 1))
  np.testing.assert_array_equal(first, again)
  assert (first != other).any() and len({tuple(row) for row in first}) == B


def test_alpha_may_be_traced():
  loss = lambda alpha: losses.cpc_info_nce(
      jnp.float32(PREDICTIONS), jnp.float32(Z), objective='ml_cpc', alpha=alpha, negatives='sequence', chunk=5)
  np.testing.assert_allclose(jax.jit(loss)(0.2), loss(0.2), rtol=1e-6)
  np.testing.assert_allclose(
      jax.jit(loss)(losses.geometric_alpha(7, 10)),
      reference.loss(PREDICTIONS, Z, objective='ml_cpc', alpha=10**-0.4, negatives='sequence'), rtol=2e-6)


def memory(t, b=2, d=4, **settings):
  """Returns the bytes that the loss allocates with its gradients, beyond its arguments and results."""
  function = jax.value_and_grad(functools.partial(losses.cpc_info_nce, **settings), argnums=(0, 1))
  return jax.jit(function).lower(
      jnp.ones((b, t, 2, d)), jnp.ones((b, t, d))).compile().memory_analysis().temp_size_in_bytes


@pytest.mark.parametrize('settings', [{}, {'negatives': 'sequence'}, {'objective': 'ml_cpc', 'negatives': 'others'}])
def test_memory_grows_with_the_time_not_its_square(settings, monkeypatch):
  monkeypatch.setattr(_cpc, 'STORED_SCORES', {'cpu': 2**17})
  once, twice = memory(1000, **settings), memory(2000, **settings)
  assert twice < 2.3 * once
  assert once < memory(1000, **settings, chunk=10**6) / 8


def test_memory_of_drawn_negatives():
  """Without all pairs, and without a copy of the candidates for each context."""
  settings = {'num_negatives': 16, 'key': KEY}
  found = memory(1000, d=64, **settings)
  assert found < 4 * 4 * 2 * 1000 * 2 * (64 + 16)
  assert memory(2000, d=64, **settings) < 2.3 * found


@pytest.mark.parametrize('changed, message', [
    ({'negatives': 'speaker'}, "negatives must be one of 'batch', 'sequence', .*, got 'speaker'"),
    ({'objective': 'nce'}, "objective must be one of 'info_nce', 'ml_cpc', got 'nce'"),
    ({'num_negatives': 0, 'key': KEY}, 'num_negatives must be an integer, at least 1, got 0'),
    ({'num_negatives': 4}, 'key must be given for num_negatives=4'),
    ({'chunk': 0}, 'chunk must be an integer, at least 1, got 0'),
    ({'negatives': 'group'}, "group must be given for negatives='group'"),
    ({'negatives': 'group', 'group': GROUP[:4]}, r'group must be integers of shape \[6\]'),
    ({'mask': MASK[:, :3]}, r'mask must be boolean of shape \[6, 7\], got bool \[6, 3\]'),
    ({'mask': np.ones((B, T))}, r'mask must be boolean of shape \[6, 7\], got float'),
    ({'z': Z[:, :3]}, r'z must have shape \[6, 7, 4\], that of predictions without K, got \[6, 3, 4\]'),
    ({'z': np.arange(3)}, 'z must be a floating-point array, got int'),
    ({'predictions': Z}, r'predictions must have shape \[b, t, K, d\]'),
    ({'predictions': PREDICTIONS[:, :3], 'z': Z[:, :3]}, 'K = 3 steps, which sequences of t = 3 steps do not have'),
    ({'alpha': 0.0}, 'alpha must lie between 0 and the number of candidates, 42, got 0.0'),
    ({'alpha': 7, 'negatives': 'sequence'}, 'the number of candidates, 7, got 7'),
    ({'alpha': 36.0, 'negatives': 'others'}, 'the number of candidates, 36, got 36.0'),
    ({'alpha': 5.0, 'num_negatives': 4, 'key': KEY}, 'the number of candidates, 5, got 5.0'),
    ({'alpha': jnp.ones(2)}, r'alpha must be a scalar, got shape \[2\]'),
])
def test_errors_name_the_argument(changed, message):
  arguments = {'predictions': PREDICTIONS, 'z': Z, **changed}
  for loss in (losses.cpc_info_nce, losses.cpc_accuracy_and_bound):
    with pytest.raises(ValueError, match=message):
      loss(arguments['predictions'], arguments['z'], **changed_settings(arguments))


def changed_settings(arguments):
  return {name: value for name, value in arguments.items() if name not in ('predictions', 'z')}


@pytest.mark.parametrize('alpha', [3.5, 10.0])
@pytest.mark.parametrize('objective', ['info_nce', 'ml_cpc'])
def test_contexts_that_are_left_out_leave_no_trace_in_the_gradient(objective, alpha):
  """The first sequence has fewer candidates than alpha, and a negative that beats its target by far."""
  predictions = jnp.ones((2, 12, 1, 1))
  mask = jnp.ones((2, 12), bool).at[0, 3:].set(False)
  z = jnp.zeros((2, 12, 1)).at[0, 1].set(-200.0)
  loss = lambda p, z: losses.cpc_info_nce(p, z, negatives='sequence', mask=mask, objective=objective, alpha=alpha)
  value, gradients = jax.value_and_grad(loss, argnums=(0, 1))(predictions, z)
  assert np.isfinite(value) and all(np.all(np.isfinite(each)) for each in gradients)
  assert not np.any(gradients[0][0]) and not np.any(gradients[1][0])


@pytest.mark.parametrize('padding', [np.nan, np.inf])
def test_padding_may_hold_anything(padding):
  predictions, z = jax.random.normal(jax.random.key(0), (2, 6, 2, 3)), jax.random.normal(jax.random.key(1), (2, 6, 3))
  mask = jnp.ones((2, 6), bool).at[0, 4:].set(False)
  loss = lambda p, z: losses.cpc_info_nce(p, z, mask=mask)
  expected = jax.value_and_grad(loss, argnums=(0, 1))(predictions, z)
  found = jax.value_and_grad(loss, argnums=(0, 1))(predictions.at[0, 4:].set(padding), z.at[0, 4:].set(padding))
  jax.tree.map(np.testing.assert_array_equal, found, expected)


def test_one_sequence_has_no_others():
  with pytest.raises(ValueError, match="negatives='others' come from other sequences: z must hold two or more"):
    losses.cpc_info_nce(jnp.ones((1, 4, 1, 2)), jnp.ones((1, 4, 2)), negatives='others')
