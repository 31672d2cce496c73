import functools

import contrastive_reference as reference
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxssl import losses

# The losses of two [n, d] arrays and a temperature. Compiled once for each shape: most tests use n = 7, d = 8.
KERNELS = {'nt_xent': losses.nt_xent, 'info_nce': losses.info_nce, 'symmetric_info_nce': losses.symmetric_info_nce}
COMPILED = {
    name: jax.jit(jax.value_and_grad(
        lambda z1, z2, temperature, kernel=kernel: kernel(z1, z2, temperature=temperature), argnums=(0, 1)))
    for name, kernel in KERNELS.items()
}


@pytest.fixture(params=KERNELS)
def name(request):
  return request.param


def value(name, z1, z2, temperature=0.1):
  return COMPILED[name](z1, z2, temperature)[0]


def slow(name, z1, z2, temperature=0.1):
  return getattr(reference, name)(np.float64(z1), np.float64(z2), temperature=temperature)


def draw(*shape, seed=0):
  return jax.random.normal(jax.random.key(seed), shape)


def views(n=7, d=8):
  z1 = draw(n, d)
  return z1, z1 + draw(n, d, seed=1)


def assert_close(loss, expected, temperature=0.1):
  """Within the rounding of scores in float32, where they reach 1 / temperature."""
  np.testing.assert_allclose(loss, expected, rtol=1e-6, atol=2e-7 / temperature)


@pytest.mark.parametrize('n', [1, 7, 16])
@pytest.mark.parametrize('temperature', [1.0, 0.1, 0.01])
def test_pair_losses_equal_the_slow_reference(name, n, temperature):
  z1, z2 = views(n)
  loss = value(name, z1, z2, temperature)
  assert loss.dtype == jnp.float32 and loss.shape == ()
  assert_close(loss, slow(name, z1, z2, temperature), temperature)


def test_default_arguments(name):
  z1, z2 = views()
  temperature = 0.07 if name == 'symmetric_info_nce' else 0.1
  assert_close(jax.jit(KERNELS[name])(z1, z2), slow(name, z1, z2, temperature), temperature)


@pytest.mark.parametrize('normalize', [True, False])
@pytest.mark.parametrize('shape', [None, (4, 8), (7, 8), (7, 3, 8), (7, 7, 8)])
def test_info_nce_with_each_kind_of_negatives(shape, normalize):
  query, key = views()
  negatives = None if shape is None else draw(*shape, seed=2)
  settings = {'temperature': 1.5, 'normalize': normalize}
  loss = jax.jit(functools.partial(losses.info_nce, **settings))(query, key, negatives)
  slow_negatives = None if shape is None else np.float64(negatives)
  assert_close(loss, reference.info_nce(*np.float64([query, key]), slow_negatives, **settings))


@pytest.mark.parametrize('temperature', [0.5, 0.07])
def test_nt_xent_equals_optax_on_two_views(temperature):
  z1, z2 = views()
  theirs = jax.value_and_grad(lambda z: optax.losses.ntxent(z, jnp.tile(jnp.arange(7), 2), temperature))
  with jax.numpy_rank_promotion('allow'):
    loss, grad = jax.jit(theirs)(jnp.concatenate([z1, z2]))
  ours, our_grads = COMPILED['nt_xent'](z1, z2, temperature)
  np.testing.assert_allclose(ours, loss, rtol=1e-5)
  np.testing.assert_allclose(jnp.concatenate(our_grads), grad, rtol=1e-4, atol=1e-5)


def test_gradients_equal_finite_differences_of_the_reference(name):
  z1, z2 = views()
  _, grads = COMPILED[name](z1, z2, 0.1)
  direction = np.float64(draw(2, 7, 8, seed=3))
  ahead, behind = (slow(name, *(np.float64([z1, z2]) + step * direction)) for step in (1e-5, -1e-5))
  np.testing.assert_allclose(np.sum(np.float64(grads) * direction), (ahead - behind) / 2e-5, rtol=1e-5)


def test_chance_level_of_a_collapsed_encoder(name):
  z = jnp.tile(draw(1, 8), (7, 1))
  candidates = 13 if name == 'nt_xent' else 7  # Of 2n views all but the anchor itself, the positive included.
  np.testing.assert_allclose(value(name, z, z), np.log(candidates), rtol=1e-6)


def test_chance_level_against_a_bank():
  query, key = views()
  loss = losses.info_nce(query, key, jnp.ones((4, 8)), temperature=1e9)  # The positive and four negatives.
  np.testing.assert_allclose(loss, np.log(5), rtol=1e-6)


def test_one_example_costs_nothing(name):
  loss, grads = COMPILED[name](*views(1), 0.1)
  assert loss == 0
  np.testing.assert_array_equal(grads, 0)


def test_symmetries(name):
  z1, z2 = views()
  loss = value(name, z1, z2)
  order = jnp.array([3, 1, 6, 0, 2, 5, 4])
  assert_close(value(name, z1[order], z2[order]), loss)
  assert_close(value(name, 3 * z1, z2 / 7), loss)
  assert abs(value(name, z1[order], z2) - loss) > 1  # The pairing matters,
  turned = value(name, z2, z1)
  assert abs(turned - loss) > 0.01 if name == 'info_nce' else abs(turned - loss) < 1e-5  # and in InfoNCE the direction.


@pytest.mark.parametrize('dtype', [jnp.bfloat16, jnp.float16])
def test_half_precision_inputs_are_computed_in_float32(name, dtype):
  z1, z2 = (z.astype(dtype) for z in views())
  loss, grads = COMPILED[name](z1, z2, jnp.asarray(0.125, dtype))
  assert loss.dtype == jnp.float32 and grads[0].dtype == dtype
  assert_close(loss, slow(name, z1, z2, 0.125), 0.125)


def test_float64_inputs_give_float32(name):
  with jax.enable_x64(True):
    z1, z2 = np.random.default_rng(0).normal(size=(2, 7, 8))
    loss = jax.jit(KERNELS[name])(z1, z2, temperature=np.float64(0.1))
  assert loss.dtype == jnp.float32
  assert_close(loss, slow(name, z1, z2))


def test_outliers_and_a_tiny_temperature(name):
  z1, z2 = views()
  z1, z2 = z1.at[0].mul(1e6), z2.at[1].mul(1e-6)
  loss, grads = COMPILED[name](z1, z2, 0.005)
  assert_close(loss, slow(name, z1, z2, 0.005), 0.005)
  assert all(jnp.isfinite(grad).all() for grad in grads)


def test_huge_scores_without_normalisation():
  query, key = views()
  query = query.at[0].mul(1e4)
  loss, grad = jax.value_and_grad(losses.info_nce)(query, key, temperature=0.1, normalize=False)
  assert jnp.isfinite(grad).all()
  expected = reference.info_nce(np.float64(query), np.float64(key), temperature=0.1, normalize=False)
  np.testing.assert_allclose(loss, expected, rtol=1e-6, atol=0.06)  # One float32 step of scores near 1e6.


def test_a_zero_row_has_similarity_zero_and_gradient_zero(name):
  z1, z2 = views()
  z1 = z1.at[2].set(0)
  loss, grads = COMPILED[name](z1, z2, 0.1)
  assert_close(loss, slow(name, z1, z2))
  np.testing.assert_array_equal(grads[0][2], 0)
  assert all(jnp.isfinite(grad).all() for grad in grads)


def test_not_a_number_is_not_hidden(name):
  z1, z2 = views()
  assert jnp.isnan(value(name, z1.at[2, 3].set(jnp.nan), z2))


def test_dense_can_be_asked_for(name):
  z1, z2 = views()
  assert_close(KERNELS[name](z1, z2, temperature=0.1, implementation='dense'), value(name, z1, z2))


@pytest.mark.parametrize('n', [1, 7, 16])
def test_accuracy_equals_the_slow_reference(n):
  z1, z2 = views(n, d=3)
  accuracy = jax.jit(losses.contrastive_accuracy)(z1, z2)
  assert accuracy.dtype == jnp.float32 and accuracy.shape == ()
  np.testing.assert_allclose(accuracy, reference.accuracy(z1, z2), rtol=1e-6)
  assert n < 7 or 0 < accuracy < 1  # Both hits and misses.


def test_accuracy_at_its_ends():
  z = jnp.eye(4)
  assert losses.contrastive_accuracy(z, z) == 1
  assert losses.contrastive_accuracy(z, z[::-1]) == 0
  assert losses.contrastive_accuracy(jnp.ones((4, 4)), jnp.ones((4, 4))) == 0  # Collapsed: all tied.


@pytest.mark.parametrize('kernel, first, second', [
    (losses.nt_xent, 'z1', 'z2'),
    (losses.info_nce, 'query', 'key'),
    (losses.symmetric_info_nce, 'a', 'b'),
    (losses.contrastive_accuracy, 'z1', 'z2'),
])
def test_errors_name_the_array(kernel, first, second):
  z = jnp.ones((4, 8))
  with pytest.raises(ValueError, match=rf'{first} must have shape \[n, d\].*found \[8\]'):
    kernel(z[0], z)
  with pytest.raises(ValueError, match=rf'{first} must have shape \[n, d\].*found \[0, 8\]'):
    kernel(z[:0], z[:0])
  with pytest.raises(ValueError, match=rf'{second} must have the shape of {first}, \[4, 8\], found \[4, 7\]'):
    kernel(z, z[:, :7])
  with pytest.raises(ValueError, match=f'{second} must be a floating-point array, found int32'):
    kernel(z, z.astype(jnp.int32))


def test_errors_name_temperature_and_implementation(name):
  z = jnp.ones((4, 8))
  with pytest.raises(ValueError, match=r'temperature must be a scalar, found shape \[4\]'):
    KERNELS[name](z, z, temperature=jnp.ones(4))
  for wrong in ('tiled', 'ring', 'Dense'):
    with pytest.raises(ValueError, match=f"implementation must be one of None, 'dense', found '{wrong}'"):
      KERNELS[name](z, z, implementation=wrong)


@pytest.mark.parametrize('shape', [(8,), (3, 7), (3, 2, 8), (4, 2, 7), (4, 1, 2, 8)])
def test_errors_name_negatives(shape):
  z = jnp.ones((4, 8))
  with pytest.raises(ValueError, match=r'negatives must have shape \[m, 8\] or \[4, m, 8\], found'):
    losses.info_nce(z, z, jnp.ones(shape))
