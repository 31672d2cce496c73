"""Estimates of mutual information against float64 NumPy, one pair at a time, and what the theory says of them."""

import doctest
import functools
import inspect
import itertools
import math

import jax
import jax.numpy as jnp
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


def matrices(count=60, n=None, scale=(0.1, 1, 5, 20)):
  """Yields random scores [n, n], some with a strong diagonal; of three sizes, since each is compiled anew."""
  rng = np.random.default_rng(0)
  for i in range(count):
    size = n or (2, 5, 8)[i // 3 % 3]
    yield np.float32(scale[i % len(scale)] * (rng.normal(size=(size, size)) + (i % 3) * np.eye(size)))


def joint_and_marginal(scores):
  scores = np.asarray(scores, np.float64)
  pairs = list(itertools.product(range(len(scores)), repeat=2))
  return [scores[i, i] for i in range(len(scores))], [scores[i, j] for i, j in pairs if i != j]


def reference(name, scores, **settings):
  """The formulas as they stand in the docstrings, in float64 and without log-sum-exp."""
  scores = np.asarray(scores, np.float64)
  n, g = len(scores), np.exp(np.asarray(scores, np.float64))
  joint, marginal = map(np.array, joint_and_marginal(scores))
  alpha = settings.get('alpha', 1.0)
  weights = np.where(np.eye(n, dtype=bool), alpha, (n - alpha) / (n - 1))
  a = np.exp(np.broadcast_to(settings.get('log_baseline', 0.0), (n,)).astype(np.float64))
  if name in ('info_nce', 'alpha_cpc'):
    return np.mean([math.log(n * g[i, i] / sum(weights[i] * g[i])) for i in range(n)])
  if name == 'ml_cpc':
    return np.mean([math.log(n * n * g[i, i] / np.sum(weights * g)) for i in range(n)])
  if name in ('dv', 'mine'):
    return np.mean(joint) - math.log(np.mean(np.exp(marginal)))
  if name == 'nwj':
    return np.mean(joint) - np.mean(np.exp(marginal)) / math.e
  if name == 'js':
    return 1 + np.mean(joint) - np.mean(np.exp(marginal))
  if name == 'jensen_shannon':
    return -np.mean(np.log(1 + np.exp(-joint))) - np.mean(np.log(1 + np.exp(marginal)))
  if name == 'smile':
    return np.mean(joint) - math.log(np.mean(np.exp(np.clip(marginal, -settings['clip'], settings['clip']))))
  others = lambda i, j: np.mean([g[i, k] for k in range(n) if k != j])
  b = {(i, j): a[i] if name == 'tuba' else alpha * others(i, j) + (1 - alpha) * a[i]
       for i, j in itertools.product(range(n), repeat=2)}
  pairs = [(i, j) for i, j in b if i != j]
  return 1 + np.mean([scores[i, i] - math.log(b[i, j]) for i, j in pairs]) - np.mean(
      [g[i, j] / b[i, i] for i, j in pairs])


SETTINGS = {'alpha_cpc': {'alpha': 0.3}, 'ml_cpc': {'alpha': 0.3}, 'smile': {'clip': 0.7},
            'tuba': {'log_baseline': 0.4}, 'alpha_tuba': {'log_baseline': 0.4, 'alpha': 0.3}}


@pytest.mark.parametrize('name', OF_SCORES)
def test_against_numpy(name):
  function = jax.jit(OF_SCORES[name])
  for scores in matrices(24, scale=(0.1, 1, 3)):
    found = function(scores)
    assert found.dtype == jnp.float32 and found.shape == ()
    np.testing.assert_allclose(found, reference(name, scores, **SETTINGS.get(name, {})), rtol=2e-5, atol=2e-5)


def test_baselines_of_each_row_against_numpy():
  rng = np.random.default_rng(1)
  compiled = {name: jax.jit(getattr(mi, name)) for name in ('tuba', 'alpha_tuba')}
  for scores in matrices(12, scale=(1, 3)):
    baseline = np.float32(rng.normal(size=len(scores)))
    for name, settings in (('tuba', {}), ('alpha_tuba', {'alpha': 0.2})):
      found = compiled[name](scores, baseline, **settings)
      expected = reference(name, scores, log_baseline=baseline, **settings)
      np.testing.assert_allclose(found, expected, rtol=2e-5, atol=2e-5)


@pytest.mark.parametrize('name', OF_SCORES)
def test_lower_precision_and_large_scores(name):
  for dtype in (jnp.bfloat16, jnp.float16):
    scores = jnp.asarray(next(iter(matrices(1, n=5))), dtype)
    np.testing.assert_array_equal(OF_SCORES[name](scores), OF_SCORES[name](scores.astype(jnp.float32)))
  both = jax.jit(jax.value_and_grad(OF_SCORES[name]))
  for scores in (1e2 * jnp.eye(2), jnp.zeros((2, 2)), 1e4 * jnp.eye(5), -1e4 * jnp.eye(5), 1e4 * jnp.eye(5) - 3e4,
                 jnp.full((5, 5), -2e4)):
    value, gradient = both(scores)
    assert jnp.isfinite(value) and jnp.all(jnp.isfinite(gradient)), (name, scores[0])


@pytest.mark.parametrize('name', [name for name in OF_SCORES if name not in ('js', 'smile', 'mine')])
def test_gradients_against_differences(name):
  check_grads(OF_SCORES[name], (jnp.asarray(next(iter(matrices(1, n=4, scale=(1,))))),), order=1, modes=['rev'],
              rtol=2e-2, atol=2e-2)


@jax.jit
def cpc_family(scores, alpha):
  cross_entropy = -jnp.mean(jnp.diagonal(jax.nn.log_softmax(scores)))
  return (cross_entropy, mi.info_nce(scores), mi.ml_cpc(scores, 1.0), mi.alpha_cpc(scores, alpha),
          mi.ml_cpc(scores, alpha), mi.alpha_tuba(scores, 0.3, 0.1))


def test_the_cpc_family_is_ordered_and_bounded():
  for scores in matrices(200):
    n = len(scores)
    for alpha in (1e-3, 0.1, 1.0, 1.5):
      cross_entropy, info_nce, ml_cpc, *with_alpha, alpha_tuba = cpc_family(scores, alpha)
      np.testing.assert_allclose(info_nce, math.log(n) - cross_entropy, rtol=1e-4, atol=1e-4)
      assert info_nce <= math.log(n) + 1e-5 and ml_cpc <= info_nce + 1e-4
      assert max(with_alpha) <= math.log(n / alpha) + 1e-4
      assert alpha_tuba <= math.log((n - 1) / 0.1) + 1 + 1e-4


def test_alpha_tuba_of_well_told_pairs():
  assert mi.alpha_tuba(1e3 * jnp.eye(9), 0.0, 0.01) == pytest.approx(math.log(8 / 0.01), rel=1e-5)
  assert mi.alpha_tuba(1e3 * jnp.eye(9) - 500, 0.0, 0.01) == pytest.approx(1 + math.log(8 / 0.01), rel=1e-5)


@pytest.mark.parametrize('function', [mi.alpha_cpc, mi.ml_cpc])
def test_convex_in_alpha(function):
  alphas = jnp.linspace(0.01, 1.9, 40)
  along = jax.jit(jax.vmap(function, (None, 0)))
  for scores in matrices(60, n=4):
    assert jnp.all(jnp.diff(along(scores, alphas), n=2) >= -1e-4 * (1 + np.max(np.abs(scores))))


@jax.jit
def of_constant(constant):
  scores = jnp.full((6, 6), constant)
  return (mi.info_nce(scores), mi.dv(scores), mi.smile(scores, math.inf), mi.mine(scores, 0.0)[0],
          mi.tuba(scores, constant), mi.alpha_tuba(scores, constant, 0.3), mi.nwj(scores - constant + 1),
          *(function(scores, alpha) for function in (mi.alpha_cpc, mi.ml_cpc) for alpha in (1e-4, 0.5, 5.9)))


@pytest.mark.parametrize('constant', [0.0, 3.0, -700.0])
def test_constant_scores_tell_nothing(constant):
  np.testing.assert_allclose(of_constant(constant), 0, atol=1e-3)


@jax.jit
def related(scores):
  """Returns pairs of what is to be equal."""
  n = len(scores)
  off_diagonal = scores[~np.eye(n, dtype=bool)].reshape(n, n - 1)
  return {
      'tuba, nwj': (mi.tuba(scores, 1.0), mi.nwj(scores)),
      'js, nwj': (mi.js(scores), mi.nwj(scores + 1)),
      'smile at infinity, dv': (mi.smile(scores, math.inf), mi.dv(scores)),
      'smile far off, dv': (mi.smile(scores, 1e3), mi.dv(scores)),
      'mine, dv': (mi.mine(scores, 0.3)[0], mi.dv(scores)),
      'alpha_tuba at 0, tuba': (mi.alpha_tuba(scores, 0.3, 0.0), mi.tuba(scores, 0.3)),
      'ml_cpc, ml_cpc_bound': (mi.ml_cpc(scores, 0.7), losses.ml_cpc_bound(
          jnp.diagonal(scores), off_diagonal, alpha=0.7)),
      'alpha_cpc, info_nce': (mi.alpha_cpc(scores, 1.0), mi.info_nce(scores)),
  }


def test_relations():
  for scores in matrices(30, scale=(0.1, 1, 3)):
    for name, (found, expected) in related(scores).items():
      np.testing.assert_allclose(found, expected, rtol=2e-5, atol=2e-5, err_msg=name)
    assert mi.nwj(scores) <= mi.dv(scores) + 1e-5


def test_alpha_tuba_at_1_is_info_nce_of_one_candidate_less():
  scores = next(matrices(1, n=5, scale=(1,)))
  without = lambda i, j: scores[i, i] - np.log(np.mean(np.exp(np.delete(np.float64(scores[i]), j))))
  expected = np.mean([without(i, j) for i in range(5) for j in range(5) if i != j])
  np.testing.assert_allclose(mi.alpha_tuba(scores, 0.3, 1.0), expected, rtol=1e-5)


@pytest.mark.parametrize('function', [mi.js, lambda scores: mi.smile(scores, 0.5), lambda s: mi.smile(s, math.inf)])
def test_js_and_smile_have_the_gradient_of_jensen_shannon(function):
  for scores in matrices(12):
    gradient, n = jax.jit(jax.grad(function))(scores), len(scores)
    sigmoid = 1 / (1 + np.exp(-np.float64(scores)))
    expected = np.where(np.eye(n, dtype=bool), (1 - sigmoid) / n, -sigmoid / (n * (n - 1)))
    np.testing.assert_allclose(gradient, expected, rtol=1e-4, atol=1e-7)


def test_mine_divides_by_the_moving_average():
  average, log_average = 1.0, jnp.float32(0)
  for scores in matrices(12, n=5, scale=(0.1, 1, 3)):
    mean = np.mean(np.exp(joint_and_marginal(scores)[1]))
    average = 0.9 * average + 0.1 * mean
    gradient, log_average = jax.grad(mi.mine, has_aux=True)(scores, log_average)
    np.testing.assert_allclose(log_average, math.log(average), rtol=1e-5, atol=1e-5)
    expected = np.where(np.eye(5, dtype=bool), 1 / 5, -np.exp(np.float64(scores)) / 20 / average)
    np.testing.assert_allclose(gradient, expected, rtol=1e-4, atol=1e-6)
  carried = jax.jit(lambda: jax.lax.scan(lambda a, s: mi.mine(s, a)[::-1], jnp.float32(0), jnp.ones((3, 4, 4))))()[0]
  np.testing.assert_allclose(carried, math.log(0.9**3 + (1 - 0.9**3) * math.e), rtol=1e-5)


def test_mine_has_no_gradient_through_the_average():
  scores = next(matrices(1, n=4))
  assert jax.grad(lambda average: mi.mine(scores, average)[0])(0.3) == 0
  assert jnp.all(jax.grad(lambda s: mi.mine(s, 0.3)[1])(scores) == 0)


def gaussian_scores(key, truth, n, dimensions=4):
  """Returns the log-density ratios [n, n] of n pairs of correlated Gaussians whose mutual information is `truth`."""
  x, noise = jax.random.normal(key, (2, n, dimensions))
  rho = jnp.sqrt(1 - jnp.exp(-2 * truth / dimensions))
  y = rho * x + jnp.sqrt(1 - rho**2) * noise
  residual = y[None] - rho * x[:, None]
  return jnp.sum(-residual**2 / (2 * (1 - rho**2)) + y[None]**2 / 2, axis=2) + truth


@functools.partial(jax.jit, static_argnums=(0, 1))
def over_batches(function, batches, truth, n=32):
  keys = jax.random.split(jax.random.key(0), batches)
  return jax.lax.map(lambda key: function(gaussian_scores(key, truth, 32)), keys)


@pytest.mark.parametrize('name, function, tight', [
    ('nwj', lambda s: mi.nwj(s + 1), True), ('js', mi.js, True), ('tuba', lambda s: mi.tuba(s, 0.0), True),
    ('alpha_tuba', lambda s: mi.alpha_tuba(s, 0.0, 0.01), True), ('info_nce', mi.info_nce, False),
    ('ml_cpc', lambda s: mi.ml_cpc(s, 32 / (32 * 31 + 1)), False), ('ml_cpc 1', lambda s: mi.ml_cpc(s, 1.0), False)])
def test_bounds_at_the_best_critic(name, function, tight):
  truth = 1.0
  found = over_batches(function, 2000, truth)
  error = jnp.std(found) / len(found) ** 0.5
  assert jnp.mean(found) < truth + 4 * error
  assert jnp.mean(found) > truth - (0.02 if tight else 0.2) - 4 * error


def test_what_exceeds_the_truth_at_the_best_critic():
  truth = 5.0
  alpha_cpc, dv, info_nce = (jnp.mean(over_batches(function, 2000, truth)) for function in (
      lambda s: mi.alpha_cpc(s, 0.01), mi.dv, mi.info_nce))
  assert alpha_cpc > truth + 0.5 and dv > truth + 0.1 and info_nce < math.log(32) < truth


@pytest.mark.parametrize('function', FUNCTIONS, ids=lambda function: function.__name__)
def test_every_function_has_an_example(function):
  assert doctest.DocTestFinder(recurse=False).find(function)[0].examples


def test_all_functions_are_tested():
  assert {function.__name__ for function in FUNCTIONS} == set(OF_SCORES)


@pytest.mark.parametrize('name', OF_SCORES)
@pytest.mark.parametrize('scores, message', [
    (jnp.ones((1, 1)), r'scores must have shape \[n, n\], n above 1, found \[1, 1\]'),
    (jnp.ones((0, 0)), r'found \[0, 0\]'), (jnp.ones((3, 4)), r'found \[3, 4\]'), (jnp.ones(3), r'found \[3\]'),
    (jnp.ones((3, 3), int), 'scores must be a floating-point array, found int32')])
def test_wrong_scores(name, scores, message):
  with pytest.raises(ValueError, match=message):
    OF_SCORES[name](scores)


@pytest.mark.parametrize('call, message', [
    (lambda s: mi.alpha_cpc(s, 0.0), 'alpha must lie between 0 and the number of candidates, 3, found 0.0'),
    (lambda s: mi.ml_cpc(s, 3), 'alpha must lie between 0 and the number of candidates, 3, found 3'),
    (lambda s: mi.ml_cpc(s, jnp.ones(2)), r'alpha must be a scalar, found shape \[2\]'),
    (lambda s: mi.alpha_tuba(s, 0.0, 1.5), r'alpha must lie in \[0, 1\], found 1.5'),
    (lambda s: mi.alpha_tuba(s, 0.0, -0.5), r'alpha must lie in \[0, 1\], found -0.5'),
    (lambda s: mi.tuba(s, jnp.ones(2)), r'log_baseline must be a scalar or of shape \[3\], found \[2\]'),
    (lambda s: mi.tuba(s, jnp.ones((3, 1))), r'log_baseline must be a scalar or of shape \[3\], found \[3, 1\]'),
    (lambda s: mi.smile(s, 0.0), 'clip must be positive, found 0.0'),
    (lambda s: mi.mine(s, jnp.ones(3)), r'moving_average must be a scalar, found shape \[3\]')])
def test_wrong_arguments(call, message):
  with pytest.raises(ValueError, match=message):
    call(jnp.ones((3, 3)))


def test_traced_alpha_has_a_gradient():
  scores = next(matrices(1, n=4, scale=(1,)))
  for function in (mi.alpha_cpc, mi.ml_cpc, lambda s, alpha: mi.alpha_tuba(s, 0.1, alpha)):
    gradient = jax.jit(jax.grad(function, argnums=1))(scores, 0.3)
    difference = (function(scores, 0.3 + 1e-2) - function(scores, 0.3 - 1e-2)) / 2e-2
    np.testing.assert_allclose(gradient, difference, rtol=2e-2, atol=2e-3)
