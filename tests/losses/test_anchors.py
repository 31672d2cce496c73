"""The tiled relatives of NT-Xent where tiles, weights and rounding could go wrong, against float64 loops."""

import functools

import contrastive_reference as reference
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxssl import losses
from jaxssl.losses import _choice


def labels_of(n):
  """Classes of one, two and several rows: int32 [2n]."""
  return np.arange(2 * n) ** 2 % 11


def supervised(z1, z2, **settings):
  return losses.supervised_contrastive(jnp.concatenate([z1, z2]), jnp.asarray(labels_of(len(z1))), **settings)


# name -> (loss, slow reference) of two [n, d] arrays and a temperature.
LOSSES = {
    'supervised': (
        supervised, lambda z1, z2, temperature: reference.supervised([*z1, *z2], labels_of(len(z1)), temperature)),
    'decoupled': (losses.decoupled_nt_xent, reference.decoupled),
    'debiased': (losses.debiased_nt_xent, functools.partial(reference.debiased, prior=0.1, hardness=0.0)),
    'hard': (functools.partial(losses.debiased_nt_xent, hardness=1.0),
             functools.partial(reference.debiased, prior=0.1, hardness=1.0)),
    'logistic': (losses.nt_logistic, reference.logistic),
}
TILED = {name: functools.partial(loss, implementation='tiled') for name, (loss, _) in LOSSES.items()}
COMPILED = {name: jax.jit(jax.value_and_grad(
    lambda z1, z2, temperature, loss=loss: loss(z1, z2, temperature=temperature), argnums=(0, 1, 2)))
    for name, loss in TILED.items()}

SUPERVISED = {form: jax.jit(jax.value_and_grad(functools.partial(losses.supervised_contrastive, implementation=form)))
              for form in ('dense', 'tiled')}


@pytest.fixture(params=LOSSES)
def name(request):
  return request.param


def views(n=7, d=8):
  z1, noise = np.random.default_rng(n).normal(size=(2, n, d))
  return jnp.float32(z1), jnp.float32(z1 + noise)


def slow(name, z1, z2, temperature):
  return LOSSES[name][1](np.float64(z1), np.float64(z2), temperature)


def slope(name, z1, z2, temperature, change):
  """Returns the derivative of the slow reference along `change`, of the two views and the temperature."""
  step = 1e-6 * temperature
  moved = lambda step: [np.float64(x) + step * dx for x, dx in zip((z1, z2, temperature), change, strict=True)]
  ahead, behind = slow(name, *moved(step)), slow(name, *moved(-step))
  return (ahead - behind) / (2 * step)


@pytest.mark.parametrize('n', [2, 7, 16])
@pytest.mark.parametrize('temperature', [1.0, 0.1, 0.03, 0.01])  # One shift fits from 0.0233 on (`hard`: 0.0465).
def test_value_and_gradients_equal_the_slow_reference(name, n, temperature):
  z1, z2 = views(n)
  loss, grads = COMPILED[name](z1, z2, temperature)
  assert loss.dtype == jnp.float32 and loss.shape == ()
  np.testing.assert_allclose(loss, slow(name, z1, z2, temperature), rtol=1e-6, atol=4e-7 / temperature)
  dz1, dz2 = np.random.default_rng(0).normal(size=(2, n, 8))
  along = np.sum(np.float64(grads[0]) * dz1) + np.sum(np.float64(grads[1]) * dz2)
  expected = slope(name, z1, z2, temperature, (dz1, dz2, 0.0))
  np.testing.assert_allclose(along, expected, rtol=2e-5, atol=2e-6 / temperature)
  expected = slope(name, z1, z2, temperature, (0.0, 0.0, 1.0))
  np.testing.assert_allclose(grads[2], expected, rtol=2e-5, atol=1e-6 / temperature**2)


def test_one_example(name):
  """Without negatives: nothing to tell apart, minus infinity for the decoupled loss, and the positive alone."""
  z1, z2 = views(1)
  loss, grads = COMPILED[name](z1, z2, 0.1)
  np.testing.assert_allclose(loss, slow(name, z1, z2, 0.1), rtol=1e-6, atol=1e-6)
  np.testing.assert_allclose(LOSSES[name][0](z1, z2, temperature=0.1), loss, rtol=1e-6, atol=1e-6)
  assert jnp.isfinite(grads[0]).all()


def test_a_zero_row_has_similarity_zero_and_gradient_zero(name):
  z1, z2 = views()
  z1 = z1.at[2].set(0)
  loss, grads = COMPILED[name](z1, z2, 0.1)
  np.testing.assert_allclose(loss, slow(name, z1, z2, 0.1), rtol=2e-6)
  np.testing.assert_array_equal(grads[0][2], 0)
  assert all(jnp.isfinite(grad).all() for grad in grads)


@pytest.mark.parametrize('dtype', [jnp.bfloat16, jnp.float16])
def test_half_precision_inputs_are_computed_in_float32(name, dtype):
  z1, z2 = (z.astype(dtype) for z in views())
  loss, grads = COMPILED[name](z1, z2, jnp.asarray(0.125, dtype))
  assert loss.dtype == jnp.float32 and grads[0].dtype == dtype
  np.testing.assert_allclose(loss, slow(name, z1, z2, 0.125), rtol=2e-6)


def test_a_collapsed_encoder(name):
  """All rows equal: every score is 1 / temperature, where the rounding of two that should cancel would show."""
  z = jnp.tile(jnp.arange(1.0, 9.0)[None], (7, 1))
  for temperature in (0.1, 0.01):
    loss, grads = COMPILED[name](z, z, temperature)
    np.testing.assert_allclose(loss, slow(name, z, z, temperature), rtol=1e-6, atol=1e-6 / temperature)
    np.testing.assert_allclose(grads[:2], jnp.zeros((2, 7, 8)), atol=1e-6 / temperature)


def test_not_a_number_is_not_hidden(name):
  z1, z2 = views()
  loss, grads = COMPILED[name](z1.at[2, 3].set(jnp.nan), z2, 0.1)
  assert jnp.isnan(loss) and jnp.isnan(grads[1]).any()


def test_gradients_of_gradients_equal_those_of_dense(name):
  def penalty(z1, z2, implementation):
    grad = jax.grad(functools.partial(LOSSES[name][0], temperature=0.3, implementation=implementation))
    return jnp.sum(grad(z1, z2) ** 2)

  found, expected = (jax.jit(jax.grad(functools.partial(penalty, implementation=implementation)))(*views(6))
                     for implementation in ('tiled', 'dense'))
  np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


def test_corrected_and_clipped_anchors():
  """Some anchors' corrected negatives fall below the least there can be, others do not; sums of both are right."""
  z1, z2 = views(16)
  cosine = np.array([[positive, np.mean(np.exp(negative / 0.5))] for positive, negative in reference.anchors(z1, z2)])
  clipped = (cosine[:, 1] - 0.3 * np.exp(cosine[:, 0] / 0.5)) / 0.7 < np.exp(-1 / 0.5)
  assert 0 < clipped.mean() < 1
  loss = losses.debiased_nt_xent(z1, z2, temperature=0.5, prior=0.3, implementation='tiled')
  np.testing.assert_allclose(loss, reference.debiased(z1, z2, 0.5, 0.3, 0.0), rtol=1e-6)


@pytest.mark.parametrize('labels', [
    np.arange(12), np.zeros(12, int), np.array([5, -7] * 6), np.array([2**31 - 1, -2**31, 2**31 - 2] * 4),
    np.array([0] + [1] * 11)])
def test_labels_of_any_value(labels):
  z = np.random.default_rng(0).normal(size=(12, 8))
  (loss, grads), (_, expected) = (SUPERVISED[name](jnp.float32(z), jnp.int32(labels)) for name in ('tiled', 'dense'))
  np.testing.assert_allclose(loss, reference.supervised(z, labels, 0.1), rtol=1e-6)
  np.testing.assert_allclose(grads, expected, atol=1e-5)


def test_the_implementation_is_chosen_by_size(name, monkeypatch):
  z1, z2 = views()
  sweeps = lambda: jax.jit(lambda *z: LOSSES[name][0](*z)).lower(z1, z2).as_text().count('while')
  few = sweeps()
  assert few == 0
  monkeypatch.setattr(_choice, 'DENSE_SCORES', {'cpu': 195})  # One fewer than 14 x 14.
  assert sweeps() > few


@pytest.mark.parametrize('implementation', ['ring', 'pallas_tpu', 'Dense'])
def test_errors_name_the_implementations(name, implementation):
  message = f"implementation must be one of None, 'dense', 'tiled', got '{implementation}'"
  with pytest.raises(ValueError, match=message):
    LOSSES[name][0](*views(), implementation=implementation)


def test_a_margin_is_dense():
  z1, z2 = views()
  with pytest.raises(ValueError, match="implementation must be None or 'dense' where a margin is given, got 'tiled'"):
    losses.nt_logistic(z1, z2, margin=0.5, implementation='tiled')
  alike = [losses.nt_logistic(z1, z2, margin=0.5, implementation=implementation) for implementation in (None, 'dense')]
  assert alike[0] == alike[1]
