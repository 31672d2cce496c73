"""Losses of reconstructions against loops, closed forms and a model whose marginal likelihood is known."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import reconstruction_reference as reference
from jax import lax
from jax.sharding import PartitionSpec as P

from jaxssl import losses

RNG = np.random.default_rng(0)
X, Y = RNG.normal(size=(2, 16, 3, 2, 2))
BINARY = RNG.integers(0, 2, Y.shape).astype(float)
MEAN, LOG_VARIANCE = RNG.normal(size=(2, 16, 5))
MASK = RNG.permuted(np.tile([1.0, 1.0, 0.0], (16, 1)), axis=1)  # Two of three patches of every example.
PATCHES, TARGETS = X.reshape(16, 3, 4), Y.reshape(16, 3, 4)
# Every loss with arrays that all begin with the batch, and whether it returns a mean over it.
CASES = {
    'squared_error': (losses.squared_error, (X, Y), True),
    'bernoulli': (losses.bernoulli_log_likelihood, (X, BINARY), False),
    'gaussian': (losses.gaussian_log_likelihood, (X, Y, 0.5 * X), False),
    'gaussian_kl': (losses.gaussian_kl, (MEAN, LOG_VARIANCE), False),
    'elbo': (lambda a, b: losses.elbo(a, b, beta=2.0), (MEAN[:, 0], MEAN[:, 1]), True),
    'importance_weighted_bound': (lambda w: losses.importance_weighted_bound(w.T), (MEAN,), False),
    'normalize_patches': (losses.normalize_patches, (PATCHES,), False),
    'masked_patch_error': (lambda p, t: losses.masked_patch_error(p, t, mask=_mask_of(p)), (PATCHES, TARGETS), True),
}


def _mask_of(patches):
  """Which two of three patches are masked, told from the patches, so that a device knows its own."""
  order = jnp.argsort(patches[:, :, 0], axis=1)
  return (jnp.argsort(order, axis=1) < 2).astype(jnp.float32)


def close(found, expected, tolerance=2e-6):
  assert found.dtype == jnp.float32
  np.testing.assert_allclose(found, expected, rtol=tolerance, atol=tolerance)


def test_they_equal_the_slow_references():
  close(losses.squared_error(X, Y), reference.squared_error(X, Y))
  close(losses.bernoulli_log_likelihood(X, BINARY), reference.bernoulli_log_likelihood(X, BINARY))
  grey = 1 / (1 + np.exp(-Y))
  close(losses.bernoulli_log_likelihood(X, grey), reference.bernoulli_log_likelihood(X, grey))
  for log_variance in (0.0, -1.5, Y[:, :1], Y[0], Y):
    expected = reference.gaussian_log_likelihood(X, Y, np.broadcast_to(log_variance, X.shape))
    close(losses.gaussian_log_likelihood(X, Y, log_variance), expected, 5e-6)
  close(losses.importance_weighted_bound(MEAN.T), reference.importance_weighted_bound(MEAN.T))
  close(losses.normalize_patches(PATCHES), reference.normalize_patches(PATCHES, 1e-6), 5e-6)
  close(losses.normalize_patches(PATCHES, epsilon=0.5), reference.normalize_patches(PATCHES, 0.5), 5e-6)
  close(losses.masked_patch_error(PATCHES, TARGETS, MASK), reference.masked_patch_error(PATCHES, TARGETS, MASK))
  close(losses.elbo(MEAN[:, 0], MEAN[:, 1], beta=3.0), np.mean(MEAN[:, 0] - 3 * MEAN[:, 1]))


def test_gaussian_kl_equals_monte_carlo():
  """KL = E_q[log q - log p], to within five standard errors of 200,000 draws."""
  rng = np.random.default_rng(1)
  mean, log_variance = np.array([0.0, 0.7, -2.0, 0.1]), np.array([0.0, -1.0, 0.8, 3.0])
  noise = rng.normal(size=(200_000, 4))
  z = mean + np.exp(0.5 * log_variance) * noise
  difference = -0.5 * (log_variance + noise**2) + 0.5 * z**2
  standard_error = difference.std(axis=0, ddof=1) / math.sqrt(len(z))
  found = np.asarray(losses.gaussian_kl(mean[None], log_variance[None])[0])
  assert np.all(np.abs(found - difference.mean(axis=0)) <= 5 * standard_error + 1e-7)
  assert found[0] == 0 and np.all(found[1:] > 10 * standard_error[1:]), 'more than its error'


def test_gaussian_kl_keeps_its_digits_near_the_prior():
  """A variance of e^s costs s^2 / 4, most of which is lost where 1 is added to s and subtracted."""
  log_variance = np.float32(np.linspace(0.0101, 0.0149, 20))
  expected = 0.5 * (np.expm1(np.float64(log_variance)) - log_variance)
  plain = 0.5 * (np.exp(log_variance) - 1 - log_variance)
  error = lambda found: np.max(np.abs(np.asarray(found, np.float64) - expected))
  assert error(losses.gaussian_kl(jnp.zeros((1, 20)), log_variance[None])[0]) < error(plain) / 10


class LinearGaussian:
  """Probabilistic PCA, x = W z + mu + noise of variance .3, with orthogonal columns: its posterior is diagonal."""

  variance = 0.3
  rng = np.random.default_rng(2)
  weights = np.linalg.qr(rng.normal(size=(6, 3)))[0] * [2.0, 1.0, 0.5]
  mu = rng.normal(size=6)
  x = rng.normal(size=(5, 3)) @ weights.T + mu + math.sqrt(variance) * rng.normal(size=(5, 6))

  def log_marginal(self):
    covariance = self.weights @ self.weights.T + self.variance * np.eye(6)
    centred = self.x - self.mu
    mahalanobis = np.sum(centred * np.linalg.solve(covariance, centred.T).T, axis=1)
    return -0.5 * (6 * math.log(2 * math.pi) + np.linalg.slogdet(covariance)[1] + mahalanobis)

  def posterior(self):
    """Mean [b, 3] and log-variance [b, 3]."""
    precision = np.sum(self.weights**2, axis=0) + self.variance
    return (self.x - self.mu) @ self.weights / precision, np.tile(np.log(self.variance / precision), (5, 1))

  def log_likelihood(self, z):
    """log p(x | z) of z [k, b, 3] by the loss at test, [k, b]."""
    mean = z @ self.weights.T + self.mu
    target = np.broadcast_to(self.x, mean.shape)
    flat = losses.gaussian_log_likelihood(mean.reshape(-1, 6), target.reshape(-1, 6), math.log(self.variance))
    return np.asarray(flat, np.float64).reshape(mean.shape[:2])

  def elbo(self, mean, log_variance):
    """The expectation over q in closed form: that at its mean less the error which its variance adds."""
    spread = np.sum(np.exp(log_variance) * np.sum(self.weights**2, axis=0), axis=1) / (2 * self.variance)
    log_likelihood = self.log_likelihood(mean[None])[0] - spread
    kl = losses.gaussian_kl(mean, log_variance).sum(axis=1)
    return np.asarray([losses.elbo(log_likelihood[i : i + 1], kl[i : i + 1]) for i in range(5)])

  def log_weights(self, mean, log_variance, samples, seed=0):
    noise = np.random.default_rng(seed).normal(size=(samples, *mean.shape))
    z = mean + np.exp(0.5 * log_variance) * noise
    return self.log_likelihood(z) + np.sum(-0.5 * z**2 + 0.5 * (log_variance + noise**2), axis=-1)


MODEL = LinearGaussian()


def test_the_exact_posterior_reaches_the_log_likelihood_and_no_other_does():
  mean, log_variance = MODEL.posterior()
  np.testing.assert_allclose(MODEL.elbo(mean, log_variance), MODEL.log_marginal(), rtol=2e-6)
  np.testing.assert_allclose(
      losses.importance_weighted_bound(MODEL.log_weights(mean, log_variance, 7)), MODEL.log_marginal(), rtol=2e-6)
  for other in ((mean + 0.3, log_variance), (mean, log_variance + 0.5), (mean, log_variance - 0.5),
                (0 * mean, 0 * mean)):
    assert np.all(MODEL.elbo(*other) < MODEL.log_marginal() - 0.01)
  gap = 0.5 * (math.exp(0.5) - 1 - 0.5) * 3  # KL(q || posterior) of three variances e^0.5 too large.
  np.testing.assert_allclose(MODEL.log_marginal() - MODEL.elbo(mean, log_variance + 0.5), gap, rtol=1e-4)


def test_importance_weighted_bounds_grow_from_the_elbo_to_the_log_likelihood():
  """The means of 4,096 bounds of k samples, the same draws for every k, with the standard errors of differences."""
  mean, log_variance = MODEL.posterior()
  mean, log_variance = mean + 0.2, log_variance + 0.5
  log_weights = MODEL.log_weights(mean, log_variance, 4096 * 16)
  bound = jax.jit(losses.importance_weighted_bound)
  bounds = {k: np.asarray(bound(log_weights.reshape(16, 4096, 5)[:k].reshape(k, -1)), np.float64).reshape(-1, 5)
            for k in (1, 2, 4, 16)}
  error = lambda values: values.std(axis=0, ddof=1) / math.sqrt(len(values))
  np.testing.assert_allclose(bounds[1], log_weights.reshape(16, 4096, 5)[0], rtol=1e-6)
  assert np.all(np.abs(bounds[1].mean(axis=0) - MODEL.elbo(mean, log_variance)) < 4 * error(bounds[1]))
  for fewer, more in ((1, 2), (2, 4), (4, 16)):
    gain = bounds[more] - bounds[fewer]
    assert np.all(gain.mean(axis=0) > 4 * error(gain)), (fewer, more)
  assert np.all(bounds[16].mean(axis=0) < MODEL.log_marginal() + 4 * error(bounds[16]))


def test_the_bound_survives_weights_far_beyond_float32():
  found = losses.importance_weighted_bound(jnp.array([[-1e4, 500.0], [-1e4, -500.0]]))
  np.testing.assert_allclose(found, [-1e4, 500 - math.log(2)], rtol=1e-6)


def test_bernoulli_of_extreme_logits():
  logits = jnp.array([[1e4, -1e4], [1e4, -1e4], [1e30, -1e30]])
  target = jnp.array([[1.0, 0.0], [0.0, 1.0], [1.0, 0.0]])
  total = lambda logits: losses.bernoulli_log_likelihood(logits, target).sum()
  np.testing.assert_allclose(losses.bernoulli_log_likelihood(logits, target), [0, -2e4, 0])
  np.testing.assert_array_equal(jax.grad(total)(logits), [[0, 0], [-1, 1], [0, 0]])


def test_a_learned_variance_is_at_rest_at_the_sample_variance():
  mean = jnp.zeros(X.shape)
  total = jax.grad(lambda s: losses.gaussian_log_likelihood(mean, X, s).mean())
  variance = np.mean(X**2)
  assert abs(total(jnp.log(variance))) < 1e-5
  assert total(jnp.log(0.5 * variance)) > 1 and total(jnp.log(2 * variance)) < -1


def test_half_the_squared_error_is_the_likelihood_of_variance_one():
  """The same gradient, so the same training."""
  negative = lambda x: -losses.gaussian_log_likelihood(x, Y).mean()
  close(jax.grad(negative)(jnp.float32(X)), jax.grad(lambda x: 0.5 * losses.squared_error(x, Y))(jnp.float32(X)))


def test_flat_patches_become_zero_and_have_a_gradient():
  flat = jnp.array([0.1, 0.7, 200.3])[:, None] * jnp.ones((1, 49))
  np.testing.assert_array_equal(losses.normalize_patches(flat), np.zeros((3, 49)))
  weights = jnp.arange(49.0)[None]
  gradient = jax.grad(lambda x: jnp.sum(losses.normalize_patches(x) * weights))(flat)
  expected = np.tile((np.arange(49) - 24) * 1e3, (3, 1))  # (w - its mean) / sqrt(epsilon)
  np.testing.assert_allclose(gradient, expected, rtol=1e-4, atol=0.1)


def test_the_variance_of_a_patch_is_unbiased():
  normal = losses.normalize_patches(PATCHES, epsilon=0.0)
  np.testing.assert_allclose(jnp.mean(normal, axis=-1), 0, atol=1e-6)
  np.testing.assert_allclose(jnp.sum(normal**2, axis=-1), 3, rtol=1e-5)  # d - 1


@pytest.mark.parametrize('as_type', [bool, np.int32, np.float32])
def test_visible_patches_have_no_part_in_the_masked_error(as_type):
  """Neither a gradient nor, where they are not numbers, a trace."""
  mask = MASK.astype(as_type)
  visible = MASK == 0
  value_and_grad = jax.value_and_grad(lambda p: losses.masked_patch_error(p, TARGETS, mask))
  value, gradient = value_and_grad(jnp.float32(PATCHES))
  assert np.all(np.asarray(gradient)[visible] == 0) and np.all(np.asarray(gradient)[~visible] != 0)
  for poison in (np.nan, np.inf):
    spoilt, spoilt_gradient = value_and_grad(jnp.float32(np.where(visible[:, :, None], poison, PATCHES)))
    assert spoilt == value
    np.testing.assert_array_equal(spoilt_gradient, gradient)


def test_nothing_masked():
  value, gradient = jax.value_and_grad(losses.masked_patch_error)(jnp.float32(PATCHES), TARGETS, np.zeros((16, 3)))
  assert value == 0 and not np.any(gradient)


@pytest.mark.parametrize('name', CASES)
def test_under_jit_and_over_devices(name):
  """Value and gradient on eight devices, means averaged by pmean, are those of the whole batch."""
  function, arguments, averaged = CASES[name]
  arguments = [jnp.float32(x) for x in arguments]
  total = lambda f: lambda *args: jnp.sum(jnp.cos(jnp.arange(f(*args).size)) * f(*args).ravel())
  one_device = lambda *args: lax.pmean(function(*args), 'i') if averaged else function(*args)
  mesh = jax.make_mesh((8,), ('i',), axis_types=(jax.sharding.AxisType.Auto,))
  mapped = jax.shard_map(one_device, mesh=mesh, in_specs=P('i'), out_specs=P() if averaged else P('i'))
  close(jax.jit(function)(*arguments), function(*arguments))
  close(mapped(*arguments), function(*arguments))
  expected = jax.grad(total(function))(*arguments)
  close(jax.jit(jax.grad(total(mapped)))(*arguments), expected, 1e-5)


@pytest.mark.parametrize('name', CASES)
@pytest.mark.parametrize('dtype', [jnp.bfloat16, jnp.float16])
def test_half_precision_is_computed_in_float32(name, dtype):
  function, arguments, _ = CASES[name]
  rounded = [jnp.asarray(x, dtype) for x in arguments]
  np.testing.assert_array_equal(function(*rounded), function(*(x.astype(jnp.float32) for x in rounded)))
  assert function(*rounded).dtype == jnp.float32


@pytest.mark.parametrize('call, message', [
    (lambda: losses.squared_error(X, Y[:3]), r'target must have the shape of reconstruction, \[16, 3, 2, 2\], got'),
    (lambda: losses.squared_error(X.astype(int), Y), 'reconstruction must be a floating-point array, got int32'),
    (lambda: losses.squared_error(1.0, 1.0), r'reconstruction must have shape \[b, ...\], none of them 0, got \[\]'),
    (lambda: losses.bernoulli_log_likelihood(X, BINARY.astype(int)), 'target must be a floating-point array'),
    (lambda: losses.bernoulli_log_likelihood(X[:0], Y[:0]), r'logits must have shape .*, got \[0, 3, 2, 2\]'),
    (lambda: losses.gaussian_log_likelihood(X, Y[:, :2]), r'target must have the shape of mean'),
    (lambda: losses.gaussian_log_likelihood(X, Y, jnp.zeros(3)),
     r'log_variance must broadcast to \[16, 3, 2, 2\], got \[3\]'),
    (lambda: losses.gaussian_log_likelihood(X, Y, 1), 'log_variance must be a floating-point array, got int32'),
    (lambda: losses.gaussian_kl(X, X), r'mean must have shape \[n, d\], neither of them 0, got \[16, 3, 2, 2\]'),
    (lambda: losses.gaussian_kl(MEAN, MEAN[:, :2]), r'log_variance must have the shape of mean, \[16, 5\], got'),
    (lambda: losses.elbo(MEAN[:, 0], MEAN), r'kl must have the shape of log_likelihood, \[16\], got \[16, 5\]'),
    (lambda: losses.elbo(MEAN, MEAN), r'log_likelihood and kl must be \[b\], summed over all but the batch, got'),
    (lambda: losses.elbo(MEAN[0], MEAN[0], beta=MEAN), r'beta must be a scalar, got shape \[16, 5\]'),
    (lambda: losses.importance_weighted_bound(MEAN[0]), r'log_weights must have shape \[n, d\], .* got \[5\]'),
    (lambda: losses.normalize_patches(MEAN[:, :1]), r'patches must be \[..., d\] of at least 2 pixels, .* \[16, 1\]'),
    (lambda: losses.normalize_patches(1.0), r'patches must be \[..., d\] of at least 2 pixels, got shape \[\]'),
    (lambda: losses.masked_patch_error(PATCHES, TARGETS, MASK[:, :2]),
     r'prediction must be \[b, n, d\] and mask \[b, n\], got \[16, 3, 4\] and \[16, 2\]'),
    (lambda: losses.masked_patch_error(X, Y, MASK), r'prediction must be \[b, n, d\] and mask .* \[16, 3, 2, 2\]'),
    (lambda: losses.masked_patch_error(PATCHES, TARGETS[:2], MASK), 'target must have the shape of prediction'),
])
def test_mistakes_are_named(call, message):
  with pytest.raises(ValueError, match=message):
    call()
