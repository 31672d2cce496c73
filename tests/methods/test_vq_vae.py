"""VQ-VAE against its step written out: whom gradients reach, how the codebook moves, and how it comes back to life."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxssl import losses, methods
from jaxssl.models import ConvDecoder, ConvEncoder, MLPDecoder, MLPEncoder, vector_quantizer

METHOD = methods.VQVAE(
    ConvEncoder((4, 6), pool='grid', batch_norm=False), ConvDecoder((6, 4), batch_norm=False), optax.adam(0.01),
    num_codes=7, code_dim=3, commitment=0.4, decay=0.8)
KEY = jax.random.key(0)


def variant(**fields):
  return methods.VQVAE(**{**vars(METHOD), **fields})


def make_batch(seed=0, size=6, shape=(8, 6, 1)):
  return {'views': (jax.random.uniform(jax.random.key(seed), (size, *shape)),)}


@functools.cache
def initial(method, shape=(8, 6, 1)):
  key = jax.random.key(0, impl='rbg')  # Quick to compile.
  return jax.jit(method.init)(key, {'views': (jnp.zeros((6, *shape)),)})


@functools.cache
def step_of(method):
  return jax.jit(method.step)


def gradient(method, state, x):
  return jax.jit(jax.grad(lambda params: method.loss(params, state.stats, x, KEY)[0]))(state.params)


def assembled(method, params, stats, x):
  """z_e, codes and indices of x, in training mode (there is no batch norm here)."""
  _, z_e, codes, indices = method.network.apply({'params': params, **stats}, x, train=True)
  return z_e, codes, indices


@functools.cache
def assembler(method):
  return jax.jit(functools.partial(assembled, method))


def assemble(method, state, x):
  return assembler(method)(state.params, state.stats, x)


def pulled(method, state, x, cotangent):
  """The gradient of the parameters for one of z_e."""
  z_e = lambda params: assembled(method, params, state.stats, x)[0]
  return jax.jit(lambda params: jax.vjp(z_e, params)[1](cotangent)[0])(state.params)


def close(found, expected, tolerance=1e-6):
  scale = np.abs(np.asarray(expected)).max()
  np.testing.assert_allclose(found, expected, rtol=0, atol=tolerance * scale)


def test_the_loss_written_out():
  method, x = METHOD, make_batch()['views'][0]
  state = initial(method)
  z_e, codes, indices = assemble(method, state, x)
  embedding = state.stats['codebook']['quantizer']['embedding']
  np.testing.assert_array_equal(indices, vector_quantizer.nearest(embedding, z_e))
  np.testing.assert_array_equal(codes, embedding[indices])
  decode = lambda z: method.network.apply({'params': state.params}, z, (8, 6, 1), method='decode')
  output = np.float64(jax.jit(decode)(codes[..., 0, :]))
  error = np.mean((output - x) ** 2)
  loss, (_, metrics) = jax.jit(method.loss)(state.params, state.stats, x, KEY)
  np.testing.assert_allclose(loss, error / np.var(x) + 0.4 * np.mean(np.float64(z_e - codes) ** 2), rtol=1e-5)
  np.testing.assert_allclose(metrics['squared_error'], error, rtol=1e-5)
  counts = np.bincount(np.ravel(indices), minlength=7)
  np.testing.assert_allclose(metrics['perplexity'], losses.codebook_perplexity(counts), rtol=1e-5)
  np.testing.assert_allclose(metrics['codes_used'], np.mean(counts > 0), rtol=1e-6)


@pytest.mark.parametrize('decay', [0.8, None])
def test_the_encoder_gets_the_decoders_gradient_at_the_codes_and_the_commitment(decay):
  method, x = variant(decay=decay), make_batch()['views'][0]
  state = initial(method)
  found = gradient(method, state, x)
  z_e, codes, _ = assemble(method, state, x)

  def of_codes(z):
    output = method.network.apply({'params': state.params}, z[..., 0, :], x.shape[1:], method='decode')
    return jnp.mean((output - x) ** 2) / jnp.var(x)

  arriving = jax.jit(jax.grad(of_codes))(codes) + 0.4 * 2 * (z_e - codes) / z_e.size
  expected = pulled(method, state, x, arriving)
  for part in ('encoder', 'code'):
    jax.tree.map(close, found[part], expected[part])
  assert jnp.any(found['decoder']['up1']['kernel'])


def test_a_codebook_without_moving_averages_learns_by_its_own_term():
  method, x = variant(decay=None), make_batch()['views'][0]
  state = initial(method)
  assert 'codebook' not in state.stats
  z_e, codes, indices = (np.asarray(each) for each in assemble(method, state, x))
  found = gradient(method, state, x)['quantizer']['embedding']
  expected = np.zeros((7, 3))
  for place in np.ndindex(indices.shape):
    expected[indices[place]] += 2 * (codes[place] - z_e[place]) / z_e.size
  close(found, expected, 1e-5)
  assert len(np.unique(indices)) > 1


def test_two_steps_of_the_codebook_written_out():
  """Codes of a step are those of the codebook before it."""
  state, step = initial(METHOD), step_of(METHOD)
  counts, sums = (np.float64(state.stats['codebook']['quantizer'][name]) for name in ('counts', 'sums'))
  for i in range(2):
    batch = make_batch(i)
    z_e, _, indices = assemble(METHOD, state, batch['views'][0])
    counts, sums = 0.8 * counts, 0.8 * sums
    for vector, index in zip(np.asarray(z_e).reshape(-1, 3), np.ravel(indices), strict=True):
      counts[index] += 0.2
      sums[index] += 0.2 * vector
    state, _ = step(state, batch, jax.random.key(i))
    smoothed = (counts + 1e-5) / (counts.sum() + 7e-5) * counts.sum()
    codebook = state.stats['codebook']['quantizer']
    close(codebook['counts'], counts, 1e-5)
    close(codebook['embedding'], sums / smoothed[:, None], 1e-5)


def collapsed(state, at=100.0):
  """The state with a codebook whose entries are all in one place, far away."""
  codebook = state.stats['codebook']['quantizer']
  far = {**codebook, 'embedding': jnp.full_like(codebook['embedding'], at), 'sums': jnp.full_like(codebook['sums'], at)}
  return state._replace(stats={**state.stats, 'codebook': {'quantizer': far}}, step=jnp.int32(1))


@pytest.mark.parametrize('restart_below, recovers', [(0.0, False), (0.2, True)])
def test_a_collapsed_codebook_recovers_by_restarts(restart_below, recovers):
  method = variant(restart_below=restart_below)
  state, step = collapsed(initial(method)), step_of(method)
  perplexities = []
  for i in range(20):
    state, metrics = step(state, make_batch(i), jax.random.key(i))
    perplexities.append(float(metrics['perplexity']))
  assert perplexities[0] == 1
  assert perplexities[-1] > 3.5 if recovers else perplexities[-1] == 1, perplexities


def test_the_codebook_starts_at_outputs_of_the_encoder():
  """After the first step, where entries may restart."""
  method = variant(restart_below=0.2)
  state, batch = initial(method), make_batch()
  z_e = np.asarray(assemble(method, state, batch['views'][0])[0]).reshape(-1, 3)
  state, _ = step_of(method)(state, batch, KEY)
  for entry in np.asarray(state.stats['codebook']['quantizer']['embedding']):
    assert np.abs(z_e - entry).max(axis=1).min() < 1e-4


@pytest.mark.parametrize('num_codes', [1, 500])
def test_one_code_and_more_codes_than_vectors(num_codes):
  method = variant(num_codes=num_codes, restart_below=0.1)
  state, step = initial(method), step_of(method)
  for i in range(3):
    state, metrics = step(state, make_batch(i), jax.random.key(i))
  assert int(state.failed_step) == -1
  assert 1 <= metrics['perplexity'] <= min(num_codes, 6 * 2 * 2) + 1e-3
  codes = jax.jit(method.codes)(state, make_batch()['views'][0])
  assert codes.shape == (6, 2, 2, 1) and np.all(codes >= 0) and np.all(codes < num_codes)


VECTORS = variant(
    encoder=MLPEncoder((8,), batch_norm=False), decoder=MLPDecoder((8,), batch_norm=False), groups=4)


@pytest.mark.parametrize('method, shape, places', [
    (METHOD, (9, 5, 1), (3, 2)), (METHOD, (7, 10, 3), (2, 3)), (METHOD, (2, 3, 1), (1, 1)),
    (variant(groups=2), (8, 6, 3), (2, 2)), (VECTORS, (11,), ())])
def test_inputs_of_any_shape(method, shape, places):
  """z is the codes, and what it stands for is the reconstruction."""
  x, state = make_batch(shape=shape)['views'][0], initial(method, shape)

  def outputs(state, x):
    z = method.represent(state, x, 'z')
    return (z, method.represent(state, x, 'z_mean'), method.codes(state, (x,)), method.decode(state, z, shape),
            method.reconstruct(state, x, KEY)['reconstruction'], method.score(state, x, KEY)['squared_error'])

  z, mean, codes, decoded, reconstruction, error = jax.jit(outputs)(state, x)
  assert codes.shape == (6, *places, method.groups) and codes.dtype == jnp.int32
  embedding = state.stats['codebook']['quantizer']['embedding']
  np.testing.assert_array_equal(z, embedding[codes].reshape(6, -1))
  np.testing.assert_allclose(mean, z.reshape(6, -1, method.groups * 3).mean(axis=1), atol=1e-6)
  assert reconstruction.shape == x.shape
  np.testing.assert_allclose(decoded, reconstruction, atol=1e-6)
  np.testing.assert_allclose(error, np.mean(np.square(reconstruction - x).reshape(6, -1), axis=1), rtol=1e-5)


def test_representations_before_the_code():
  state, x = initial(METHOD), make_batch()['views'][0]
  h = METHOD.encoder.apply({'params': state.params['encoder']}, x)
  np.testing.assert_array_equal(METHOD.represent(state, x, 'h'), h.reshape(6, -1))
  np.testing.assert_allclose(METHOD.represent(state, x, 'h_mean'), h.mean(axis=(1, 2)), atol=1e-6)
  assert METHOD.embed(state, make_batch())[0].shape == (6, 3)


def test_fine_tuning_passes_codes_straight_through():
  state, x = initial(METHOD), make_batch()['views'][0]
  encoder, variables = METHOD.backbone(state, 'z')
  weights = jax.random.normal(KEY, METHOD.represent(state, x, 'z').shape)
  total = lambda params: jnp.sum(weights * encoder.apply({**variables, 'params': params}, x, train=True))
  found = jax.jit(jax.grad(total))(variables['params'])['network']
  expected = pulled(METHOD, state, x, weights.reshape(6, 2, 2, 1, 3))
  for part in ('encoder', 'code'):
    jax.tree.map(close, found[part], expected[part])


def test_inputs_of_one_colour_have_a_loss():
  batch = {'views': (jnp.full((6, 8, 6, 1), 0.3),)}
  state, metrics = step_of(METHOD)(initial(METHOD), batch, KEY)
  assert int(state.failed_step) == -1 and np.isfinite(metrics['loss'])


def test_it_learns_to_reconstruct():
  method = variant(restart_below=0.2)
  state, step = initial(method), step_of(method)
  errors = []
  for i in range(150):
    state, metrics = step(state, make_batch(0), jax.random.key(i))
    errors.append(float(metrics['squared_error']))
  assert errors[-1] < 0.6 * np.var(make_batch(0)['views'][0]) < errors[0]


@pytest.mark.parametrize('fields, message', [
    ({'num_codes': 0}, 'num_codes must be positive, got 0'),
    ({'code_dim': -1}, 'code_dim must be positive, got -1'),
    ({'groups': 0}, 'groups must be positive, got 0'),
    ({'decay': 1.0}, r'decay must lie in \[0, 1\), or be None, got 1.0'),
    ({'commitment': -0.1}, 'commitment must be finite and not negative, got -0.1'),
    ({'restart_below': float('nan')}, 'restart_below must be finite and not negative, got nan'),
    ({'decay': None, 'restart_below': 0.1}, 'restart_below is of a codebook with decay alone, got 0.1 with decay=None'),
])
def test_mistakes_are_named(fields, message):
  with pytest.raises(ValueError, match=message):
    variant(**fields)


def test_what_is_no_representation_is_named():
  with pytest.raises(ValueError, match="name must be one of 'h', 'h_mean', 'z', 'z_mean', got 'q'"):
    METHOD.represent(initial(METHOD), make_batch()['views'][0], 'q')
