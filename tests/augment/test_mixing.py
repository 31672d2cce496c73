"""Mixup and cutmix: what labels weigh is what pixels show, and both against the same in NumPy."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxssl.augment import cutmix, mixup, mixup_or_cutmix

KEYS = jax.random.split(jax.random.key(0), 200)


def batch(height=9, width=14):
  rng = np.random.default_rng(0)
  return rng.uniform(0.1, 1, (5, height, width, 2)).astype(np.float32), np.eye(3, dtype=np.float32)[[0, 1, 2, 2, 1]]


@functools.cache
def mixed(op, alpha):
  """Images [200, b, h, w, c] and labels [200, b, c] by as many keys."""
  return jax.tree.map(np.asarray, jax.jit(jax.vmap(lambda key: op(key, *map(jnp.asarray, batch()), alpha)))(KEYS))


def test_mixup_against_numpy():
  images, labels = batch()
  found, weights = mixed(mixup, 0.8)
  np.testing.assert_allclose(weights.sum(axis=-1), 1, atol=1e-6)
  own = weights[:, 0, 0]  # The first image is of class 0, the last, its partner, of class 1.
  assert len(np.unique(own)) > 190 and own.min() < 0.1 and own.max() > 0.9
  for w, x, y in zip(own, found, weights, strict=True):
    np.testing.assert_allclose(x, w * images + (1 - w) * images[::-1], atol=1e-6)
    np.testing.assert_allclose(y, w * labels + (1 - w) * labels[::-1], atol=1e-6)
  # Of Beta(a, a): mean 1 / 2, variance 1 / (4 (2 a + 1)).
  np.testing.assert_allclose(own.mean(), 0.5, atol=0.07)
  np.testing.assert_allclose(own.var(), 1 / (4 * 2.6), atol=0.02)


def test_cutmix_shows_a_box_of_the_partner_and_weighs_it_by_its_area():
  images, labels = batch()
  found, weights = mixed(cutmix, 1.0)
  np.testing.assert_allclose(weights.sum(axis=-1), 1, atol=1e-6)
  areas = []
  for x, y in zip(found, weights, strict=True):
    theirs = (x[0] == images[::-1][0]).all(axis=-1)
    np.testing.assert_array_equal(x, np.where(theirs[None, :, :, None], images[::-1], images))
    # A box, sides at most even: all rows that hold any of it hold the same columns.
    rows, columns = theirs.any(axis=1), theirs.any(axis=0)
    np.testing.assert_array_equal(theirs, rows[:, None] & columns[None])
    for line in (rows, columns):
      assert np.abs(np.diff(line.astype(int))).sum() <= 2
    areas.append(theirs.mean())
    np.testing.assert_allclose(y, (1 - areas[-1]) * labels + areas[-1] * labels[::-1], atol=1e-6)
  assert min(areas) == 0 and max(areas) > 0.5 and len(set(areas)) > 30


def test_cutmix_against_numpy():
  """The box from the same draws, by timm's rule: sides int(size sqrt(1 - w)), a half either side of the centre."""
  images, labels = batch()
  boxes, weights = mixed(cutmix, 1.0)
  draws = jax.jit(lambda weight_key, keys: (
      jax.random.beta(weight_key, 1.0, 1.0),
      *(jax.random.randint(key, (), 0, size) for key, size in zip(keys, (9, 14), strict=True))))
  for key, found, y in zip(KEYS[:50], boxes, weights, strict=False):
    weight_key, *keys = jax.random.split(key, 3)
    w, *centres = draws(weight_key, keys)
    expected, area, spans = images.copy(), 1, []
    for size, centre in zip((9, 14), map(int, centres), strict=True):
      half = int(size * np.sqrt(1 - float(w))) // 2
      spans.append(slice(max(centre - half, 0), min(centre + half, size)))
      area *= (spans[-1].stop - spans[-1].start) / size
    expected[:, spans[0], spans[1]] = images[::-1][:, spans[0], spans[1]]
    np.testing.assert_array_equal(found, expected)
    np.testing.assert_allclose(y, (1 - area) * labels + area * labels[::-1], atol=1e-6)


def test_one_of_the_two():
  images, labels = map(jnp.asarray, batch())
  run = jax.jit(jax.vmap(lambda key: mixup_or_cutmix(key, images, labels, 0.8, 1.0, 0.25)))
  found, weights = run(KEYS)
  np.testing.assert_allclose(np.sum(weights, axis=-1), 1, atol=1e-6)
  whole = ((found == images[None]) | (found == images[::-1][None])).all(axis=(1, 2, 3, 4))
  assert 0.15 < np.mean(whole) < 0.35
  assert mixup_or_cutmix(KEYS[0], images, labels, 0.0, 0.0) == (images, labels)
  for op, alphas in ((mixup, (0.8, 0.0)), (cutmix, (0.0, 1.0))):
    found = mixup_or_cutmix(KEYS[0], images, labels, *alphas)
    for x, expected in zip(found, mixed(op, max(alphas)), strict=True):
      np.testing.assert_allclose(x, expected[0], atol=1e-6)


def test_views_get_the_same_box():
  images, labels = map(jnp.asarray, batch())
  (first, second), weights = cutmix(KEYS[3], (images, 2 * images[..., :1]), labels, 1.0)
  expected = cutmix(KEYS[3], images, labels, 1.0)
  np.testing.assert_array_equal(first, expected[0])
  np.testing.assert_array_equal(second, 2 * first[..., :1])
  np.testing.assert_array_equal(weights, expected[1])


def test_errors():
  images, labels = map(jnp.asarray, batch())
  with pytest.raises(ValueError, match='alpha must be positive, got 0'):
    mixup(KEYS[0], images, labels, 0)
  with pytest.raises(ValueError, match=r'images must be \[b, h, w, c\].*\(5, 4\)'):
    cutmix(KEYS[0], images[:, :4, 0, 0], labels, 1.0)
  for mix in (mixup, cutmix):
    with pytest.raises(ValueError, match='images must be floating-point, to be mixed, got uint8'):
      mix(KEYS[0], images.astype(jnp.uint8), labels, 1.0)
    with pytest.raises(ValueError, match='labels must be floating-point, to be mixed, got int32'):
      mix(KEYS[0], images, labels.astype(jnp.int32), 1.0)
  with pytest.raises(ValueError, match='switch must be a probability, got 2'):
    mixup_or_cutmix(KEYS[0], images, labels, 1.0, 1.0, 2)
