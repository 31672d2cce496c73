"""Random operations on patches: what they may do, how often, and that every patch draws for itself."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxssl import augment

PATCHES = np.random.default_rng(0).random((4, 10, 10, 8, 8, 3), np.float32)
KEY = jax.random.key(0)
OPERATIONS = [augment.random_subcrop, augment.random_color_drop, augment.random_patch_flip]


def test_subcrop_is_a_crop_with_zeros_around():
  results = np.asarray(augment.random_subcrop(KEY, PATCHES, 6 / 8)).reshape(-1, 8, 8, 3)
  seen = np.zeros((3, 3), int)
  for patch, result in zip(PATCHES.reshape(-1, 8, 8, 3), results, strict=True):
    assert result.any(axis=2).sum() == 36 and result[1:7, 1:7].all()
    equal = [
        (top, left) for top, left in np.ndindex(3, 3)
        if (patch[top:top + 6, left:left + 6] == result[1:7, 1:7]).all()]
    assert len(equal) == 1
    seen[equal[0]] += 1
  assert seen.min() > 400 / 9 - 4 * np.sqrt(400 / 9)  # Four standard deviations.


@pytest.mark.parametrize('side, size', [(64, 60), (16, 15), (8, 7), (1, 1)])
def test_subcrop_keeps_60_of_64_pixels(side, size):
  result = augment.random_subcrop(KEY, jnp.ones((2, side, side, 1)))
  assert result.shape == (2, side, side, 1)
  assert (result.sum((1, 2, 3)) == size**2).all()


def test_color_drop_keeps_one_channel():
  results = np.asarray(augment.random_color_drop(KEY, PATCHES))
  kept = results.any(axis=(3, 4))
  assert (kept.sum(-1) == 1).all()
  np.testing.assert_array_equal(results, PATCHES * kept[..., None, None, :])
  assert np.abs(kept.reshape(-1, 3).mean(0) - 1 / 3).max() < 4 * np.sqrt(2 / 9 / 400)
  some = np.asarray(augment.random_color_drop(KEY, PATCHES, 0.3)).any(axis=(3, 4)).sum(-1)
  assert set(some.flat) == {1, 3} and abs((some == 1).mean() - 0.3) < 4 * np.sqrt(0.21 / 400)
  np.testing.assert_array_equal(augment.random_color_drop(KEY, PATCHES[..., :1]), PATCHES[..., :1])


def test_patch_flip_mirrors_or_leaves():
  results = np.asarray(augment.random_patch_flip(KEY, PATCHES, 0.3))
  flipped = (results == PATCHES[..., ::-1, :]).all((3, 4, 5))
  assert np.logical_xor(flipped, (results == PATCHES).all((3, 4, 5))).all()
  assert abs(flipped.mean() - 0.3) < 4 * np.sqrt(0.21 / 400)


@pytest.mark.parametrize('operation', OPERATIONS)
def test_the_key_decides(operation):
  first = np.asarray(operation(KEY, PATCHES))
  assert first.dtype == PATCHES.dtype
  np.testing.assert_array_equal(jax.jit(operation)(KEY, PATCHES), first)
  assert (np.asarray(operation(jax.random.key(1), PATCHES)) != first).any()
  changed = operation(KEY, jnp.asarray(np.broadcast_to(PATCHES[:1, :1, :1], PATCHES.shape)))
  assert len(np.unique(np.asarray(changed).reshape(400, -1), axis=0)) > 1  # One patch, drawn anew in each place.
  one = jax.vmap(lambda key, patch: operation(key, patch))(jax.random.split(KEY, 4), PATCHES[:, 0, 0])
  assert one.shape == (4, 8, 8, 3)


@pytest.mark.parametrize('operation', OPERATIONS)
def test_patches_must_be_square(operation):
  with pytest.raises(ValueError, match=r'patches must be squares \[..., p, p, c\], got shape \(2, 8, 6, 3\)'):
    operation(KEY, jnp.zeros((2, 8, 6, 3)))


def test_share_must_be_a_share():
  with pytest.raises(ValueError, match=r'share must lie in \(0, 1\], got 60'):
    augment.random_subcrop(KEY, PATCHES, 60)
