import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxssl.evaluation import features


class _Lazy:
  """Images that exist only when they are asked for."""

  def __init__(self, images):
    self._images, self.calls = images, []

  def __len__(self):
    return len(self._images)

  def __getitem__(self, index):
    assert isinstance(index, np.ndarray)
    self.calls.append(len(index))
    return self._images[index]


@pytest.mark.parametrize('n, batch_size', [(1, 4), (4, 4), (13, 4), (13, 64)])
def test_every_image_once_in_order_with_one_shape(n, batch_size):
  images = np.random.default_rng(0).integers(0, 256, (n, 3, 5, 2), np.uint8)
  shapes = []

  @jax.jit
  def encode(x):
    shapes.append(x.shape)
    return 2 * features.flatten(x)

  lazy = _Lazy(images)
  found = features.extract(encode, lazy, batch_size=batch_size)
  assert found.dtype == np.float32
  np.testing.assert_allclose(found, 2 * (images.reshape(n, -1) / 255), rtol=1e-6)
  assert shapes == [(batch_size, 3, 5, 2)]
  assert lazy.calls == [batch_size] * -(-n // batch_size)


def test_floats_pass_and_low_precision_is_widened():
  images = np.random.default_rng(0).random((5, 4), np.float32)
  np.testing.assert_array_equal(features.extract(lambda x: x, images, batch_size=2), images)
  found = features.extract(lambda x: x.astype(jnp.bfloat16), images, batch_size=2)
  assert found.dtype == np.float32
  np.testing.assert_allclose(found, images, atol=4e-3)


def test_prepare_sees_the_images_as_stored():
  images = np.arange(12, dtype=np.uint8).reshape(6, 2)
  found = features.extract(lambda x: x, images, batch_size=4, prepare=lambda x: jnp.asarray(x, jnp.float32) + 1)
  np.testing.assert_array_equal(found, images + 1.0)


def test_errors():
  images = np.zeros((3, 2, 2, 1), np.uint8)
  with pytest.raises(ValueError, match='images is empty'):
    features.extract(features.flatten, images[:0])
  with pytest.raises(ValueError, match=r'got shape \[2, 2, 2, 1\]'):
    features.extract(lambda x: x, images, batch_size=2)
  with pytest.raises(ValueError, match='batch_size must be at least 1, got 0'):
    features.extract(features.flatten, images, batch_size=0)


def test_features_that_are_not_finite_are_refused():
  images = np.zeros((7, 2, 2, 1), np.float32)
  images[3] = np.nan
  with pytest.raises(FloatingPointError, match='of 1 of 7 images are not finite'):
    features.extract(lambda x: x.reshape(x.shape[0], -1), images, batch_size=4)


def test_raw_pixels_of_several_views():
  from jaxssl import recipes
  rng = np.random.default_rng(0)
  images = jnp.float32(rng.uniform(size=(3, 8, 8, 3)))
  colours = recipes.multiview(8)
  np.testing.assert_allclose(features.pixels(images, colours, 3), images.reshape(3, -1), atol=1e-6)
  assert features.pixels(images, colours, 3, (0, 1)).shape == (3, 192), 'all views: the image'
  assert features.pixels(images, colours, 3, (1,)).shape == (3, 128), 'ab alone'
  views = images, jnp.float32(1000 * rng.normal(size=(3, 5)))
  both = features.pixels(views, recipes.paired(8), 3, (0, 1))
  assert both.shape == (3, 197)
  np.testing.assert_allclose(jnp.linalg.norm(both[:, :192], axis=1), 1, rtol=1e-5)
  np.testing.assert_allclose(jnp.linalg.norm(both[:, 192:], axis=1), 1, rtol=1e-5)
  assert features.pixels(views, recipes.paired(8), 3, (1,)).shape == (3, 5)
