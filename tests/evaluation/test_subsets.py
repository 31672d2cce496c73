import numpy as np
import pytest

from jaxssl.evaluation.subsets import balanced_subset, count_shared, evenly_spread


@pytest.mark.parametrize(
    'fraction, counts', [(0.01, [1, 1, 1]), (0.1, [1, 2, 10]), (0.5, [1, 10, 50]), (1, [1, 20, 100])])
def test_each_class_gives_its_share(fraction, counts):
  labels = np.random.default_rng(0).permutation(np.repeat([3, 5, 9], [1, 20, 100]))
  kept = balanced_subset(labels, fraction)
  assert (np.diff(kept) > 0).all()
  np.testing.assert_array_equal([np.sum(labels[kept] == c) for c in (3, 5, 9)], counts)


def test_deterministic_nested_and_spread_over_the_set():
  labels = np.repeat(np.arange(10), 100)
  small, large = balanced_subset(labels, 0.05, seed=4), balanced_subset(labels, 0.2, seed=4)
  np.testing.assert_array_equal(small, balanced_subset(labels, 0.05, seed=4))
  assert set(small) < set(large)
  assert set(small) != set(balanced_subset(labels, 0.05, seed=5))
  # Not the first of every class: their mean position is near the middle.
  assert 35 < np.mean(large % 100) < 65


@pytest.mark.parametrize('fraction', [0, -0.1, 1.5])
def test_fraction_is_checked(fraction):
  with pytest.raises(ValueError, match='fraction must be in'):
    balanced_subset(np.arange(3), fraction)


@pytest.mark.parametrize('n, count, expected', [
    (9, 3, [0, 4, 8]), (4, 4, range(4)), (3, 10, range(3)), (5, 1, [0]), (1, 1, [0])])
def test_indices_are_spread_from_the_first_to_the_last(n, count, expected):
  np.testing.assert_array_equal(evenly_spread(n, count), expected)


def test_shared_images_are_counted_where_both_are_arrays_of_one_shape():
  images = np.random.default_rng(0).integers(0, 256, (10, 4, 4, 1), np.uint8)
  assert count_shared(images[3:7], images) == 4
  assert count_shared(np.concatenate([images[:2], 255 - images[:1]]), images) == 2
  assert count_shared(images, images[:, :2]) is None
  assert count_shared(images, list(images)) is None
