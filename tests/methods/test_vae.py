"""The VAE's bounds against a model whose log p(x) is known, its parts against NumPy."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import linen as nn

from jaxssl import methods, models
from jaxssl.training import schedules

KEY = jax.random.key(0)
X = jnp.asarray(np.random.default_rng(0).uniform(size=(8, 8, 6, 1)).astype(np.float32))


def make(**fields):
  fields = {'latent_size': 3, 'optimizer': optax.adam(1e-2), **fields}
  return methods.VAE(models.MLPEncoder((12,)), models.MLPDecoder((12,)), **fields)


def start(method, x=X):
  return jax.jit(method.init)(KEY, {'views': (x,)})


def train(method, x, steps):
  """Returns the state after so many steps, and the metrics of each by name, [steps]."""
  step = lambda state, i: method.step(state, {'views': (x,)}, jax.random.fold_in(KEY, i))
  return jax.jit(lambda state: jax.lax.scan(step, state, jnp.arange(steps)))(start(method, x))


class Flat(nn.Module):
  """Only flattens."""

  def __call__(self, x, train=False):
    return x.reshape(x.shape[0], -1)


def log_normal(x, mean, covariance):
  """log N(x; mean, covariance) of x [n, d], in float64."""
  centred = np.asarray(x, np.float64) - mean
  _, log_determinant = np.linalg.slogdet(covariance)
  distance = np.einsum('ni,ij,nj->n', centred, np.linalg.inv(covariance), centred)
  return -0.5 * (len(covariance) * np.log(2 * np.pi) + log_determinant + distance)


def test_bounds_of_a_linear_gaussian_model_meet_its_log_likelihood():
  """With a linear decoder log p(x) is known; the columns of W are orthogonal, so that the posterior is diagonal."""
  rng = np.random.default_rng(1)
  d, latent, variance = 6, 2, 0.3
  weight = np.linalg.qr(rng.normal(size=(d, latent)))[0] * [1.5, 0.7]
  offset = rng.normal(size=d)
  x = jnp.asarray((rng.normal(size=(50, latent)) @ weight.T + offset
                   + np.sqrt(variance) * rng.normal(size=(50, d))).astype(np.float32))
  method = methods.VAE(Flat(), models.MLPDecoder(()), optax.sgd(0.1), latent, likelihood='gaussian', variance=variance)
  state = start(method, x)
  covariance = np.diag(1 / (1 + np.sum(weight**2, axis=0) / variance))  # Of the posterior: diagonal.
  gain = (covariance @ weight.T / variance).T  # [d, latent]
  params = jax.tree.map(jnp.asarray, {
      'mean': {'kernel': gain.astype(np.float32), 'bias': (-offset @ gain).astype(np.float32)},
      'log_variance_of_z': {'kernel': np.zeros((d, latent), np.float32),
                            'bias': np.log(np.diag(covariance)).astype(np.float32)},
      'decoder': {'output': {'kernel': weight.T.astype(np.float32), 'bias': offset.astype(np.float32)}},
  })
  assert jax.tree.structure(params) == jax.tree.structure(dict(state.params))
  exact = state._replace(params=params)
  truth = log_normal(x, offset, weight @ weight.T + variance * np.eye(d))
  score = jax.jit(method.score, static_argnames='samples')
  scores = score(exact, x, KEY, samples=7)
  # With the exact posterior, every weight is p(x): both bounds are tight, whatever is drawn.
  np.testing.assert_allclose(scores['elbo'], truth, rtol=1e-4)
  np.testing.assert_allclose(scores['iwae'], truth, rtol=1e-4)
  off = exact._replace(params={**params, 'mean': jax.tree.map(lambda leaf: 0.5 * leaf, params['mean'])})
  means = [float(np.mean(score(off, x, KEY, samples=k)['iwae'])) for k in (1, 10, 500)]
  elbo = float(np.mean(score(off, x, KEY, samples=500)['elbo']))
  assert elbo < truth.mean() - 0.5, 'another posterior leaves a gap'
  assert means[0] < means[1] < means[2] < truth.mean() + 0.05, 'which more samples close'
  np.testing.assert_allclose(means[2], truth.mean(), atol=0.2)


def test_the_importance_weighted_bound_is_never_below_the_elbo():
  method = make()
  state, _ = train(method, X, 20)
  scores = method.score(state, X, KEY, samples=20)
  assert np.all(scores['iwae'] >= scores['elbo'])
  assert np.any(scores['iwae'] > scores['elbo'] + 1e-3)
  one = method.score(state, X, KEY)
  np.testing.assert_allclose(one['iwae'], one['elbo'], rtol=1e-6)


def test_the_loss_is_written_out():
  method = make(beta=4.0)
  state = start(method)
  params = jax.tree.map(lambda leaf: leaf + 0.02, state.params)  # So that no layer is zero.
  noise_key, _ = jax.random.split(KEY)
  noise = np.asarray(jax.random.normal(noise_key, (8, 3)), np.float64)
  output, mean, log_variance = (np.asarray(each, np.float64) for each in method.network.apply(
      {'params': params}, X, jnp.asarray(noise, jnp.float32)))
  p = 1 / (1 + np.exp(-output))
  log_likelihood = np.sum(X * np.log(p) + (1 - X) * np.log(1 - p), axis=(1, 2, 3))
  kl = 0.5 * np.sum(mean**2 + np.exp(log_variance) - 1 - log_variance, axis=1)
  loss, (_, metrics) = method.loss(params, state.stats, X, KEY)
  np.testing.assert_allclose(loss, np.mean(4 * kl - log_likelihood), rtol=1e-5)
  np.testing.assert_allclose(metrics['elbo'], np.mean(log_likelihood - kl), rtol=1e-5)
  np.testing.assert_allclose(metrics['kl'], np.mean(kl), rtol=1e-4)
  shifted = state._replace(params=params)
  np.testing.assert_allclose(jnp.sum(method.latent_kl(shifted, X), axis=1), kl, rtol=1e-4)
  np.testing.assert_allclose(method.score(shifted, X, KEY)['kl'], kl, rtol=1e-4)
  np.testing.assert_allclose(
      method.decode(shifted, method.represent(shifted, X), (8, 6, 1)),
      method.reconstruct(shifted, X, KEY)['reconstruction'], atol=1e-6)


def test_the_negative_elbo_falls_and_a_larger_beta_has_a_smaller_kl():
  _, plain = train(make(), X, 150)
  _, strong = train(make(beta=20.0), X, 150)
  assert np.mean(plain['elbo'][-10:]) > np.mean(plain['elbo'][:10]) + 1
  assert np.mean(strong['kl'][-10:]) < 0.5 * np.mean(plain['kl'][-10:])


def test_beta_warms_up():
  beta = schedules.linear_warmup(2.0, batch_size=8, steps=40, steps_per_epoch=5, warmup_epochs=2)
  _, rows = train(make(beta=beta), X, 12)
  np.testing.assert_allclose(rows['beta'], [*np.linspace(0, 1.8, 10), 2, 2], rtol=1e-5)
  np.testing.assert_allclose(rows['loss'][0], -rows['log_likelihood'][0], rtol=1e-6)


def test_a_learned_variance_becomes_that_of_the_error():
  noise = np.random.default_rng(5).normal(scale=0.2, size=(400, 10)).astype(np.float32)
  method = methods.VAE(Flat(), models.MLPDecoder(()), optax.adam(0.02), 1, likelihood='gaussian', variance=None)
  state, _ = train(method, jnp.asarray(noise), 500)
  np.testing.assert_allclose(np.exp(0.5 * float(state.params['log_variance'])), 0.2, rtol=0.08)
  encoder, variables = method.backbone(state)
  assert 'log_variance' not in variables['params']['network']
  np.testing.assert_array_equal(encoder.apply(variables, noise), method.represent(state, noise))
  assert all(np.all(np.isfinite(value)) for value in method.score(state, noise, KEY, samples=3).values())
  assert 'log_variance' not in start(make()).params


def test_binarized_pixels_are_drawn_anew_at_every_step():
  method = make(binarize=True)
  drawn = [np.asarray(method._target(jax.random.key(i), X)) for i in range(200)]
  assert set(np.unique(drawn)) == {0, 1}
  np.testing.assert_allclose(np.mean(drawn, axis=0), X, atol=5 * 0.5 / np.sqrt(200))
  state = start(method)
  np.testing.assert_allclose(method.represent(state, X), make().represent(state, X))


def test_samples_come_from_the_prior():
  method = make()
  state = start(method)
  samples = method.sample(state, KEY, 4, (8, 6, 1))
  assert samples.shape == (4, 8, 6, 1)
  np.testing.assert_allclose(samples, method.decode(state, jax.random.normal(KEY, (4, 3)), (8, 6, 1)), rtol=1e-6)


@pytest.mark.parametrize('fields, message', [
    ({'latent_size': 0}, 'latent_size must be positive, got 0'),
    ({'likelihood': 'poisson'}, "likelihood must be one of 'bernoulli', 'gaussian', got 'poisson'"),
    ({'variance': 0.0}, 'variance must be positive and finite, or None, got 0.0'),
    ({'beta': -1.0}, 'beta must be finite and not negative, got -1.0'),
    ({'binarize': True, 'likelihood': 'gaussian'}, "binarize is for likelihood='bernoulli', got 'gaussian'"),
])
def test_refuses(fields, message):
  with pytest.raises(ValueError, match=message):
    make(**fields)
