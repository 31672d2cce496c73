"""The relatives of NT-Xent against float64 loops, in every place where a loss can run."""

import functools

import contrastive_reference as reference
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from jax.sharding import AxisType
from jax.sharding import PartitionSpec as P

from jaxssl import losses

RNG = np.random.default_rng(0)
Z1, Z2 = RNG.normal(size=(2, 6, 5))
LABELS = np.array([0, 1, 0, 2, 3, 1])
POSITIVES = np.eye(6, dtype=bool) | (LABELS[:, None] == LABELS[None, :])
POSITIVES[4] = False
CANDIDATES = RNG.uniform(size=(6, 6)) < 0.7


def slow_supervised(z1, z2, temperature):
  return reference.supervised([*z1, *z2], np.tile(LABELS, 2), temperature)


def _supervised(z1, z2, temperature, axis_name=None, implementation=None):
  if axis_name is None:
    labels = jnp.asarray(LABELS)
  else:
    n = len(z1)
    labels = lax.dynamic_slice(jnp.asarray(LABELS), (lax.axis_index(axis_name) * n,), (n,))
  z, labels = jnp.concatenate([z1, z2]), jnp.tile(labels, 2)
  return losses.supervised_contrastive(
      z, labels, temperature=temperature, axis_name=axis_name, implementation=implementation)


def _multi_positive(z1, z2, temperature, axis_name=None):
  n = len(z1)
  first = 0 if axis_name is None else lax.axis_index(axis_name) * n
  own = lambda mask: lax.dynamic_slice(jnp.asarray(mask), (first, 0), (n, 6))
  return losses.multi_positive_info_nce(
      z1, z2, own(POSITIVES), own(CANDIDATES), temperature=temperature, axis_name=axis_name)


def _triplet(z1, z2, temperature, axis_name=None, **settings):
  return losses.margin_triplet(z1, z2, axis_name=axis_name, **settings) + 0 * temperature


def case(loss, slow, **settings):
  return functools.partial(loss, **settings), functools.partial(slow, **settings)


CASES = {
    'multi_positive': (_multi_positive, lambda z1, z2, t: reference.multi_positive(z1, z2, POSITIVES, CANDIDATES, t)),
    'logistic semi-hard': case(losses.nt_logistic, reference.logistic, margin=0.5),
    'triplet': case(_triplet, reference.triplet, margin=0.8, semi_hard=False),
    'triplet semi-hard': case(_triplet, reference.triplet, margin=0.3, semi_hard=True),
}
TWO_FORMS = {
    'supervised': (_supervised, slow_supervised),
    'decoupled': case(losses.decoupled_nt_xent, reference.decoupled),
    'decoupled weighted': case(losses.decoupled_nt_xent, reference.decoupled, sigma=0.5),
    'debiased': case(losses.debiased_nt_xent, reference.debiased, prior=0.05, hardness=0.0),
    'hard': case(losses.debiased_nt_xent, reference.debiased, prior=0.1, hardness=1.0),
    'logistic': case(losses.nt_logistic, reference.logistic),
}
CASES |= {f'{name} {implementation}': (functools.partial(loss, implementation=implementation), slow)
          for name, (loss, slow) in TWO_FORMS.items() for implementation in ('dense', 'tiled')}


@pytest.fixture(params=CASES)
def pair(request):
  return CASES[request.param]


@pytest.mark.parametrize('temperature', [0.5, 0.1])
def test_equals_the_slow_reference(pair, temperature):
  loss, slow = pair
  found = loss(jnp.float32(Z1), jnp.float32(Z2), temperature=temperature)
  assert found.dtype == jnp.float32 and found.shape == ()
  np.testing.assert_allclose(found, slow(Z1, Z2, temperature), rtol=2e-6)


def expected_gradient(slow, temperature):
  direction = RNG.normal(size=(2, 6, 5))
  ahead, behind = (slow(*(np.array([Z1, Z2]) + step * direction), temperature) for step in (1e-6, -1e-6))
  return direction, (ahead - behind) / 2e-6


@pytest.mark.parametrize('pair', [CASES[name] for name in CASES if 'weighted' not in name])  # Fixed weights.
def test_gradients_equal_finite_differences(pair):
  loss, slow = pair
  direction, slope = expected_gradient(slow, 0.4)
  grads = jax.grad(lambda z1, z2: loss(z1, z2, temperature=0.4), argnums=(0, 1))(jnp.float32(Z1), jnp.float32(Z2))
  np.testing.assert_allclose(np.sum(np.float64(grads) * direction), slope, rtol=1e-4, atol=1e-6)


# Every loss in one context; `slow`: in all.
@pytest.mark.parametrize('name, context', [
    pytest.param(name, context, marks=[pytest.mark.slow] * ((i + j) % 3 > 0))
    for i, name in enumerate(name for name in CASES if 'tiled' not in name or 'weighted' in name)
    for j, context in enumerate(['pmap', 'shard_map', 'vmap'])])
def test_over_devices(name, context):
  """The loss of three devices, and the gradient of a shared weight, are those of one; more is in test_collectives."""
  loss, _ = CASES[name]
  weight = jnp.float32(RNG.normal(size=(5, 5)))
  views = jnp.float32(Z1), jnp.float32(Z2)
  whole = lambda w, z1, z2, axis_name=None: loss(z1 @ w, z2 @ w, temperature=0.4, axis_name=axis_name)

  def local(w, z1, z2):
    value, grad = jax.value_and_grad(functools.partial(whole, axis_name='i'))(w, z1, z2)
    return value, lax.pmean(grad, 'i')

  if context == 'shard_map':
    mesh = jax.make_mesh((3,), ('i',), (AxisType.Auto,), devices=jax.devices()[:3])
    mapped = jax.jit(jax.shard_map(local, mesh=mesh, in_specs=(P(), P('i'), P('i')), out_specs=P()))
    values, grads = mapped(weight, *views)
  else:
    mapping = {'pmap': functools.partial(jax.pmap, devices=jax.devices()[:3]), 'vmap': jax.vmap}[context]
    mapped = mapping(local, in_axes=(None, 0, 0), axis_name='i')
    values, grads = mapped(weight, *(z.reshape(3, 2, 5) for z in views))
  value, grad = jax.value_and_grad(whole)(weight, *views)
  np.testing.assert_allclose(values, np.broadcast_to(value, values.shape), rtol=1e-6)
  np.testing.assert_allclose(grads, np.broadcast_to(grad, grads.shape), rtol=1e-5, atol=1e-6)


def test_under_an_ambient_mesh():
  z = jnp.float32(np.concatenate([Z1, Z2]))
  labels = jnp.tile(jnp.asarray(LABELS), 2)
  whole = losses.supervised_contrastive(z, labels)
  with jax.set_mesh(jax.make_mesh((4,), ('data',), (AxisType.Auto,), devices=jax.devices()[:4])):
    split = jax.jit(losses.supervised_contrastive)(z, labels)
  np.testing.assert_allclose(split, whole, rtol=1e-6)


def test_special_cases_are_nt_xent():
  views = jnp.float32(Z1), jnp.float32(Z2)
  nt_xent = losses.nt_xent(*views, temperature=0.3)
  alone = losses.supervised_contrastive(jnp.concatenate(views), jnp.tile(jnp.arange(6), 2), temperature=0.3)
  np.testing.assert_allclose(alone, nt_xent, rtol=1e-6)
  np.testing.assert_allclose(losses.debiased_nt_xent(*views, temperature=0.3, prior=0.0), nt_xent, rtol=1e-6)
  info_nce = losses.info_nce(*views, temperature=0.3)
  np.testing.assert_allclose(
      losses.multi_positive_info_nce(*views, jnp.eye(6, dtype=bool), temperature=0.3), info_nce, rtol=1e-6)


def test_a_batch_without_positives_costs_nothing():
  loss, grad = jax.value_and_grad(losses.supervised_contrastive)(jnp.float32(Z1), jnp.arange(6))
  assert loss == 0 and not grad.any()
  assert losses.multi_positive_info_nce(jnp.float32(Z1), jnp.float32(Z2), jnp.zeros((6, 6), bool)) == 0


def test_tiny_temperature_stays_finite(pair):
  loss, _ = pair
  value, grads = jax.value_and_grad(lambda z: loss(z, jnp.float32(Z2), temperature=0.01))(jnp.float32(Z1))
  assert jnp.isfinite(value) and jnp.isfinite(grads).all()


@pytest.mark.parametrize('call, message', [
    (lambda z: losses.supervised_contrastive(z, jnp.ones(6)), r'labels must be integers of shape \[6\], got float32'),
    (lambda z: losses.supervised_contrastive(z, jnp.arange(5)), r'labels must be integers .* got int32 \[5\]'),
    (lambda z: losses.multi_positive_info_nce(z, z, jnp.eye(6)), 'positives must be boolean .* got float32'),
    (lambda z: losses.multi_positive_info_nce(z, z, jnp.ones((6, 5), bool)), r'have shape \[6, 6\].*got \[6, 5\]'),
    (lambda z: losses.debiased_nt_xent(z, z, prior=1.0), r'prior must be a Python number, in \[0, 1\), got 1.0'),
    (lambda z: losses.decoupled_nt_xent(z, z, sigma=0.0), 'sigma must be a Python number, at least 0.05, got 0.0'),
    (lambda z: losses.decoupled_nt_xent(z, z, sigma=jnp.ones(3)), 'sigma must be a Python number'),
    (lambda z: losses.nt_logistic(z, z, margin=-0.1), 'margin must be a Python number, at least 0, got -0.1'),
    (lambda z: losses.margin_triplet(z, z, margin=jnp.ones(6)), 'margin must be a Python number, at least 0'),
    (lambda z: losses.decoupled_nt_xent(z, z, temperature='x'), "temperature must be a number, got 'x'"),
    (lambda z: losses.decoupled_nt_xent(z, z, temperature=None), 'temperature must be a number, got None'),
    (lambda z: losses.decoupled_nt_xent(z, z, temperature=1j), 'temperature must be a real number, got complex64'),
    (lambda z: losses.debiased_nt_xent(z, z, hardness=-1.0), 'hardness must be a Python number, at least 0, got -1'),
    (lambda z: losses.decoupled_nt_xent(z, z[:3]), r'z2 must have the shape of z1'),
])
def test_errors_name_the_argument(call, message):
  with pytest.raises(ValueError, match=message):
    call(jnp.float32(Z1))


def test_labels_that_would_wrap_around_are_refused():
  z = jnp.eye(3)
  with pytest.raises(ValueError, match='labels must fit into int32, got values from 0 to 8589934592: number them'):
    losses.supervised_contrastive(z, np.arange(3) * 2**32)
  np.testing.assert_array_equal(
      losses.supervised_contrastive(z, np.arange(3)), losses.supervised_contrastive(z, jnp.arange(3)))
