"""Losses of codes against loops, and whom their gradients reach."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import reconstruction_reference as reference
from jax import lax
from jax.sharding import PartitionSpec as P

from jaxssl import losses

RNG = np.random.default_rng(0)
CODES = RNG.normal(size=(16, 6))
ACTIVATIONS = RNG.uniform(size=(16, 6))
Z_E, NEAREST = RNG.normal(size=(2, 16, 2, 3, 4))
# Every loss with arrays that begin with the batch, and whether it returns a mean over it.
CASES = {
    'l1_sparsity': (losses.l1_sparsity, (CODES,), True),
    'k_sparse': (lambda codes: losses.k_sparse(codes, 3), (CODES,), False),
    'codebook_loss': (losses.codebook_loss, (Z_E, NEAREST), True),
    'commitment_loss': (losses.commitment_loss, (Z_E, NEAREST), True),
    'straight_through': (losses.straight_through, (Z_E, NEAREST), False),
    'sparsity_kl': (losses.sparsity_kl, (ACTIVATIONS,), False),
}
MESH = jax.make_mesh((8,), ('i',), axis_types=(jax.sharding.AxisType.Auto,))


def close(found, expected, tolerance=2e-6):
  assert found.dtype == jnp.float32
  np.testing.assert_allclose(found, expected, rtol=tolerance, atol=tolerance)


def test_they_equal_the_slow_references():
  for target in (0.05, 0.5, 0.9):
    close(losses.sparsity_kl(ACTIVATIONS, target=target), reference.sparsity_kl(ACTIVATIONS, target), 5e-6)
  close(losses.l1_sparsity(Z_E), np.mean([sum(abs(x) for x in z.flat) for z in Z_E]))
  for k in (1, 3, 6):
    close(losses.k_sparse(CODES, k), reference.k_sparse(CODES, k))
  close(losses.codebook_loss(Z_E, NEAREST), reference.quantization_error(Z_E, NEAREST))
  close(losses.commitment_loss(Z_E, NEAREST), reference.quantization_error(Z_E, NEAREST))
  for counts in ([3, 0, 5, 1], [7], [0.25, 1e-3, 2.0]):
    close(losses.codebook_perplexity(jnp.array(counts)), reference.codebook_perplexity(counts), 5e-6)


def test_units_active_as_often_as_desired_cost_nothing():
  often = jnp.tile(jnp.array([[0.0], [0.5]]), (1, 3))
  value, gradient = jax.value_and_grad(lambda a: losses.sparsity_kl(a, target=0.25))(often)
  assert abs(value) < 1e-6 and np.all(np.abs(gradient) < 1e-5)


def test_units_always_on_or_off_cost_much_and_are_pushed_back():
  extremes = jnp.tile(jnp.array([[0.0, 1.0]]), (4, 1))
  value, gradient = jax.value_and_grad(losses.sparsity_kl)(extremes)
  assert np.isfinite(value) and value > 10
  assert np.all(np.isfinite(gradient)) and np.all(gradient[:, 0] < 0) and np.all(gradient[:, 1] > 0)
  of_logits = jax.grad(lambda logits: losses.sparsity_kl(jax.nn.sigmoid(logits)))
  for logit in (-200.0, -20.0, 20.0, 200.0):  # The sigmoid's slope takes the edge off.
    assert np.all(np.abs(of_logits(jnp.full((4, 2), logit))) < 1)


def test_of_equal_entries_the_first_are_kept():
  codes = jnp.array([[1.0, 2.0, 2.0, 2.0], [0.0, 0.0, 0.0, 0.0], [-1.0, -1.0, -3.0, -1.0]])
  np.testing.assert_array_equal(losses.k_sparse(codes, 2), [[0, 2, 2, 0], [0, 0, 0, 0], [-1, -1, 0, 0]])
  gradient = jax.grad(lambda codes: losses.k_sparse(codes, 2).sum())(codes)
  np.testing.assert_array_equal(gradient, [[0, 1, 1, 0], [1, 1, 0, 0], [1, 1, 0, 0]])


def test_gradients_reach_their_side_alone():
  z_e, codes = jnp.float32(Z_E), jnp.float32(NEAREST)
  of_z, of_codes = jax.grad(losses.codebook_loss, (0, 1))(z_e, codes)
  assert not np.any(of_z)
  close(of_codes, 2 * (codes - z_e) / (16 * 2 * 3))
  of_z, of_codes = jax.grad(losses.commitment_loss, (0, 1))(z_e, codes)
  assert not np.any(of_codes)
  close(of_z, 2 * (z_e - codes) / (16 * 2 * 3))


def test_straight_through_is_the_codes_with_the_gradient_of_the_identity():
  z_e, codes = jnp.float32(Z_E) * 1e3, jnp.float32(NEAREST) * 1e-3  # So that a sum would lose digits of the codes.
  np.testing.assert_array_equal(losses.straight_through(z_e, codes), codes)
  _, pull = jax.vjp(losses.straight_through, z_e, codes)
  cotangent = jnp.float32(RNG.normal(size=Z_E.shape))
  of_z, of_codes = pull(cotangent)
  np.testing.assert_array_equal(of_z, cotangent)
  assert not np.any(of_codes)


def test_perplexity_lies_between_one_and_the_number_of_codes():
  for seed in range(5):
    counts = np.random.default_rng(seed).geometric(0.01, 50)
    assert 1 < losses.codebook_perplexity(counts) < 50
  np.testing.assert_allclose(losses.codebook_perplexity(jnp.full(50, 7)), 50, rtol=1e-5)
  assert losses.codebook_perplexity(jnp.array([0, 9, 0])) == 1
  assert losses.codebook_perplexity(jnp.zeros(3)) == 1
  np.testing.assert_allclose(losses.codebook_perplexity(jnp.array([2**30, 2**30])), 2, rtol=1e-6)
  np.testing.assert_allclose(losses.codebook_perplexity(np.array([2**33, 2**33])), 2, rtol=1e-6)  # Beyond int32.


@pytest.mark.parametrize('target', [1e-50, 1 - 1e-12])
def test_targets_near_the_ends_are_finite(target):
  assert np.isfinite(losses.sparsity_kl(jnp.full((4, 2), 0.5), target=target))


@pytest.mark.parametrize('name', ['l1_sparsity', 'k_sparse', 'codebook_loss', 'commitment_loss', 'straight_through'])
def test_under_jit_and_over_devices(name):
  """Value and gradient on eight devices, means averaged by pmean, are those of the whole batch."""
  function, arguments, averaged = CASES[name]
  arguments = [jnp.float32(x) for x in arguments]
  total = lambda f: lambda *args: jnp.sum(jnp.cos(jnp.arange(f(*args).size)) * f(*args).ravel())
  one_device = lambda *args: lax.pmean(function(*args), 'i') if averaged else function(*args)
  mapped = jax.shard_map(one_device, mesh=MESH, in_specs=P('i'), out_specs=P() if averaged else P('i'))
  close(jax.jit(function)(*arguments), function(*arguments))
  close(mapped(*arguments), function(*arguments))
  numbers = tuple(range(len(arguments)))
  for found, expected in zip(jax.jit(jax.grad(total(mapped), numbers))(*arguments),
                             jax.grad(total(function), numbers)(*arguments), strict=True):
    close(found, expected, 1e-5)


def test_what_is_no_mean_over_devices_is_made_of_what_is():
  """The sparsity of the batch is that of the mean activations, its perplexity that of the summed counts."""
  activations, counts = jnp.float32(ACTIVATIONS), jnp.arange(16 * 5) % 7

  def one_device(activations, counts):
    mean = lax.pmean(jnp.mean(activations, axis=0, keepdims=True), 'i')
    return losses.sparsity_kl(mean), losses.codebook_perplexity(lax.psum(counts.reshape(-1, 5).sum(axis=0), 'i'))

  found = jax.shard_map(one_device, mesh=MESH, in_specs=P('i'), out_specs=P())(activations, counts)
  close(found[0], jax.jit(losses.sparsity_kl)(activations))
  close(found[1], losses.codebook_perplexity(counts.reshape(16, 5).sum(axis=0)))


@pytest.mark.parametrize('name', CASES)
@pytest.mark.parametrize('dtype', [jnp.bfloat16, jnp.float16])
def test_half_precision_is_computed_in_float32(name, dtype):
  function, arguments, _ = CASES[name]
  rounded = [jnp.asarray(x, dtype) for x in arguments]
  np.testing.assert_array_equal(function(*rounded), function(*(x.astype(jnp.float32) for x in rounded)))
  assert function(*rounded).dtype == jnp.float32


@pytest.mark.parametrize('call, message', [
    (lambda: losses.sparsity_kl(ACTIVATIONS[0]), r'activations must have shape \[n, d\], neither of them 0, got'),
    (lambda: losses.sparsity_kl(ACTIVATIONS, target=1.0), r'target must be a Python number, in \[0, 1\), got 1.0'),
    (lambda: losses.sparsity_kl(ACTIVATIONS, target=0.0), 'target must be positive, got 0.0'),
    (lambda: losses.l1_sparsity(jnp.arange(3)), 'codes must be a floating-point array, got int32'),
    (lambda: losses.l1_sparsity(1.0), r'codes must have shape \[b, ...\], none of them 0, got \[\]'),
    (lambda: losses.k_sparse(CODES, 0), 'k must be an integer, from 1 to 6, got 0'),
    (lambda: losses.k_sparse(CODES, 7), 'k must be an integer, from 1 to 6, got 7'),
    (lambda: losses.k_sparse(CODES, 2.0), 'k must be an integer, from 1 to 6, got 2.0'),
    (lambda: losses.k_sparse(CODES[0], 1), r'codes must have shape \[n, d\], neither of them 0, got \[6\]'),
    (lambda: losses.codebook_loss(Z_E, CODES), r'codes must have the shape of z_e, \[16, 2, 3, 4\], got \[16, 6\]'),
    (lambda: losses.commitment_loss(Z_E, CODES), 'codes must have the shape of z_e'),
    (lambda: losses.commitment_loss(Z_E.astype(int), Z_E), 'z_e must be a floating-point array, got int32'),
    (lambda: losses.straight_through(CODES, Z_E), 'codes must have the shape of z_e'),
    (lambda: losses.codebook_perplexity(CODES), r'counts must be \[K\], got shape \[16, 6\]'),
    (lambda: losses.codebook_perplexity(jnp.zeros(0)), r'counts must be \[K\], got shape \[0\]'),
])
def test_mistakes_are_named(call, message):
  with pytest.raises(ValueError, match=message):
    call()
