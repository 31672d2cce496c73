"""Adversarial losses against loops, against divergences of discrete distributions, and finite differences."""

import functools
import math

import adversarial_reference as reference
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxssl.losses import adversarial

RNG = np.random.default_rng(0)
REAL, FAKE = 2 * RNG.normal(size=(2, 9))
CASES = {
    'jensen_shannon': (adversarial.jensen_shannon, reference.jensen_shannon),
    'saturating': (functools.partial(adversarial.jensen_shannon, saturating=True), reference.saturating),
    'binary': (adversarial.least_squares, functools.partial(reference.least_squares, a=0, b=1, c=1)),
    'pearson': (functools.partial(adversarial.least_squares, coding='pearson'),
                functools.partial(reference.least_squares, a=-1, b=1, c=0)),
    'hinge': (adversarial.hinge, reference.hinge),
    'wasserstein': (adversarial.wasserstein, reference.wasserstein),
    'relativistic': (adversarial.relativistic, reference.relativistic),
}
every_case = pytest.mark.parametrize('name', CASES)


@every_case
@pytest.mark.parametrize('dtype, tolerance', [
    (np.float64, 2e-6), (np.float32, 2e-6), (jnp.float16, 2e-6), (jnp.bfloat16, 2e-6)])
def test_they_equal_the_slow_references(name, dtype, tolerance):
  """Of the very scores that the type can hold: nothing is computed in it."""
  loss, expected = CASES[name]
  real, fake = (np.asarray(x).astype(dtype) for x in (REAL, FAKE))
  found = jax.jit(loss)(real, fake)
  assert all(term.dtype == jnp.float32 and term.shape == () for term in found)
  np.testing.assert_allclose(found, expected(np.float64(real), np.float64(fake)), rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize('name', sorted(CASES.keys() - {'relativistic'}))
def test_there_may_be_more_generated_inputs_than_real_ones(name):
  loss, expected = CASES[name]
  np.testing.assert_allclose(loss(REAL[:4], FAKE), expected(REAL[:4], FAKE), rtol=2e-6)


@every_case
def test_extreme_scores_have_finite_gradients(name):
  real, fake = (jnp.array(x, jnp.float32) for x in ([1e4, -1e4, 1e30, -1e30], [-1e4, 1e4, -1e30, 1e30]))
  loss, _ = CASES[name]
  assert not np.isnan(np.asarray(loss(real, fake))).any()
  for term in ('discriminator', 'generator'):
    grads = jax.grad(lambda r, f, term=term: getattr(loss(r, f), term), argnums=(0, 1))(real, fake)
    assert np.isfinite(np.asarray(grads)).all(), term


def test_a_sure_discriminator_leaves_a_gradient_to_the_non_saturating_generator_alone():
  fake = jnp.full((5,), -40.0)
  of = lambda saturating: jax.grad(
      lambda f: adversarial.jensen_shannon(fake, f, saturating=saturating).generator)(fake)
  np.testing.assert_allclose(of(False), -1 / 5, rtol=1e-6)
  assert np.all(np.abs(of(True)) < 1e-16)
  same = jnp.zeros(5)  # Where it cannot tell, both have the same direction and size.
  found = [jax.grad(lambda f, s=s: adversarial.jensen_shannon(same, f, saturating=s).generator)(same) for s in (0, 1)]
  np.testing.assert_allclose(found[0], found[1])


# A discrete example: 4 places, drawn so often under the distributions of real and of generated inputs.
COUNTS = np.array([[6, 3, 2, 1], [1, 2, 4, 5]])
P, Q = COUNTS / COUNTS.sum(axis=1, keepdims=True)


def of_places(loss, scores, pairs=False):
  """The loss of a discriminator that is a table of scores, [4], over the whole population."""
  real, fake = (np.repeat(np.arange(4), counts) for counts in COUNTS)
  if pairs:  # Every real input with every generated one.
    real, fake = (x.reshape(-1) for x in np.meshgrid(real, fake))
  return loss(scores[real], scores[fake])


def kl(p, q):
  return np.sum(p * np.log(p / q))


def minimised(loss, pairs=False):
  """The least loss of a table of scores, by gradient descent."""
  value = jax.jit(jax.value_and_grad(lambda scores: of_places(loss, scores, pairs).discriminator))
  scores, velocity = jnp.zeros(4), jnp.zeros(4)
  for _ in range(400):
    _, grads = value(scores)
    velocity = 0.8 * velocity - grads
    scores = scores + velocity
  return of_places(loss, scores, pairs), scores


def test_the_minimised_jensen_shannon_loss_is_log_4_less_twice_the_divergence():
  divergence = (kl(P, (P + Q) / 2) + kl(Q, (P + Q) / 2)) / 2
  assert 0.1 < divergence < math.log(2)
  terms, scores = minimised(adversarial.jensen_shannon)
  np.testing.assert_allclose(terms.discriminator, math.log(4) - 2 * divergence, rtol=1e-6)
  np.testing.assert_allclose(terms.divergence, divergence, rtol=1e-5)
  np.testing.assert_allclose(scores, np.log(P / Q), atol=1e-4)
  for other in (scores + 0.3, 2 * scores, 0 * scores):
    assert of_places(adversarial.jensen_shannon, other).divergence < divergence - 0.005


@pytest.mark.parametrize('coding', adversarial.CODINGS)
def test_minimised_least_squares(coding):
  a, b, c = adversarial.CODINGS[coding]
  loss = functools.partial(adversarial.least_squares, coding=coding)
  terms, scores = minimised(loss)
  np.testing.assert_allclose(scores, (b * P + a * Q) / (P + Q), atol=1e-5)  # Mao et al., equation 6.
  chi_square = np.sum((P - Q) ** 2 / (P + Q))
  np.testing.assert_allclose(terms.divergence, chi_square, rtol=1e-5)
  if coding == 'pearson':  # Their theorem: twice the generator's value, its constant part included, is chi-square.
    value = 2 * terms.generator + of_places(lambda real, fake: jnp.mean(jnp.square(real - c)), scores)
    np.testing.assert_allclose(value, chi_square, rtol=1e-5)


def test_the_hinge_at_its_optimum_measures_the_total_variation():
  total_variation = np.sum(np.abs(P - Q)) / 2
  terms = of_places(adversarial.hinge, jnp.sign(P - Q))
  np.testing.assert_allclose(terms.divergence, total_variation, rtol=1e-6)
  np.testing.assert_allclose(terms.discriminator, 2 * np.sum(np.minimum(P, Q)), rtol=1e-6)
  rng = np.random.default_rng(1)
  for scores in rng.normal(size=(50, 4)):
    assert of_places(adversarial.hinge, scores).divergence <= total_variation + 1e-6


def test_the_minimised_relativistic_loss_measures_the_divergence_of_ordered_pairs():
  pairs, swapped = np.outer(P, Q), np.outer(Q, P)
  mixed = (pairs + swapped) / 2
  divergence = (kl(pairs, mixed) + kl(swapped, mixed)) / 2
  terms, scores = minimised(adversarial.relativistic, pairs=True)
  np.testing.assert_allclose(terms.divergence, divergence, rtol=1e-5)
  np.testing.assert_allclose(scores - scores[0], np.log(P / Q) - np.log(P / Q)[0], atol=1e-3)


def test_the_wasserstein_estimate_at_its_optimum_is_the_earth_movers_distance():
  """Of places on a line, at distance 1: the integral of |difference of the distribution functions|."""
  surplus = np.cumsum(P - Q)[:-1]
  potential = np.concatenate([[0], -np.cumsum(np.sign(surplus))])  # Slope 1, down the flow.
  found = of_places(adversarial.wasserstein, jnp.asarray(potential)).divergence
  np.testing.assert_allclose(found, np.sum(np.abs(surplus)), rtol=1e-6)


def network(params, x):
  """Scores of inputs of any shape, curved everywhere."""
  hidden = jnp.tanh(x.reshape(len(x), -1) @ params['w1'] + params['b1'][None])
  return hidden @ params['w2']


def parameters(rng, inputs, hidden):
  return {'w1': rng.normal(size=(inputs, hidden)) / math.sqrt(inputs), 'b1': rng.normal(size=hidden),
          'w2': rng.normal(size=hidden)}


def slow_penalties(params, real, fake, epsilon):
  critic = lambda x: np.tanh(x.reshape(-1) @ params['w1'] + params['b1']) @ params['w2']
  between = real + epsilon.reshape(-1, 1, 1) * (fake - real)
  return {'gradient_penalty': np.mean((reference.slopes(critic, between) - 1) ** 2),
          'zero_centered_penalty': 0.5 * np.mean(reference.slopes(critic, real) ** 2)}


def test_penalties_and_their_gradients_against_finite_differences():
  rng, key = np.random.default_rng(2), jax.random.key(5)
  params, (real, fake) = parameters(rng, 6, 5), rng.normal(size=(2, 4, 3, 2))
  epsilon = np.float64(jax.random.uniform(key, (4, 1, 1)))  # One number for each example.
  found = {
      'gradient_penalty': lambda params: adversarial.gradient_penalty(
          functools.partial(network, params), real, fake, key),
      'zero_centered_penalty': lambda params: adversarial.zero_centered_penalty(
          functools.partial(network, params), real)}
  expected = slow_penalties(params, real, fake, epsilon)
  for name, penalty in found.items():
    value, grads = jax.jit(jax.value_and_grad(penalty))(jax.tree.map(jnp.float32, params))
    np.testing.assert_allclose(value, expected[name], rtol=1e-5, err_msg=name)
    for leaf in params:
      for place in np.ndindex(params[leaf].shape):
        moved = []
        for step in (1e-4, -1e-4):
          other = {name: np.array(array) for name, array in params.items()}
          other[leaf][place] += step
          moved.append(slow_penalties(other, real, fake, epsilon)[name])
        difference = (moved[0] - moved[1]) / 2e-4
        np.testing.assert_allclose(grads[leaf][place], difference, rtol=2e-3, atol=2e-4, err_msg=f'{name} {leaf}')


def test_interpolation_is_drawn_for_each_example_between_its_own_pair():
  """A critic of slope x: where the penalty looks can be told from its value."""
  real, fake = jnp.full((64, 2), 2.0), jnp.full((64, 2), 4.0)
  critic = lambda x: 0.5 * x[:, 0] ** 2  # The slope is the first coordinate, from 2 to 4.
  each = [float(adversarial.gradient_penalty(critic, real, fake, jax.random.key(i))) for i in range(20)]
  expected = (3**3 - 1) / 3 / 2  # The mean of (s - 1)^2 over s from 2 to 4.
  spread = math.sqrt(((3**5 - 1) / 5 / 2 - expected**2) / (64 * 20))
  assert abs(np.mean(each) - expected) < 4 * spread
  assert np.std(each) < 3 * spread * math.sqrt(20), 'one number for a batch would vary eight times as much'


def test_a_flat_critic_has_a_finite_gradient():
  flat = lambda w: adversarial.gradient_penalty(
      lambda x: jnp.sum(w * x, axis=1), jnp.ones((3, 2)), jnp.zeros((3, 2)), jax.random.key(0))
  value, grads = jax.value_and_grad(flat)(jnp.zeros((1, 2)))
  np.testing.assert_allclose(value, 1)
  np.testing.assert_array_equal(grads, jnp.zeros((1, 2)))


def test_a_critic_in_bfloat16_is_penalised_in_float32():
  critic = lambda x: (x.astype(jnp.bfloat16) @ jnp.array([3.0, 4.0], jnp.bfloat16)).astype(jnp.bfloat16)
  found = adversarial.zero_centered_penalty(critic, jnp.ones((4, 2), jnp.bfloat16))
  assert found.dtype == jnp.float32
  np.testing.assert_allclose(found, 12.5)


def test_a_critic_finds_the_wasserstein_distance_of_two_gaussians():
  """N(0, 1) and N(1, 1.5^2) in one of two dimensions: optimal transport keeps the order, so W1 = E |1 + z / 2|.

  The penalty's weight is 100: a weight of 10 leaves slopes up to 1 + W1 / 20, an estimate so much too high.
  """
  cdf = lambda x: 0.5 * (1 + math.erf(x / math.sqrt(2)))
  folded = 0.5 * math.sqrt(2 / math.pi) * math.exp(-2) + 1 - 2 * cdf(-2)  # The mean of a folded N(1, 1/4).
  draw = lambda key, n: jax.random.normal(key, (n, 2)) * jnp.array([[1.0, 0.5]])
  pair = lambda key, n: (
      draw(key, n), draw(jax.random.fold_in(key, 1), n) * jnp.array([[1.5, 1.0]]) + jnp.array([[1.0, 0.0]]))
  optimizer = optax.adam(optax.cosine_decay_schedule(0.01, 800), b1=0.5, b2=0.9)

  def loss(params, key):
    real, fake = pair(key, 256)
    critic = functools.partial(network, params)
    terms = adversarial.wasserstein(critic(real), critic(fake))
    return terms.discriminator + 100 * adversarial.gradient_penalty(critic, real, fake, jax.random.fold_in(key, 2))

  def update(carry, key):
    params, state = carry
    updates, state = optimizer.update(jax.grad(loss)(params, key), state)
    return (optax.apply_updates(params, updates), state), None

  params = jax.tree.map(jnp.float32, parameters(np.random.default_rng(3), 2, 64))
  params['w2'] = params['w2'] / 8
  keys = jax.random.split(jax.random.key(0), 800)
  (params, _), _ = jax.jit(lambda carry: jax.lax.scan(update, carry, keys))((params, optimizer.init(params)))
  real, fake = pair(jax.random.key(1), 200_000)
  found = adversarial.wasserstein(network(params, real), network(params, fake)).divergence
  assert abs(found / folded - 1) < 0.05, (found, folded)


@pytest.mark.parametrize('call, message', [
    (lambda: adversarial.hinge(np.ones((3, 1)), np.ones(3)), r'real must be scores \[n\], .* got shape \[3, 1\]'),
    (lambda: adversarial.wasserstein(np.ones(3), np.ones(0)), r'fake must be scores \[n\], .* got shape \[0\]'),
    (lambda: adversarial.jensen_shannon(np.ones(3, int), np.ones(3)), 'real must be a floating-point array, got int'),
    (lambda: adversarial.least_squares(REAL, FAKE, coding='ternary'),
     "coding must be one of 'binary', 'pearson', got 'ternary'"),
    (lambda: adversarial.relativistic(REAL, FAKE[:4]), 'fake must hold one score for each of the 9 real, got 4'),
    (lambda: adversarial.zero_centered_penalty(lambda x: x, np.ones((3, 2))),
     r'critic must return scores \[3\], got shape \[3, 2\]'),
    (lambda: adversarial.gradient_penalty(lambda x: x[:, 0], np.ones((3, 2)), np.ones((4, 2)), jax.random.key(0)),
     r'fake must have the shape of real, \[3, 2\], got \[4, 2\]'),
])
def test_mistakes_are_named(call, message):
  with pytest.raises(ValueError, match=message):
    call()
