"""Autoencoders: the linear one is PCA; noise and sparsity do what they say."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxssl import augment, methods, models
from jaxssl.methods.autoencoder import KLSparsity, KSparse, L1Sparsity

KEY = jax.random.key(0)
X = jnp.asarray(np.random.default_rng(0).uniform(size=(8, 8, 6, 1)).astype(np.float32))


def make(**fields):
  fields = {'code_size': 5, 'optimizer': optax.adam(1e-2), **fields}
  return methods.Autoencoder(models.MLPEncoder((12,)), models.MLPDecoder((12,)), **fields)


def start(method, x=X):
  return jax.jit(method.init)(KEY, {'views': (x,)})


def train(method, x, steps):
  step = lambda state, i: method.step(state, {'views': (x,)}, jax.random.fold_in(KEY, i))
  state, metrics = jax.jit(lambda state: jax.lax.scan(step, state, jnp.arange(steps)))(start(method, x))
  return state, metrics['loss']


class Linear(models.MLPEncoder):
  """Only flattens."""

  def __call__(self, x, train=False):
    return x.reshape(x.shape[0], -1)


def test_a_linear_autoencoder_finds_the_subspace_of_pca():
  rng = np.random.default_rng(3)
  x = (rng.normal(size=(256, 4)) * [4, 3, 2, 1.5]) @ rng.normal(size=(4, 10)) + 0.05 * rng.normal(size=(256, 10)) + 1
  x = jnp.asarray(x.astype(np.float32))
  method = methods.Autoencoder(
      Linear(), models.MLPDecoder(()), optax.adam(optax.cosine_decay_schedule(0.02, 3000)), code_size=3)
  state, _ = train(method, x, 3000)
  weight = np.asarray(state.params['decoder']['output']['kernel'], np.float64).T  # [10, 3]
  centred = np.asarray(x, np.float64) - np.asarray(x, np.float64).mean(axis=0)
  axes = np.linalg.svd(centred, full_matrices=False)[2][:3].T
  cosines = np.linalg.svd(np.linalg.qr(weight)[0].T @ axes, compute_uv=False)
  assert np.degrees(np.arccos(np.minimum(cosines.min(), 1))) < 0.5, 'the largest principal angle'
  best = np.mean(np.sum((centred - centred @ axes @ axes.T) ** 2, axis=1))
  error = float(np.mean(method.score(state, x, KEY)['squared_error'])) * 10
  np.testing.assert_allclose(error, best, rtol=1e-2)
  assert error > best * (1 - 1e-3), 'no linear map of three dimensions does better'


def test_the_loss_is_the_squared_error_of_a_whole_example():
  method = make()
  state = start(method)
  loss, (_, metrics) = method.loss(state.params, state.stats, X, KEY)
  y = method.reconstruct(state, X, KEY)['reconstruction']
  np.testing.assert_allclose(loss, np.sum((np.asarray(y) - X) ** 2) / len(X), rtol=1e-5)
  np.testing.assert_allclose(metrics['squared_error'] * 8 * 6, loss, rtol=1e-5)
  np.testing.assert_allclose(np.mean(method.score(state, X, KEY)['squared_error']), metrics['squared_error'], rtol=1e-5)


def test_the_bernoulli_loss_is_the_cross_entropy():
  method = make(likelihood='bernoulli')
  state = start(method)
  y = np.asarray(method.reconstruct(state, X, KEY)['reconstruction'], np.float64)
  assert y.min() > 0 and y.max() < 1
  expected = -np.sum(X * np.log(y) + (1 - X) * np.log1p(-y)) / len(X)
  np.testing.assert_allclose(method.loss(state.params, state.stats, X, KEY)[0], expected, rtol=1e-5)


def test_decoding_the_code_is_the_reconstruction():
  for method in (make(), make(likelihood='bernoulli'), make(sparsity=KSparse(2))):
    state = start(method)
    z = method.represent(state, X, 'z')
    assert z.shape == (8, 5)
    np.testing.assert_allclose(
        method.decode(state, z, (8, 6, 1)), method.reconstruct(state, X, KEY)['reconstruction'], atol=1e-6)


def test_denoising_reconstructs_the_clean_input_from_a_noisy_one():
  method = make(corruption=augment.MaskingNoise(0.5))
  state = start(method)
  pictures = method.reconstruct(state, X, KEY)
  noisy = method.corruption(KEY, X)
  np.testing.assert_array_equal(pictures['noisy'], noisy)
  y = method.decode(state, method.represent(state, noisy), (8, 6, 1))
  np.testing.assert_allclose(pictures['reconstruction'], y, atol=1e-6)
  expected = np.sum((np.asarray(y) - X) ** 2) / len(X)  # Over all pixels of the clean one, not the masked alone.
  np.testing.assert_allclose(method.loss(state.params, state.stats, X, KEY)[0], expected, rtol=1e-5)
  scores = method.score(state, X, KEY, samples=3)
  noise = [np.mean((method.reconstruct(state, X, key)['reconstruction'] - X) ** 2, axis=(1, 2, 3))
           for key in jax.random.split(KEY, 3)]
  np.testing.assert_allclose(scores['denoising_error'], np.mean(noise, axis=0), rtol=1e-4)
  assert not np.allclose(scores['denoising_error'], scores['squared_error'], rtol=1e-2)


def test_sparse_codes_are_sparse():
  dense, _ = train(make(), X, 60)
  k_sparse, _ = train(make(sparsity=KSparse(2)), X, 60)
  assert np.all(np.sum(np.asarray(make(sparsity=KSparse(2)).represent(k_sparse, X)) != 0, axis=1) == 2)
  assert np.all(np.asarray(make().represent(dense, X)) != 0)
  l1 = make(sparsity=L1Sparsity(3.0))
  strong, _ = train(l1, X, 60)
  weak, _ = train(make(sparsity=L1Sparsity(0.0)), X, 60)
  assert float(jnp.sum(l1.represent(strong, X))) < 0.2 * float(jnp.sum(l1.represent(weak, X)))


def test_sparsity_pulls_the_mean_activation_to_its_target():
  method = make(sparsity=KLSparsity(weight=100.0, target=0.1), optimizer=optax.adam(3e-2))
  state, _ = train(method, X, 200)
  z = np.asarray(method.represent(state, X))
  assert z.min() > 0 and z.max() < 1
  np.testing.assert_allclose(z.mean(axis=0), 0.1, atol=0.03)


def test_vectors_and_tuples_of_one_view():
  x = jnp.asarray(np.random.default_rng(1).normal(size=(6, 9)).astype(np.float32))
  method = methods.Autoencoder(models.MLPEncoder((7,)), models.MLPDecoder((7,)), optax.adam(1e-2), code_size=3)
  state = start(method, x)
  assert method.represent(state, (x,), 'h').shape == (6, 7)
  np.testing.assert_array_equal(method.represent(state, (x,)), method.represent(state, x))
  assert method.reconstruct(state, (x,), KEY)['reconstruction'].shape == (6, 9)


def test_a_resnet_serves_as_the_encoder():
  encoder = models.ResNet((1,), 'basic', (4,), stem='strided', pool='flatten')
  method = methods.Autoencoder(encoder, models.ConvDecoder((4,)), optax.adam(1e-2), code_size=5)
  state = start(method)
  step = jax.jit(lambda state, i: method.step(state, {'views': (X,)}, jax.random.fold_in(KEY, i)))
  losses = []
  for i in range(30):
    state, metrics = step(state, i)
    losses.append(float(metrics['loss']))
  assert losses[-1] < 0.7 * losses[0]


def test_paths_of_a_vision_transformer_are_dropped_in_training_alone():
  encoder = models.ViT(2, 8, 2, 2, drop_path=0.5, pool='mean')
  method = methods.Autoencoder(encoder, models.MLPDecoder(()), optax.adam(1e-2), code_size=3)
  state = start(method)
  loss = jax.jit(lambda key: method.loss(state.params, state.stats, X, key)[0])
  assert float(loss(KEY)) != float(loss(jax.random.key(1)))
  np.testing.assert_array_equal(method.represent(state, X), method.represent(state, X))
  with pytest.raises(ValueError, match="drop_path must be 0: this training passes no rng 'dropout'"):
    encoder.apply({'params': state.params['encoder']}, X, train=True)


@pytest.mark.parametrize('make_sparsity, message', [
    (lambda: KLSparsity(weight=-1.0), 'weight must be finite and not negative, got -1.0'),
    (lambda: L1Sparsity(weight=float('nan')), 'weight must be finite and not negative, got nan'),
    (lambda: KLSparsity(target=0.0), r'target must lie in \(0, 1\), got 0.0'),
    (lambda: KLSparsity(target=1.0), r'target must lie in \(0, 1\), got 1.0'),
])
def test_sparsity_refuses(make_sparsity, message):
  with pytest.raises(ValueError, match=message):
    make_sparsity()


@pytest.mark.parametrize('fields, message', [
    ({'code_size': 0}, 'code_size must be positive, got 0'),
    ({'likelihood': 'poisson'}, "likelihood must be one of 'gaussian', 'bernoulli', got 'poisson'"),
    ({'sparsity': KSparse(6)}, 'sparsity.k must lie between 1 and code_size = 5, got 6'),
])
def test_refuses(fields, message):
  with pytest.raises(ValueError, match=message):
    make(**fields)
