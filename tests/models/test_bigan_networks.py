"""BiGAN's networks: discriminators of pairs written out, unary scores, and the two ways between inputs and latents."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxssl import models
from jaxssl.models.gan import LEAK

KEY = jax.random.key(0, impl='rbg')  # Quick to compile.
MLP = models.MLPDiscriminator
ADDITIVE = models.MLPJointDiscriminator((6, 5), unary=True)
COMPOSED = models.JointDiscriminator(models.ConvDiscriminator((2, 3)), MLP((4,)), MLP((5,)))
DISCRIMINATORS = {'additive': ADDITIVE, 'composed': COMPOSED}


def draw(*shape, seed=0):
  return jnp.asarray(np.random.default_rng(seed).normal(size=shape), jnp.float32)


def leaky(x):
  return np.where(x > 0, x, LEAK * x)


def linear(params, x):
  return x @ np.float64(params['kernel']) + np.float64(params.get('bias', 0.0))


def test_the_perceptron_adds_a_linear_map_of_z_to_every_linear_layer():
  x, z = draw(4, 3, 2, 1), draw(4, 2, seed=1)
  variables = jax.jit(ADDITIVE.init)(KEY, x, z)
  found = ADDITIVE.apply(variables, x, z)
  params = variables['params']['joint']
  h, latents = np.float64(x).reshape(4, -1), np.float64(z)
  for i in (1, 2):
    h = leaky(linear(params[f'linear{i}'], h) + linear(params[f'latent{i}'], latents))
  expected = linear(params['score'], h) + linear(params['latent_score'], latents)
  np.testing.assert_allclose(found.joint, expected[:, 0], rtol=1e-5, atol=1e-6)
  assert 'bias' not in params['latent1'], 'the layer has one'


@pytest.mark.parametrize('name', DISCRIMINATORS)
def test_unary_scores_are_of_one_of_the_pair_alone(name):
  network, x, z = DISCRIMINATORS[name], draw(3, 8, 8, 1), draw(3, 2, seed=1)
  variables = jax.jit(network.init)(KEY, x, z)
  apply = jax.jit(network.apply)
  found = apply(variables, x, z)
  assert all(each.shape == (3,) and each.dtype == jnp.float32 for each in found)
  for changed, same in ((apply(variables, x, z + 1), 'x'), (apply(variables, x + 1, z), 'z')):
    for kind in ('joint', 'x', 'z'):
      equal = bool(jnp.all(getattr(changed, kind) == getattr(found, kind)))
      assert equal == (kind == same), (kind, same)


def test_a_discriminator_of_the_features_of_two():
  x, z = draw(3, 8, 8, 1), draw(3, 2, seed=1)
  variables = jax.jit(COMPOSED.init)(KEY, x, z)
  found = COMPOSED.apply(variables, x, z)
  part = lambda name: {'params': variables['params'][name]}
  of_x, of_z = ((COMPOSED.of_x.apply(part('of_x'), x, method='layers')),
                (COMPOSED.of_z.apply(part('of_z'), z, method='layers')))
  features = jnp.concatenate([of_x[0]['layer2'].reshape(3, -1), of_z[0]['layer1']], axis=1)
  np.testing.assert_allclose(found.joint, COMPOSED.joint.apply(part('joint'), features), rtol=1e-5, atol=1e-6)
  np.testing.assert_allclose(found.x, of_x[1], rtol=1e-5, atol=1e-6)
  np.testing.assert_allclose(found.z, of_z[1], rtol=1e-5, atol=1e-6)


def test_only_pairs_are_scored_unless_asked():
  x, z = draw(3, 4), draw(3, 2, seed=1)
  network = ADDITIVE.clone(unary=False)
  variables = jax.jit(network.init)(KEY, x, z)
  assert variables['params'].keys() == {'joint'}
  assert network.apply(variables, x, z)[1:] == (None, None)


def test_spectral_norms_become_one_also_of_the_maps_of_z():
  network = models.MLPJointDiscriminator((6, 5), spectral_norm=True)
  x, z = draw(3, 4), draw(3, 2, seed=1)
  variables = jax.jit(network.init)(KEY, x, z)
  update = jax.jit(lambda v: {**v, **network.apply(v, x, z, train=True, mutable=['spectral'])[1]})
  for _ in range(40):
    variables = update(variables)
  stats = variables['spectral']['joint']
  assert {*stats} == {f'{name}_spectral' for name in (
      'linear1', 'linear2', 'latent1', 'latent2', 'score', 'latent_score')}
  for name in ('latent2', 'linear1'):
    sigma = np.linalg.norm(np.asarray(variables['params']['joint'][name]['kernel']), 2)
    np.testing.assert_allclose(stats[f'{name}_spectral'][f'{name}/kernel/sigma'], sigma, rtol=1e-3)


def test_pairs_from_both_ways():
  """The scores are those of (x, E(x)) and of (G(z), z), each by its network alone."""
  network = models.BidirectionalNetwork(
      models.MLPEncoder((5,)), models.Generator(models.MLPDecoder((4,))), ADDITIVE, 2)
  x, z = draw(3, 2, 2, 1), draw(3, 2, seed=1)
  variables = jax.jit(network.init)(KEY, x, z, jnp.zeros((3, 2)))
  encoded, generated = network.apply(variables, x, z, jnp.ones((3, 2)))
  assert variables['params'].keys() == {'encoder', 'latent', 'generator', 'discriminator'}
  part = lambda name: {'params': variables['params'][name]}
  h = network.encoder.apply(part('encoder'), x)
  of_x = linear(variables['params']['latent'], np.float64(h))
  images = network.generator.apply(part('generator'), z, (2, 2, 1))
  for found, pair in ((encoded, (x, of_x)), (generated, (images, z))):
    for score, expected in zip(found, ADDITIVE.apply(part('discriminator'), *pair), strict=True):
      np.testing.assert_allclose(score, expected, rtol=1e-4, atol=1e-5)


def test_a_stochastic_encoder_draws_by_its_noise():
  network = models.BidirectionalNetwork(
      models.MLPEncoder((5,)), models.Generator(models.MLPDecoder((4,))), ADDITIVE, 2, stochastic=True)
  x, noise = draw(3, 4), draw(3, 2, seed=2)
  variables = jax.jit(network.init)(KEY, x, noise, noise)
  params = variables['params']
  encode = lambda noise: network.apply(variables, x, noise, method='encode')
  h, mean = network.apply(variables, x, method='layers')
  np.testing.assert_allclose(encode(0 * noise), mean, rtol=1e-6)
  np.testing.assert_allclose(encode(noise), mean + noise, rtol=1e-5, err_msg='of deviation 1 at first')
  params['log_std']['bias'] = jnp.array([-1.0, 0.5])
  np.testing.assert_allclose(encode(noise), mean + np.exp([[-1.0, 0.5]]) * noise, rtol=1e-5)
  assert h.shape == (3, 5)
