"""What the theory says of estimates of mutual information: ceilings, order, convexity, relations, bounds."""

import functools
import math

import jax
import jax.numpy as jnp
import mutual_information_reference as reference
import numpy as np
import pytest

from jaxssl import losses

mi = losses.mutual_information


@jax.jit
def cpc_family(scores, alpha):
  cross_entropy = -jnp.mean(jnp.diagonal(jax.nn.log_softmax(scores)))
  return (cross_entropy, mi.info_nce(scores), mi.ml_cpc(scores, 1.0), mi.alpha_cpc(scores, alpha),
          mi.ml_cpc(scores, alpha), mi.alpha_tuba(scores, 0.3, 0.1))


def test_the_cpc_family_is_ordered_and_bounded():
  for scores in reference.matrices(200):
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
  for scores in reference.matrices(60, n=4):
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
  for scores in reference.matrices(30, scale=(0.1, 1, 3)):
    for name, (found, expected) in related(scores).items():
      np.testing.assert_allclose(found, expected, rtol=2e-5, atol=2e-5, err_msg=name)
    _, nwj = related(scores)['tuba, nwj']
    assert nwj <= related(scores)['mine, dv'][1] + 1e-5


def test_alpha_tuba_at_1_is_info_nce_of_one_candidate_less():
  scores = next(reference.matrices(1, n=5, scale=(1,)))
  without = lambda i, j: scores[i, i] - np.log(np.mean(np.exp(np.delete(np.float64(scores[i]), j))))
  expected = np.mean([without(i, j) for i in range(5) for j in range(5) if i != j])
  np.testing.assert_allclose(mi.alpha_tuba(scores, 0.3, 1.0), expected, rtol=1e-5)


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
