import functools

import contrastive_reference as reference
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxssl import losses
from jaxssl.losses import _choice

# The losses of two [n, d] arrays and a temperature, by name and implementation ('ring' needs several devices). Compiled
# once for each shape: most tests use n = 7, d = 8.
LOSSES = {'nt_xent': losses.nt_xent, 'info_nce': losses.info_nce, 'symmetric_info_nce': losses.symmetric_info_nce,
          'siglip': losses.siglip}
KERNELS = {f'{name} {implementation}': functools.partial(loss, implementation=implementation)
           for name, loss in LOSSES.items() for implementation in ('dense', 'tiled')}
COMPILED = {
    name: jax.jit(jax.value_and_grad(
        lambda z1, z2, temperature, kernel=kernel: kernel(z1, z2, temperature=temperature), argnums=(0, 1)))
    for name, kernel in KERNELS.items()
}


@pytest.fixture(params=KERNELS)
def name(request):
  return request.param


@pytest.fixture(params=[name for name in KERNELS if not name.startswith('siglip')])
def softmax(request):
  return request.param


def value(name, z1, z2, temperature=0.1):
  return COMPILED[name](z1, z2, temperature)[0]


def slow(name, z1, z2, temperature=0.1):
  return getattr(reference, name.split()[0])(np.float64(z1), np.float64(z2), temperature=temperature)


def draw(*shape, seed=0):
  return jax.random.normal(jax.random.key(seed), shape)


def views(n=7, d=8):
  z1 = draw(n, d)
  return z1, z1 + draw(n, d, seed=1)


def assert_close(loss, expected, temperature=0.1):
  """Within the rounding of scores in float32, where they reach 1 / temperature."""
  np.testing.assert_allclose(loss, expected, rtol=1e-6, atol=2e-7 / temperature)


@pytest.mark.usefixtures('optimized')
@pytest.mark.parametrize('n', [1, 7, 16])
@pytest.mark.parametrize('temperature', [10.0, 1.0, 0.1, 0.024, 0.023, 0.01, 0.005])  # One shift fits from 0.0233 on.
def test_pair_losses_equal_the_slow_reference(name, n, temperature):
  z1, z2 = views(n)
  loss = value(name, z1, z2, temperature)
  assert loss.dtype == jnp.float32 and loss.shape == ()
  assert_close(loss, slow(name, z1, z2, temperature), temperature)


def test_default_arguments(name):
  z1, z2 = views()
  temperature = 0.07 if name.startswith('symmetric_info_nce') else 0.1
  assert_close(jax.jit(KERNELS[name])(z1, z2), slow(name, z1, z2, temperature), temperature)


@pytest.mark.parametrize('normalize', [True, False])
@pytest.mark.parametrize('shape', [None, (4, 8), (7, 8), (7, 3, 8), (7, 7, 8)])
@pytest.mark.parametrize('implementation', ['dense', 'tiled'])
def test_info_nce_with_each_kind_of_negatives(shape, normalize, implementation):
  query, key = views()
  negatives = None if shape is None else draw(*shape, seed=2)
  settings = {'temperature': 1.5, 'normalize': normalize}
  slow_negatives = None if shape is None else np.float64(negatives)
  slow_loss = lambda moved: reference.info_nce(*np.float64([query, key]), moved, **settings)
  loss = functools.partial(losses.info_nce, query, key, implementation=implementation, **settings)
  assert_close(jax.jit(loss)(negatives), slow_loss(slow_negatives))
  if shape is not None:
    direction = np.float64(draw(*shape, seed=3))
    ahead, behind = (slow_loss(slow_negatives + step * direction) for step in (1e-5, -1e-5))
    along = np.sum(np.float64(jax.grad(loss)(negatives)) * direction)
    np.testing.assert_allclose(along, (ahead - behind) / 2e-5, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize('implementation', ['dense', 'tiled'])
@pytest.mark.parametrize('temperature', [0.5, 0.07])
def test_nt_xent_equals_optax_on_two_views(temperature, implementation):
  z1, z2 = views()
  theirs = jax.value_and_grad(lambda z: optax.losses.ntxent(z, jnp.tile(jnp.arange(7), 2), temperature))
  with jax.numpy_rank_promotion('allow'):
    loss, grad = jax.jit(theirs)(jnp.concatenate([z1, z2]))
  ours, our_grads = COMPILED[f'nt_xent {implementation}'](z1, z2, temperature)
  np.testing.assert_allclose(ours, loss, rtol=1e-5)
  np.testing.assert_allclose(jnp.concatenate(our_grads), grad, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize('implementation', ['dense', 'tiled'])
def test_values_of_the_peers(implementation):
  """The losses of lightly (NTXentLoss) and open_clip (ClipLoss, SigLipLoss), by their formulas in float64 PyTorch."""
  a = 2 * jnp.sin(jnp.arange(24.0)).reshape(6, 4)
  b = jnp.cos(1.7 * jnp.arange(24.0)).reshape(6, 4) + 0.3
  settings = {'implementation': implementation}
  for loss, expected in [
      (losses.nt_xent(a, b, temperature=0.5, **settings), 3.1317629513870315),
      (losses.nt_xent(a, b, temperature=0.1, **settings), 9.888920033281012),
      (losses.symmetric_info_nce(a, b, temperature=0.07, **settings), 8.546471401116328),
      (losses.siglip(a, b, temperature=0.1, bias=-10.0, **settings), 10.835700088813839),
      (losses.siglip(a, b, temperature=0.5, bias=-1.0, **settings), 3.4270670793426805)]:
    np.testing.assert_allclose(loss, expected, rtol=1e-6)


def test_gradients_equal_finite_differences_of_the_reference(name):
  z1, z2 = views()
  _, grads = COMPILED[name](z1, z2, 0.1)
  direction = np.float64(draw(2, 7, 8, seed=3))
  ahead, behind = (slow(name, *(np.float64([z1, z2]) + step * direction)) for step in (1e-5, -1e-5))
  np.testing.assert_allclose(np.sum(np.float64(grads) * direction), (ahead - behind) / 2e-5, rtol=1e-5)


def test_chance_level_of_a_collapsed_encoder(softmax):
  z = jnp.tile(draw(1, 8), (7, 1))
  candidates = 13 if softmax.startswith('nt_xent') else 7  # Of 2n views all but the anchor, the positive included.
  np.testing.assert_allclose(value(softmax, z, z), np.log(candidates), rtol=1e-6)


def test_chance_level_against_a_bank():
  query, key = views()
  loss = losses.info_nce(query, key, jnp.ones((4, 8)), temperature=1e9)  # The positive and four negatives.
  np.testing.assert_allclose(loss, np.log(5), rtol=1e-6)


def test_one_example_costs_nothing(softmax):
  loss, grads = COMPILED[softmax](*views(1), 0.1)
  rounding = 0 if softmax.endswith('dense') else 1e-6  # A tile's scores are rounded apart from the positives.
  np.testing.assert_allclose(loss, 0, atol=rounding)
  np.testing.assert_allclose(grads, 0, atol=rounding)


def test_symmetries(name):
  z1, z2 = views()
  loss = value(name, z1, z2)
  order = jnp.array([3, 1, 6, 0, 2, 5, 4])
  assert_close(value(name, z1[order], z2[order]), loss)
  assert_close(value(name, 3 * z1, z2 / 7), loss)
  assert abs(value(name, z1[order], z2) - loss) > 1  # The pairing matters,
  turned = value(name, z2, z1)
  turns = abs(turned - loss) > 0.01
  assert turns == name.startswith('info_nce')  # and in InfoNCE the direction.


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


@pytest.mark.parametrize('loss', LOSSES)
def test_the_implementation_is_chosen_by_size(loss, monkeypatch):
  z1, z2 = views()
  text = lambda: jax.jit(lambda *z: LOSSES[loss](*z)).lower(z1, z2).as_text()
  assert 'while' not in text()
  monkeypatch.setattr(_choice, 'DENSE_SCORES', {'cpu': 48})  # One fewer than 7 x 7.
  assert 'while' in text()


@pytest.mark.parametrize('implementation', ['dense', 'tiled'])
def test_siglip_learns_its_bias(implementation):
  z1, z2 = views()
  grad = jax.grad(lambda bias: losses.siglip(z1, z2, bias=bias, implementation=implementation))(-1.5)
  ahead, behind = (reference.siglip(*np.float64([z1, z2]), 0.1, -1.5 + step) for step in (1e-5, -1e-5))
  np.testing.assert_allclose(grad, (ahead - behind) / 2e-5, rtol=1e-5)


@pytest.mark.parametrize('implementation', ['dense', 'tiled'])
def test_chance_level_of_siglip(implementation):
  z = jnp.tile(draw(1, 8), (7, 1))  # All logits zero: 7 log 2 a row.
  loss = losses.siglip(z, z, temperature=1.0, bias=-1.0, implementation=implementation)
  np.testing.assert_allclose(loss, 7 * np.log(2), rtol=1e-6)


@pytest.mark.parametrize('implementation', ['dense', 'tiled'])
@pytest.mark.parametrize('n', [1, 7, 16])
def test_accuracy_equals_the_slow_reference(n, implementation):
  z1, z2 = views(n, d=3)
  accuracy = jax.jit(functools.partial(losses.contrastive_accuracy, implementation=implementation))(z1, z2)
  assert accuracy.dtype == jnp.float32 and accuracy.shape == ()
  np.testing.assert_allclose(accuracy, reference.accuracy(z1, z2), rtol=1e-6)
  assert n < 7 or 0 < accuracy < 1  # Both hits and misses.


@pytest.mark.parametrize('implementation', ['dense', 'tiled'])
def test_accuracy_at_its_ends(implementation):
  accuracy = functools.partial(losses.contrastive_accuracy, implementation=implementation)
  z = jnp.eye(4)
  assert accuracy(z, z) == 1
  assert accuracy(z, z[::-1]) == 0
  same = jnp.tile(draw(1, 8), (7, 1))
  assert accuracy(same, same) == 0  # Collapsed: all tied.


@pytest.mark.parametrize('kernel, first, second', [
    (losses.nt_xent, 'z1', 'z2'),
    (losses.info_nce, 'query', 'key'),
    (losses.symmetric_info_nce, 'a', 'b'),
    (losses.siglip, 'a', 'b'),
    (losses.contrastive_accuracy, 'z1', 'z2'),
])
def test_errors_name_the_array(kernel, first, second):
  z = jnp.ones((4, 8))
  with pytest.raises(ValueError, match=rf'{first} must have shape \[n, d\].*got \[8\]'):
    kernel(z[0], z)
  with pytest.raises(ValueError, match=rf'{first} must have shape \[n, d\].*got \[0, 8\]'):
    kernel(z[:0], z[:0])
  with pytest.raises(ValueError, match=rf'{second} must have the shape of {first}, \[4, 8\], got \[4, 7\]'):
    kernel(z, z[:, :7])
  with pytest.raises(ValueError, match=f'{second} must be a floating-point array, got int32'):
    kernel(z, z.astype(jnp.int32))


def test_errors_name_temperature_and_implementation(name):
  z = jnp.ones((4, 8))
  with pytest.raises(ValueError, match=r'temperature must be a scalar, got shape \[4\]'):
    KERNELS[name](z, z, temperature=jnp.ones(4))
  choices = "implementation must be one of None, 'dense', 'tiled', 'ring', 'pallas_tpu', 'mosaic_gpu', got 'Dense'"
  with pytest.raises(ValueError, match=choices):
    KERNELS[name](z, z, implementation='Dense')
  with pytest.raises(ValueError, match="implementation='ring' .*needs an axis_name, or a mesh"):
    KERNELS[name](z, z, implementation='ring')


@pytest.mark.parametrize('shape', [(8,), (3, 7), (3, 2, 8), (4, 2, 7), (4, 1, 2, 8)])
def test_errors_name_negatives(shape):
  z = jnp.ones((4, 8))
  with pytest.raises(ValueError, match=r'negatives must have shape \[m, 8\] or \[4, m, 8\], got'):
    losses.info_nce(z, z, jnp.ones(shape))


@pytest.mark.parametrize('implementation', ['dense', 'tiled'])
def test_accuracy_of_nan_is_zero(implementation):
  z = jnp.eye(3)
  assert losses.contrastive_accuracy(z * jnp.nan, z, implementation=implementation) == 0


@pytest.mark.parametrize('temperature', [-0.01, -0.02, -0.5])
def test_negative_temperatures_are_the_same_in_tiles(temperature):
  z1, z2 = jax.random.normal(jax.random.key(0), (2, 64, 8))
  dense, tiled = (jax.value_and_grad(losses.nt_xent)(z1, z2, temperature=temperature, implementation=implementation)
                  for implementation in ('dense', 'tiled'))
  np.testing.assert_allclose(tiled[0], dense[0], rtol=1e-5)
  np.testing.assert_allclose(tiled[1], dense[1], atol=1e-4 * float(jnp.abs(dense[1]).max()))


@pytest.mark.parametrize('length', [1e-6, 1.0, 1e18, 1e20, 3e37])
def test_embeddings_of_any_length(length):
  z = jnp.eye(3) + 0.1
  np.testing.assert_allclose(losses.nt_xent(z * length, z * length), losses.nt_xent(z, z), rtol=1e-5)
