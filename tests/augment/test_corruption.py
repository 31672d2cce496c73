"""Noise for denoising autoencoders: how much of it, where, and what it leaves alone."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxssl import augment

X = jnp.asarray(np.random.default_rng(0).uniform(0.2, 0.8, (8, 50, 50, 2)).astype(np.float32))
KEY = jax.random.key(1)


def within_five_sigma(count, n, rate):
  return abs(count - n * rate) < 5 * np.sqrt(n * rate * (1 - rate))


def test_masking_sets_its_share_to_zero_and_leaves_the_rest():
  y = np.asarray(augment.MaskingNoise(0.4)(KEY, X))
  assert within_five_sigma((y == 0).sum(), y.size, 0.4)
  np.testing.assert_array_equal(y[y != 0], np.asarray(X)[y != 0])


def test_salt_and_pepper_are_as_frequent():
  y = np.asarray(augment.SaltAndPepperNoise(0.3)(KEY, X))
  assert within_five_sigma((y == 0).sum(), y.size, 0.15) and within_five_sigma((y == 1).sum(), y.size, 0.15)
  untouched = (y != 0) & (y != 1)
  np.testing.assert_array_equal(y[untouched], np.asarray(X)[untouched])


def test_gaussian_noise_has_its_standard_deviation():
  noise = np.asarray(augment.GaussianNoise(0.25)(KEY, X) - X, np.float64)
  assert abs(noise.mean()) < 5 * 0.25 / np.sqrt(noise.size)
  np.testing.assert_allclose(noise.std(), 0.25, rtol=0.02)


@pytest.mark.parametrize('corrupt', [
    augment.MaskingNoise(0.0), augment.SaltAndPepperNoise(0.0), augment.GaussianNoise(0.0)])
def test_none_of_it_changes_nothing(corrupt):
  np.testing.assert_array_equal(corrupt(KEY, X), X)


@pytest.mark.parametrize('corrupt', [
    augment.MaskingNoise(), augment.SaltAndPepperNoise(), augment.GaussianNoise()])
def test_every_entry_and_every_key_draws_its_own(corrupt):
  x = jnp.full((2, 40, 40, 2), 0.5)
  y = np.asarray(jax.jit(corrupt)(KEY, x))
  assert y.shape == x.shape and y.dtype == np.float32
  assert not np.array_equal(y[0], y[1]) and not np.array_equal(y[..., 0], y[..., 1])
  assert not np.array_equal(y, corrupt(jax.random.key(2), x))


@pytest.mark.parametrize('make, message', [
    (lambda: augment.MaskingNoise(1.5), r'rate must lie in \[0, 1\], got 1.5'),
    (lambda: augment.SaltAndPepperNoise(-0.1), r'rate must lie in \[0, 1\], got -0.1'),
    (lambda: augment.GaussianNoise(float('inf')), 'sigma must be finite and not negative, got inf'),
])
def test_refuses_what_is_no_amount(make, message):
  with pytest.raises(ValueError, match=message):
    make()
