"""What is drawn: ranges, frequencies, uniformity, independence."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from jaxssl import augment
from jaxssl.augment import sampling
from jaxssl.recipes import View

KEYS = jax.random.split(jax.random.key(0), 4000)
VIEW = View(32, solarize=0.3, rotation=20.0, shear=0.1, log_scale=0.2, translation=0.1, elastic=0.05, thickness=1.5)


@pytest.fixture(scope='module')
def draws():
  return jax.tree.map(np.asarray, jax.jit(jax.vmap(lambda key: augment.sample(key, VIEW, 64, 96)))(KEYS))


def uniform(values, low, high):
  assert values.min() >= low and values.max() <= high
  assert stats.kstest(values, stats.uniform(low, high - low).cdf).pvalue > 1e-3


def test_probabilities(draws):
  for name, probability in (('flip', 0.5), ('jitter', 0.8), ('grey', 0.2), ('blur', 0.5), ('solarize', 0.3)):
    drawn = getattr(draws, name)
    assert drawn.dtype == bool
    assert stats.binomtest(int(drawn.sum()), len(drawn), probability).pvalue > 1e-3, name


def test_factors_are_uniform(draws):
  for name, low, high in (
      ('brightness', 0.2, 1.8), ('contrast', 0.2, 1.8), ('saturation', 0.2, 1.8), ('hue', -0.2, 0.2),
      ('sigma', 0.1, 2.0), ('thickness', -1.5, 1.5)):
    uniform(getattr(draws, name), low, high)


def test_brightness_never_falls_below_zero():
  drawn = jax.jit(jax.vmap(lambda key: augment.sample(key, View(8, brightness=2.0), 8, 8).brightness))(KEYS)
  uniform(np.asarray(drawn), 0.0, 3.0)


def test_affine_and_elastic(draws):
  linear = draws.affine[:, :, :2]
  scale = np.sqrt(np.linalg.det(linear))  # Shears and rotations keep areas.
  uniform(-np.log(scale), -0.2, 0.2)
  uniform(np.rad2deg(np.arctan2(linear[:, 0, 1], linear[:, 0, 0])), -20.0, 20.0)
  shift = -0.5 * np.linalg.solve(linear, draws.affine[:, :, 2:])[..., 0]
  uniform(shift[:, 0], -0.1 - 1e-6, 0.1 + 1e-6)
  uniform(shift[:, 1], -0.1 - 1e-6, 0.1 + 1e-6)
  assert draws.elastic.shape == (4000, 4, 4, 2)
  assert stats.kstest(draws.elastic.ravel() / 0.1, 'norm').pvalue > 1e-3


def boxes(height, width, area, ratio):
  draw = jax.jit(jax.vmap(lambda key: sampling.crop_box(key, height, width, area, ratio)))
  return np.asarray(draw(KEYS)).astype(float)


def test_crops_lie_in_the_image_and_its_ranges():
  top, left, height, width = boxes(500, 700, (0.2, 0.5), (0.5, 2.0)).T
  assert (top >= 0).all() and (left >= 0).all() and (top + height <= 500).all() and (left + width <= 700).all()
  assert (height * width / 350_000).min() > 0.198 and (height * width / 350_000).max() < 0.502
  assert (width / height).min() > 0.495 and (width / height).max() < 2.02


def test_crops_are_uniform_in_area_log_ratio_and_place():
  top, left, height, width = boxes(500, 500, (0.1, 0.5), (3 / 4, 4 / 3)).T  # All draws fit: nothing is rejected.
  noise = np.random.default_rng(0).uniform(size=(2, len(top)))
  assert stats.kstest(height * width / 250_000, stats.uniform(0.1, 0.4).cdf).pvalue > 1e-3
  log = np.log(4 / 3)
  assert stats.kstest(np.log(width / height), stats.uniform(-log, 2 * log).cdf).pvalue > 1e-3
  for corner, extent, u in ((top, height, noise[0]), (left, width, noise[1])):
    assert stats.kstest((corner + u) / (501 - extent), 'uniform').pvalue > 1e-3


def test_a_ratio_that_never_fits_gives_the_largest_centred_box():
  assert (boxes(10, 100, (1.0, 1.0), (1.0, 1.0)) == [0, 45, 10, 10]).all()
  assert (boxes(100, 10, (1.0, 1.0), (0.5, 0.5)) == [40, 0, 20, 10]).all()


def test_crops_of_the_whole_square_are_the_whole_square():
  assert (boxes(28, 28, (1.0, 1.0), (1.0, 1.0)) == [0, 0, 28, 28]).all()


def test_same_key_same_draw_and_other_keys_other_draws(draws):
  again = augment.sample(KEYS[7], VIEW, 64, 96)
  for one, other in zip(jax.tree.leaves(again), jax.tree.leaves(draws), strict=True):
    np.testing.assert_allclose(one, other[7], rtol=1e-6)
  assert len(np.unique(draws.hue)) > 3990


def test_quantities_are_independent(draws):
  columns = [draws.brightness, draws.contrast, draws.saturation, draws.hue, draws.sigma, draws.thickness, draws.flip,
             draws.jitter, draws.grey, draws.blur, draws.solarize, draws.box[:, 0],
             draws.affine[:, 0, 1], draws.affine[:, 0, 2], draws.elastic[:, 0, 0, 0], draws.elastic[:, 0, 0, 1]]
  correlation = np.corrcoef(np.array(columns, float))
  assert np.abs(correlation - np.eye(len(columns))).max() < 5 / np.sqrt(4000)


def test_jitter_order_is_any_permutation():
  orders = np.asarray(jax.jit(jax.vmap(augment.jitter_order))(KEYS))
  names, counts = np.unique(orders, axis=0, return_counts=True)
  assert len(names) == 24 and (np.sort(names, axis=1) == np.arange(4)).all()
  assert stats.chisquare(counts).pvalue > 1e-3


def test_strength_zero_draws_nothing():
  params = augment.sample(jax.random.key(0), View(8, thickness=0.0), 8, 8)
  np.testing.assert_allclose(params.affine, jnp.eye(2, 3), atol=1e-7)
  assert not np.asarray(params.elastic).any() and params.thickness == 0
