"""BiGAN against its losses in NumPy: which pairs, who moves by how much, and an encoder that inverts its generator."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from adversarial import close, dense, moved, same, softplus
from flax import linen as nn

from jaxssl import build, methods
from jaxssl.methods import bigan
from jaxssl.models import (
  ConvDiscriminator,
  ConvEncoder,
  Generator,
  JointDiscriminator,
  MLPDecoder,
  MLPDiscriminator,
  MLPEncoder,
  MLPJointDiscriminator,
  Scores,
)
from jaxssl.models.gan import LEAK

METHOD = methods.BiGAN(
    MLPEncoder((6,)), Generator(MLPDecoder((7,)), 'linear'), MLPJointDiscriminator((8, 5)), optax.sgd(0.2),
    optax.sgd(0.1), latent_size=3)
KEY = jax.random.key(0)


def variant(**fields):
  return methods.BiGAN(**{**vars(METHOD), **fields})


def make_batch(seed=0, size=12):
  return {'views': (jax.random.normal(jax.random.key(seed), (size, 2)),)}


@functools.cache
def initial(method):
  return jax.jit(method.init)(jax.random.key(0, impl='rbg'), make_batch())  # Quick to compile.


@functools.cache
def update(method):
  return jax.jit(method.step)


def by_hand_joint(params, x, z):
  network, h = params['joint'], x
  for i in (1, 2):
    h = dense(network[f'linear{i}'], h) + dense(network[f'latent{i}'], z)
    h = np.where(h > 0, h, LEAK * h)
  return (dense(network['score'], h) + dense(network['latent_score'], z))[:, 0]


def by_hand(params, x, z):
  """Scores of (x, E(x)) and of (G(z), z) in float64."""
  relu = lambda x: np.maximum(x, 0)
  score = functools.partial(by_hand_joint, params['discriminator'])
  encoded = dense(params['latent'], relu(dense(params['encoder']['linear1'], x)))
  decoder = params['generator']['decoder']
  generated = dense(decoder['output'], relu(dense(decoder['linear1'], z)))
  return score(x, encoded), score(generated, z)


def latents_of_a_loss(n):
  """Those that the losses draw with KEY."""
  return METHOD.latents(jax.random.split(jax.random.split(KEY, 3)[0], 3)[0], n)


def test_the_losses_written_out():
  """The discriminator tells (x, E(x)), real, from (G(z), z); for encoder and generator the labels are swapped."""
  state, x = initial(METHOD), make_batch()['views'][0]
  z = latents_of_a_loss(len(x))
  real, fake = by_hand(state.params, np.float64(x), np.float64(z))
  loss, (_, metrics) = METHOD.discriminator_loss(state.params, {}, x, KEY)
  expected = softplus(-real).mean() + softplus(fake).mean()
  np.testing.assert_allclose(loss, expected, rtol=1e-5)
  np.testing.assert_allclose(metrics['divergence'], np.log(2) - expected / 2, rtol=1e-4, atol=1e-6)
  inverse, _ = METHOD.encoder_loss(state.params, {}, x, KEY)
  np.testing.assert_allclose(inverse, softplus(real).mean() + softplus(-fake).mean(), rtol=1e-5)


def test_the_losses_of_unary_scores_written_out():
  rng = np.random.default_rng(0)
  real, fake = (3 * rng.normal(size=(3, 9)) for _ in range(2))
  terms = bigan.unary(Scores(*jnp.float32(real)), Scores(*jnp.float32(fake)))
  hinge = np.maximum(0, 1 - real).mean(axis=1) + np.maximum(0, 1 + fake).mean(axis=1)
  np.testing.assert_allclose(terms.discriminator, hinge.sum(), rtol=1e-5)
  np.testing.assert_allclose(terms.generator, (real.mean(axis=1) - fake.mean(axis=1)).sum(), rtol=1e-4)
  np.testing.assert_allclose(terms.divergence, 1 - hinge[0] / 2, rtol=1e-4)


def test_penalties_are_the_slopes_at_pairs():
  """By finite differences in float64, of all coordinates of x and z together."""
  state, x = initial(METHOD), make_batch()['views'][0]
  z = latents_of_a_loss(len(x))
  network = METHOD.network.bind({'params': state.params})
  pairs = {'r1': (x, network.encode(x, None)), 'r2': (network.generate(z, (2,)), z)}
  plain, _ = METHOD.discriminator_loss(state.params, {}, x, KEY)
  for name, pair in pairs.items():
    flat = np.concatenate(pair, axis=1, dtype=np.float64)
    score = lambda flat: by_hand_joint(state.params['discriminator'], flat[:, :2], flat[:, 2:])
    slopes = [(score(flat + step) - score(flat - step)) / 2e-6 for step in 1e-6 * np.eye(5)]
    expected = 0.7 * 0.5 * np.square(slopes).sum(axis=0).mean()
    loss, (_, metrics) = variant(**{name: 0.7}).discriminator_loss(state.params, {}, x, KEY)
    np.testing.assert_allclose([loss - plain, metrics['penalty']], expected, rtol=1e-4)


def test_the_penalty_of_unary_scores_is_that_of_their_sum():
  discriminator = MLPJointDiscriminator((4,), unary=True)
  method = variant(discriminator=discriminator, objective='unary', r1=1.0)
  state, x = initial(method), make_batch()['views'][0]
  variables = {'params': state.params['discriminator']}
  z = method.network.apply({'params': state.params}, x, None, method='encode')
  total = lambda x, z: sum(jnp.sum(each) for each in discriminator.apply(variables, x, z))
  slopes = jnp.concatenate(jax.grad(total, (0, 1))(x, z), axis=1)
  _, (_, metrics) = method.discriminator_loss(state.params, {}, x, KEY)
  np.testing.assert_allclose(metrics['penalty'], 0.5 * jnp.square(slopes).sum(axis=1).mean(), rtol=1e-4)


def test_a_discriminator_that_cannot_tell():
  """Its loss is log 4 at 0, its divergence 0; then the swapped labels lose as much."""
  terms = bigan.joint(Scores(jnp.zeros(4)), Scores(jnp.zeros(4)))
  np.testing.assert_allclose(terms, [np.log(4), np.log(4), 0], atol=1e-6)


def test_a_step_moves_all_networks_by_gradients_at_the_same_parameters():
  state, batch = initial(METHOD), make_batch()
  x, params = batch['views'][0], state.params
  gradient = lambda loss: jax.jit(jax.grad(lambda params: loss(params, {}, x, KEY)[0]))(params)
  by_discriminator, by_encoder = gradient(METHOD.discriminator_loss), gradient(METHOD.encoder_loss)
  after, metrics = update(METHOD)(state, batch, KEY)
  for name in params:
    rate, found = (0.1, by_discriminator) if name == 'discriminator' else (0.2, by_encoder)
    close(after.params[name], jax.tree.map(lambda w, g, r=rate: w - r * g, params[name], found[name]))
  assert int(after.step) == 1 and int(after.failed_step) == -1
  np.testing.assert_allclose(metrics['loss'], METHOD.encoder_loss(params, {}, x, KEY)[0], rtol=1e-5)
  np.testing.assert_allclose(
      metrics['discriminator_loss'], METHOD.discriminator_loss(params, {}, x, KEY)[0], rtol=1e-5)
  np.testing.assert_allclose(
      metrics['discriminator_gradient_norm'], optax.tree.norm(by_discriminator['discriminator']), rtol=1e-4)


@pytest.mark.parametrize('field, expected', [
    ('optimizer', {'discriminator'}), ('discriminator_optimizer', {'encoder', 'latent', 'generator'})])
def test_who_moves(field, expected):
  method = variant(**{field: optax.sgd(0.0)})
  after, _ = update(method)(initial(method), make_batch(), KEY)
  assert moved(initial(method), after) == expected


def test_schedules_count_steps():
  rate = lambda count: jnp.where(count == 1, 0.0, 0.1)
  method = variant(optimizer=optax.sgd(rate), discriminator_optimizer=optax.sgd(rate))
  state, found = initial(method), []
  for i in range(3):
    after, _ = update(method)(state, make_batch(i), jax.random.key(i))
    found.append(len(moved(state, after)))
    state = after
  assert found == [4, 0, 4]


class Failing(methods.BiGAN):
  """One of whose losses is not finite at step 1."""

  def encoder_loss(self, params, stats, x, key):
    return self._spoilt('encoder', super().encoder_loss(params, stats, x, key), x)

  def discriminator_loss(self, params, stats, x, key):
    return self._spoilt('discriminator', super().discriminator_loss(params, stats, x, key), x)

  def _spoilt(self, name, found, x):
    return jnp.where((self.latent_size == 3 + (name == 'encoder')) & (x[0, 0] > 90), jnp.nan, found[0]), found[1]


@pytest.mark.parametrize('latent_size', [3, 4], ids=['discriminator', 'encoder'])
def test_nothing_moves_when_one_of_the_updates_fails(latent_size):
  method = Failing(**{**vars(METHOD), 'latent_size': latent_size})
  state = initial(method)
  state, _ = update(method)(state, make_batch(), KEY)
  poisoned = {'views': (make_batch(1)['views'][0].at[0, 0].set(99.0),)}
  after, _ = update(method)(state, poisoned, KEY)
  assert int(state.failed_step) == -1 and int(after.failed_step) == 1
  assert same(after._replace(failed_step=state.failed_step), state)
  later, _ = update(method)(after, make_batch(), KEY)
  assert same(later, after), 'nor ever again'


def test_statistics_of_all_networks_are_learned():
  method = variant(
      encoder=MLPEncoder((6,), batch_norm=True), generator=Generator(MLPDecoder((5,), batch_norm=True), 'linear'),
      discriminator=MLPJointDiscriminator((4, 4), norm='batch', spectral_norm=True))
  state = initial(method)
  assert {kind: {*tree} for kind, tree in state.stats.items()} == {
      'batch_stats': {'encoder', 'generator', 'discriminator'}, 'spectral': {'discriminator'}}
  after, _ = update(method)(state, make_batch(), KEY)
  for kind, tree in state.stats.items():
    for name in tree:
      assert not same(tree[name], after.stats[kind][name]), (kind, name)
  assert not same(after.average['batch_stats'], state.average['batch_stats'])
  assert method.sample(after, KEY, 1, (2,)).shape == (1, 2)


def test_samples_are_of_the_averaged_generator_and_reconstructions_of_the_last():
  state, x = initial(METHOD), make_batch()['views'][0]
  after, _ = update(METHOD)(state, make_batch(), KEY)
  close(after.average['params'], jax.tree.map(
      lambda a, b: 0.1 * a + 0.9 * b, state.params['generator'], after.params['generator']))
  z = METHOD.latents(KEY, 5)
  generate = lambda params, z: METHOD.generator.apply({'params': params}, z, (2,))
  np.testing.assert_allclose(
      METHOD.sample(after, KEY, 5, (2,)), generate(after.average['params'], z), rtol=1e-5)
  encoded = METHOD.represent(after, x, 'z')
  expected = generate(after.params['generator'], encoded)
  np.testing.assert_allclose(METHOD.reconstruct(after, x, KEY)['reconstruction'], expected, rtol=1e-5)
  np.testing.assert_allclose(METHOD.decode(after, encoded, (2,)), expected, rtol=1e-5)
  np.testing.assert_allclose(
      METHOD.score(after, x, KEY)['squared_error'], np.square(expected - x).mean(axis=1), rtol=1e-4)


def test_h_is_the_layer_before_z():
  state, x = initial(METHOD), make_batch()['views'][0]
  h = METHOD.represent(state, x)
  assert h.shape == (12, 6)
  np.testing.assert_allclose(METHOD.represent(state, x, 'z'), dense(state.params['latent'], np.float64(h)), rtol=1e-4)
  embedded, = METHOD.embed(state, make_batch())
  np.testing.assert_allclose(embedded, h - h.mean(axis=0, keepdims=True), atol=1e-6)


def test_the_last_three_layers_and_z():
  """ALI's representation; here of a perceptron of four layers, the first of which is left out."""
  method = variant(encoder=MLPEncoder((5, 4, 6, 7)), stochastic=True)
  state, x = initial(method), make_batch()['views'][0]
  expected, h = [], np.float64(x)
  for i in range(4):
    h = np.maximum(dense(state.params['encoder'][f'linear{i + 1}'], h), 0)
    expected.append(h)
  expected = [*expected[1:], dense(state.params['latent'], h)]
  np.testing.assert_allclose(
      method.represent(state, x, 'layers'), np.concatenate(expected, axis=1), rtol=1e-4, atol=1e-6)
  encoder, variables = method.backbone(state, 'layers')
  assert {*variables['params']['network']} == {'encoder', 'latent'}
  images = jax.random.normal(KEY, (3, 12, 12, 1))
  of_images = ConvEncoder((2, 3, 4, 5), residual_blocks=1)
  layers = of_images.init_with_output(KEY, images, method='layers')[0]
  assert [each.shape for each in layers] == [(3, 6, 6, 2), (3, 3, 3, 3), (3, 2, 2, 4), (3, 1, 1, 5), (3, 1, 1, 5)]


def test_an_encoder_that_shows_no_layers_has_no_such_representation():
  assert variant(encoder=Flat()).representations == ('h', 'z') and METHOD.representations == ('h', 'z', 'layers')


def test_a_stochastic_encoder_learns_its_deviation_and_represents_by_its_mean():
  method = variant(stochastic=True)
  state, x = initial(method), make_batch()['views'][0]
  after, _ = update(method)(state, make_batch(), KEY)
  assert moved(state, after) == {'encoder', 'latent', 'log_std', 'generator', 'discriminator'}
  h = method.represent(after, x)
  np.testing.assert_allclose(method.represent(after, x, 'z'), dense(after.params['latent'], np.float64(h)), rtol=1e-4)


class Flat(nn.Module):
  """The input itself."""

  def __call__(self, x, train=False):
    return x.reshape(len(x), -1)


@pytest.mark.parametrize('latent', bigan.LATENTS)
def test_the_latent_error_of_what_is_known(latent):
  """0 of the inverse, 1/2 of the mean, 1 of an independent draw; here the encoder is linear, as the generator is."""
  method = variant(encoder=Flat(), generator=Generator(MLPDecoder(()), 'linear'), latent=latent, latent_size=2)
  rotation = np.array([[0.6, 0.8], [-0.8, 0.6]], np.float32)
  params = {'generator': {'decoder': {'output': {'kernel': 2 * rotation, 'bias': np.ones(2, np.float32)}}},
            'latent': {'kernel': rotation.T / 2, 'bias': -(rotation.T.sum(axis=0) / 2)}}
  x = make_batch(size=400)['views'][0]

  def error(**changes):
    state = initial(method)._replace(params={**initial(method).params, **params, **changes})
    return float(jnp.mean(method.score(state, x, KEY, samples=20)['latent_error']))

  zeros = jax.tree.map(np.zeros_like, params['latent'])
  assert error() < 1e-10
  np.testing.assert_allclose(error(latent=zeros), 0.5, rtol=0.02)
  a, b = (np.asarray(method.latents(jax.random.key(i), 40_000)) for i in range(2))
  variance = 1 / 3 if latent == 'uniform' else 1
  np.testing.assert_allclose(np.square(a - b).sum(axis=1).mean(), 2 * 2 * variance, rtol=0.02, err_msg='chance')


def test_the_encoder_inverts_the_generator():
  """Of a Gaussian, N(1, 1), on the line: from all of five starts, the latent error fell to at most .023."""
  adam = lambda rate: optax.adam(optax.cosine_decay_schedule(rate, 1000), 0.0, 0.9)
  method = variant(
      encoder=MLPEncoder((32,)), generator=Generator(MLPDecoder((32,)), 'linear'), latent='normal',
      discriminator=MLPJointDiscriminator((32, 32)), optimizer=adam(2e-3), discriminator_optimizer=adam(4e-3),
      latent_size=1)
  draw = lambda key: 1.0 + jax.random.normal(key, (128, 1))

  def run(state):
    step = lambda state, key: method.step(state, {'views': (draw(key),)}, jax.random.fold_in(key, 1))
    return jax.lax.scan(step, state, jax.random.split(jax.random.key(10), 1000))[0]

  x = draw(jax.random.key(9))
  before = jax.jit(method.init)(KEY, {'views': (x,)})
  states = before, jax.jit(run)(before)
  found = [jax.tree.map(jnp.mean, method.score(state, x, KEY, samples=4)) for state in states]
  assert found[1]['latent_error'] < 0.1 < found[0]['latent_error'], found
  assert found[1]['squared_error'] < 0.1 < 0.5 < found[0]['squared_error'], found
  samples = np.asarray(method.sample(states[1], KEY, 2000, (1,)))
  np.testing.assert_allclose([samples.mean(), samples.std()], [1, 1], atol=0.3)


def test_a_config_builds_it():
  adam = {'name': 'adamw', 'learning_rate': {'name': 'constant', 'base': 2e-4, 'scaling': 'none'}, 'b1': 0.5}
  mlp = {'name': 'mlp_discriminator', 'features': [5]}
  section = {
      'name': 'bigan', 'encoder': {'name': 'mlp_encoder', 'features': [6]},
      'generator': {'name': 'generator', 'decoder': {'name': 'mlp_decoder', 'features': [6]}},
      'discriminator': {'name': 'joint_discriminator', 'of_z': mlp, 'joint': mlp,
                        'of_x': {'name': 'conv_discriminator', 'widths': [2, 3], 'spectral_norm': True}},
      'optimizer': adam, 'discriminator_optimizer': adam, 'objective': 'unary'}
  run = {'batch_size': 8, 'steps': 10, 'steps_per_epoch': 2.0}
  method = build.construct('method', section, run)
  assert method.discriminator == JointDiscriminator(
      ConvDiscriminator((2, 3), spectral_norm=True), MLPDiscriminator((5,)), MLPDiscriminator((5,)))
  small = build.construct('method', {**section, 'objective': 'joint', 'discriminator': {
      'name': 'mlp_joint_discriminator', 'features': [4, 3], 'spectral_norm': True}}, run)
  assert small.discriminator == MLPJointDiscriminator((4, 3), spectral_norm=True)
  images = {'views': (jnp.zeros((8, 6, 6, 1)),)}
  state = jax.eval_shape(method.init, KEY, images)
  assert jax.eval_shape(lambda s: method.sample(s, KEY, 3, (6, 6, 1)), state).shape == (3, 6, 6, 1)


@pytest.mark.parametrize('fields, message', [
    ({'latent': 'beta'}, "latent must be one of 'normal', 'uniform', got 'beta'"),
    ({'objective': 'hinge'}, "objective must be one of 'joint', 'unary', got 'hinge'"),
    ({'latent_size': 0}, 'latent_size must be positive, got 0'),
    ({'discriminator': MLPDiscriminator((4,))}, r'must score pairs \(x, z\), .* got MLPDiscriminator, which scores'),
    ({'r1': -1.0}, 'r1 must be finite and not negative, got -1.0'),
    ({'r2': float('inf')}, 'r2 must be finite and not negative, got inf'),
    ({'generator_momentum': float('nan')}, r'generator_momentum must lie in \[0, 1\), got nan'),
])
def test_mistakes_are_named(fields, message):
  with pytest.raises(ValueError, match=message):
    variant(**fields)


def test_no_batch_norm_under_a_penalty():
  method = variant(discriminator=MLPJointDiscriminator((4, 4), norm='batch'), r2=0.1)
  with pytest.raises(ValueError, match='discriminator must not have batch norm under r2'):
    jax.eval_shape(method.init, KEY, make_batch())


def test_unary_scores_must_be_there():
  with pytest.raises(ValueError, match="discriminator must also score x and z alone for objective='unary'"):
    jax.eval_shape(variant(objective='unary').init, KEY, make_batch())


def test_what_is_no_representation_is_named():
  with pytest.raises(ValueError, match="name must be one of 'h', 'z', 'layers', got 'y'"):
    METHOD.represent(initial(METHOD), make_batch()['views'][0], 'y')
