"""Estimates of mutual information and their gradients against float64 NumPy, one pair at a time; wrong arguments."""

import doctest
import functools
import inspect
import math

import jax
import jax.numpy as jnp
import mutual_information_reference as reference
import numpy as np
import pytest
from jax.test_util import check_grads

from jaxssl import losses

mi = losses.mutual_information
FUNCTIONS = [function for _, function in inspect.getmembers(mi, inspect.isfunction)
             if function.__module__ == mi.__name__ and not function.__name__.startswith('_')]
OF_SCORES = {
    'info_nce': mi.info_nce, 'dv': mi.dv, 'nwj': mi.nwj, 'js': mi.js, 'jensen_shannon': mi.jensen_shannon,
    'alpha_cpc': functools.partial(mi.alpha_cpc, alpha=0.3), 'ml_cpc': functools.partial(mi.ml_cpc, alpha=0.3),
    'smile': functools.partial(mi.smile, clip=0.7), 'tuba': functools.partial(mi.tuba, log_baseline=0.4),
    'alpha_tuba': functools.partial(mi.alpha_tuba, log_baseline=0.4, alpha=0.3),
    'mine': lambda scores: mi.mine(scores, 0.2)[0],
}


SETTINGS = {'alpha_cpc': {'alpha': 0.3}, 'ml_cpc': {'alpha': 0.3}, 'smile': {'clip': 0.7},
            'tuba': {'log_baseline': 0.4}, 'alpha_tuba': {'log_baseline': 0.4, 'alpha': 0.3}}


@pytest.mark.parametrize('name', OF_SCORES)
def test_against_numpy(name):
  function = jax.jit(OF_SCORES[name])
  for scores in reference.matrices(24, scale=(0.1, 1, 3)):
    found = function(scores)
    assert found.dtype == jnp.float32 and found.shape == ()
    np.testing.assert_allclose(found, reference.estimate(name, scores, **SETTINGS.get(name, {})), rtol=2e-5, atol=2e-5)


def test_baselines_of_each_row_against_numpy():
  rng = np.random.default_rng(1)
  compiled = {name: jax.jit(getattr(mi, name)) for name in ('tuba', 'alpha_tuba')}
  for scores in reference.matrices(12, scale=(1, 3)):
    baseline = np.float32(rng.normal(size=len(scores)))
    for name, settings in (('tuba', {}), ('alpha_tuba', {'alpha': 0.2})):
      found = compiled[name](scores, baseline, **settings)
      expected = reference.estimate(name, scores, log_baseline=baseline, **settings)
      np.testing.assert_allclose(found, expected, rtol=2e-5, atol=2e-5)


@pytest.mark.parametrize('name', OF_SCORES)
def test_lower_precision_and_large_scores(name):
  both = jax.jit(jax.value_and_grad(OF_SCORES[name]))
  scores = jnp.asarray(next(reference.matrices(1, n=5)), jnp.bfloat16)
  np.testing.assert_array_equal(both(scores)[0], both(scores.astype(jnp.float32))[0])
  for scores in (1e2 * jnp.eye(2), jnp.zeros((2, 2)), 1e4 * jnp.eye(5), -1e4 * jnp.eye(5), 1e4 * jnp.eye(5) - 3e4,
                 jnp.full((5, 5), -2e4)):
    value, gradient = both(scores)
    assert jnp.isfinite(value) and jnp.all(jnp.isfinite(gradient)), (name, scores[0])


@pytest.mark.parametrize('name', [name for name in OF_SCORES if name not in ('js', 'smile', 'mine')])
def test_gradients_against_differences(name):
  scores = jnp.asarray(next(reference.matrices(1, n=4, scale=(1,))))
  check_grads(jax.jit(OF_SCORES[name]), (scores,), order=1, modes=['rev'], rtol=2e-2, atol=2e-2)


@pytest.mark.parametrize('function', [mi.js, lambda scores: mi.smile(scores, 0.5), lambda s: mi.smile(s, math.inf)])
def test_js_and_smile_have_the_gradient_of_jensen_shannon(function):
  derivative = jax.jit(jax.grad(function))
  for scores in reference.matrices(12, n=5):
    gradient, n = derivative(scores), len(scores)
    sigmoid = 1 / (1 + np.exp(-np.float64(scores)))
    expected = np.where(np.eye(n, dtype=bool), (1 - sigmoid) / n, -sigmoid / (n * (n - 1)))
    np.testing.assert_allclose(gradient, expected, rtol=1e-4, atol=1e-7)


def test_mine_divides_by_the_moving_average():
  average, log_average = 1.0, jnp.float32(0)
  derivative = jax.jit(jax.grad(mi.mine, has_aux=True))
  for scores in reference.matrices(12, n=5, scale=(0.1, 1, 3)):
    mean = np.mean(np.exp(reference.joint_and_marginal(scores)[1]))
    average = 0.9 * average + 0.1 * mean
    gradient, log_average = derivative(scores, log_average)
    np.testing.assert_allclose(log_average, math.log(average), rtol=1e-5, atol=1e-5)
    expected = np.where(np.eye(5, dtype=bool), 1 / 5, -np.exp(np.float64(scores)) / 20 / average)
    np.testing.assert_allclose(gradient, expected, rtol=1e-4, atol=1e-6)
  carried = jax.jit(lambda: jax.lax.scan(lambda a, s: mi.mine(s, a)[::-1], jnp.float32(0), jnp.ones((3, 4, 4))))()[0]
  np.testing.assert_allclose(carried, math.log(0.9**3 + (1 - 0.9**3) * math.e), rtol=1e-5)


def test_mine_has_no_gradient_through_the_average():
  scores = next(reference.matrices(1, n=4))
  assert jax.grad(lambda average: mi.mine(scores, average)[0])(0.3) == 0
  assert jnp.all(jax.grad(lambda s: mi.mine(s, 0.3)[1])(scores) == 0)


@pytest.mark.parametrize('function', FUNCTIONS, ids=lambda function: function.__name__)
def test_every_function_has_an_example(function):
  assert doctest.DocTestFinder(recurse=False).find(function)[0].examples


def test_all_functions_are_tested():
  assert {function.__name__ for function in FUNCTIONS} == set(OF_SCORES)


@pytest.mark.parametrize('name', OF_SCORES)
@pytest.mark.parametrize('scores, message', [
    (jnp.ones((1, 1)), r'scores must have shape \[n, n\], n above 1, got \[1, 1\]'),
    (jnp.ones((0, 0)), r'got \[0, 0\]'), (jnp.ones((3, 4)), r'got \[3, 4\]'), (jnp.ones(3), r'got \[3\]'),
    (jnp.ones((3, 3), int), 'scores must be a floating-point array, got int32')])
def test_wrong_scores(name, scores, message):
  with pytest.raises(ValueError, match=message):
    OF_SCORES[name](scores)


@pytest.mark.parametrize('call, message', [
    (lambda s: mi.alpha_cpc(s, 0.0), 'alpha must lie between 0 and the number of candidates, 3, got 0.0'),
    (lambda s: mi.ml_cpc(s, 3), 'alpha must lie between 0 and the number of candidates, 3, got 3'),
    (lambda s: mi.ml_cpc(s, jnp.ones(2)), r'alpha must be a scalar, got shape \[2\]'),
    (lambda s: mi.alpha_tuba(s, 0.0, 1.5), r'alpha must lie in \[0, 1\], got 1.5'),
    (lambda s: mi.alpha_tuba(s, 0.0, -0.5), r'alpha must lie in \[0, 1\], got -0.5'),
    (lambda s: mi.tuba(s, jnp.ones(2)), r'log_baseline must be a scalar or of shape \[3\], got \[2\]'),
    (lambda s: mi.tuba(s, jnp.ones((3, 1))), r'log_baseline must be a scalar or of shape \[3\], got \[3, 1\]'),
    (lambda s: mi.smile(s, 0.0), 'clip must be positive, got 0.0'),
    (lambda s: mi.mine(s, jnp.ones(3)), r'moving_average must be a scalar, got shape \[3\]')])
def test_wrong_arguments(call, message):
  with pytest.raises(ValueError, match=message):
    call(jnp.ones((3, 3)))


def test_traced_alpha_has_a_gradient():
  scores = next(reference.matrices(1, n=4, scale=(1,)))
  for function in (mi.alpha_cpc, mi.ml_cpc, lambda s, alpha: mi.alpha_tuba(s, 0.1, alpha)):
    gradient = jax.jit(jax.grad(function, argnums=1))(scores, 0.3)
    difference = (function(scores, 0.3 + 1e-2) - function(scores, 0.3 - 1e-2)) / 2e-2
    np.testing.assert_allclose(gradient, difference, rtol=2e-2, atol=2e-3)
