"""The adversarial autoencoder against its three losses in NumPy: who moves when, the prior, the clusters."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from adversarial import close, dense, moved, same, softplus

from jaxssl import build, methods
from jaxssl.evaluation.clustering import clustering_accuracy
from jaxssl.methods import adversarial_autoencoder as aae
from jaxssl.models import Generator, MLPDecoder, MLPDiscriminator, MLPEncoder
from jaxssl.models.gan import LEAK

METHOD = methods.AdversarialAutoencoder(
    MLPEncoder((6,)), MLPDecoder((7,)), MLPDiscriminator((8, 5)), optax.sgd(0.05), optax.sgd(0.1), optax.sgd(0.2),
    code_size=2, categories=3)
KEY = jax.random.key(0)
ENCODER = {'encoder', 'code', 'category'}
DISCRIMINATORS = {'discriminator', 'category_discriminator'}


def variant(**fields):
  return methods.AdversarialAutoencoder(**{**vars(METHOD), **fields})


def make_batch(seed=0, size=12):
  return {'views': (jax.random.normal(jax.random.key(seed), (size, 4)),)}


@functools.cache
def initial(method):
  return jax.jit(method.init)(jax.random.key(0, impl='rbg'), make_batch())  # Quick to compile.


@functools.cache
def update(method):
  return jax.jit(method.step)


def code_by_hand(params, x):
  """z and y in float64."""
  h = np.maximum(dense(params['encoder']['linear1'], np.float64(x)), 0)
  logits = np.exp(dense(params['category'], h))
  return dense(params['code'], h), logits / logits.sum(axis=1, keepdims=True)


def scores_by_hand(params, code):
  found = []
  for name, h in zip(('discriminator', 'category_discriminator'), code, strict=True):
    for i in (1, 2):
      h = dense(params[name][f'linear{i}'], h)
      h = np.where(h > 0, h, LEAK * h)
    found.append(dense(params[name]['score'], h)[:, 0])
  return found


def test_the_losses_written_out():
  params, x = initial(METHOD).params, make_batch()['views'][0]
  z, y = code_by_hand(params, x)
  h = np.maximum(dense(params['decoder']['linear1'], np.concatenate([z, y], axis=1)), 0)
  error = np.square(dense(params['decoder']['output'], h) - x)
  loss, (_, metrics) = METHOD.reconstruction_loss(params, {}, x, KEY)
  np.testing.assert_allclose(loss, error.sum(axis=1).mean(), rtol=1e-5)
  np.testing.assert_allclose(metrics['squared_error'], error.mean(), rtol=1e-5)

  prior = np.float64(METHOD.latents(jax.random.split(KEY, 4)[2], len(x)))  # Those of the update.
  real, fake = scores_by_hand(params, (prior[:, :2], prior[:, 2:])), scores_by_hand(params, (z, y))
  loss, (_, metrics) = METHOD.discriminator_loss(params, {}, x, KEY)
  each = [softplus(-a).mean() + softplus(b).mean() for a, b in zip(real, fake, strict=True)]
  np.testing.assert_allclose(loss, sum(each), rtol=1e-5)
  for name, expected in zip(('divergence', 'category_divergence'), each, strict=True):
    np.testing.assert_allclose(metrics[name], np.log(2) - expected / 2, rtol=1e-4, atol=1e-6)
  loss, _ = METHOD.encoder_loss(params, {}, x, KEY)
  np.testing.assert_allclose(loss, sum(softplus(-each).mean() for each in fake), rtol=1e-5)


@pytest.mark.parametrize('divergence', ['wasserstein', 'relativistic'])
def test_other_divergences_written_out(divergence):
  method, params, x = variant(divergence=divergence, categories=0), initial(METHOD).params, make_batch()['views'][0]
  z, _ = code_by_hand(params, x)
  score = lambda z: scores_by_hand(params, (z, np.ones((len(z), 3))))[0]
  real, fake = score(np.float64(method.latents(jax.random.split(KEY, 4)[2], len(x)))), score(z)
  expected = {'wasserstein': (fake.mean() - real.mean(), -fake.mean()),
              'relativistic': (softplus(fake - real).mean(), softplus(real - fake).mean())}[divergence]
  found = [loss(params, {}, x, KEY)[0] for loss in (method.discriminator_loss, method.encoder_loss)]
  np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-6)


def test_a_step_written_out():
  """Three updates, each of the parameters that the one before has left."""
  state, batch = initial(METHOD), make_batch()
  x, params = batch['views'][0], state.params
  turns = ((METHOD.reconstruction_loss, ENCODER | {'decoder'}, 0.05), (METHOD.discriminator_loss, DISCRIMINATORS, 0.1),
           (METHOD.encoder_loss, ENCODER, 0.2))
  losses, norms = [], []
  for (loss, names, rate), key in zip(turns, jax.random.split(KEY, 3), strict=True):
    (value, _), grads = jax.jit(jax.value_and_grad(functools.partial(loss, stats={}, x=x, key=key), has_aux=True))(
        params)
    params = {name: jax.tree.map(lambda w, g, r=rate: w - r * g, tree, grads[name]) if name in names else tree
              for name, tree in params.items()}
    losses.append(value)
    norms.append(optax.tree.norm({name: grads[name] for name in names}))
  after, metrics = update(METHOD)(state, batch, KEY)
  close(after.params, params)
  assert int(after.step) == 1 and int(after.failed_step) == -1
  for prefix, value, norm in zip(('', 'discriminator_', 'encoder_'), losses, norms, strict=True):
    np.testing.assert_allclose([metrics[f'{prefix}loss'], metrics[f'{prefix}gradient_norm']], [value, norm], rtol=1e-4)


@pytest.mark.parametrize('field, expected', [
    ('optimizer', ENCODER | {'decoder'}), ('discriminator_optimizer', DISCRIMINATORS), ('encoder_optimizer', ENCODER)])
def test_who_moves(field, expected):
  still = {each: optax.sgd(0.0) for each in ('optimizer', 'discriminator_optimizer', 'encoder_optimizer')}
  method = variant(**{**still, field: optax.sgd(0.1)})
  after, _ = update(method)(initial(method), make_batch(), KEY)
  assert moved(initial(method), after) == expected


def test_schedules_count_steps():
  rate = lambda count: jnp.where(count == 1, 0.0, 0.1)
  method = variant(**dict.fromkeys(('optimizer', 'discriminator_optimizer', 'encoder_optimizer'), optax.sgd(rate)))
  state, found = initial(method), []
  for i in range(3):
    after, _ = update(method)(state, make_batch(i), jax.random.key(i))
    found.append(len(moved(state, after)))
    state = after
  assert found == [6, 0, 6]


@pytest.mark.parametrize('field', ['optimizer', 'discriminator_optimizer'])
def test_nothing_moves_when_a_later_update_fails(field):
  """An update before it, of a rate without measure, leaves weights of which the next has no finite loss."""
  method, state = variant(**{field: optax.sgd(1e38)}), initial(METHOD)
  first = {'optimizer': METHOD.reconstruction_loss, 'discriminator_optimizer': METHOD.discriminator_loss}[field]
  assert np.isfinite(first(state.params, {}, make_batch()['views'][0], KEY)[0])
  after, _ = update(method)(initial(method), make_batch(), KEY)
  assert int(after.failed_step) == 0
  assert same(after._replace(failed_step=state.failed_step, opt_state=state.opt_state), state)
  later, _ = update(method)(after, make_batch(1), KEY)
  assert same(later, after), 'nor ever again'


def test_statistics_of_all_networks_are_learned():
  method = variant(
      encoder=MLPEncoder((6,), batch_norm=True), decoder=MLPDecoder((5,), batch_norm=True),
      discriminator=MLPDiscriminator((4, 4), norm='batch', spectral_norm=True))
  state = initial(method)
  assert {kind: {*tree} for kind, tree in state.stats.items()} == {
      'batch_stats': {'encoder', 'decoder', *DISCRIMINATORS}, 'spectral': DISCRIMINATORS}
  after, _ = update(method)(state, make_batch(), KEY)
  for kind, tree in state.stats.items():
    for name in tree:
      assert not same(tree[name], after.stats[kind][name]), (kind, name)


def test_without_categories_there_is_no_y():
  method = variant(categories=0)
  state = initial(method)
  assert state.params.keys() == {'encoder', 'code', 'decoder', 'discriminator'}
  assert method.representations == ('z', 'h') and method.latents(KEY, 5).shape == (5, 2)
  _, metrics = update(method)(state, make_batch(), KEY)
  assert 'divergence' in metrics and 'category_divergence' not in metrics
  with pytest.raises(ValueError, match="name must be one of 'z', 'h', got 'y'"):
    method.clusters(state, make_batch()['views'][0])


def test_representations_are_what_is_decoded_and_its_parts():
  state, x = initial(METHOD), make_batch()['views'][0]
  assert METHOD.representations == ('z', 'h', 'y')
  z, y = code_by_hand(state.params, x)
  np.testing.assert_allclose(METHOD.represent(state, x), np.concatenate([z, y], axis=1), rtol=1e-4, atol=1e-6)
  np.testing.assert_allclose(METHOD.represent(state, x, 'y'), y, rtol=1e-4)
  np.testing.assert_allclose(
      dense(state.params['code'], np.float64(METHOD.represent(state, x, 'h'))), z, rtol=1e-4, atol=1e-6)
  clusters = METHOD.clusters(state, x)
  assert clusters.dtype == jnp.int32
  np.testing.assert_array_equal(clusters, y.argmax(axis=1))
  reconstruction = METHOD.reconstruct(state, x, KEY)['reconstruction']
  np.testing.assert_allclose(METHOD.decode(state, METHOD.represent(state, x), (4,)), reconstruction, rtol=1e-5)
  np.testing.assert_allclose(
      METHOD.score(state, x, KEY)['squared_error'], np.square(reconstruction - x).mean(axis=1), rtol=1e-4)
  np.testing.assert_allclose(
      METHOD.sample(state, KEY, 5, (4,)), METHOD.decode(state, METHOD.latents(KEY, 5), (4,)), rtol=1e-5)
  embedded, = METHOD.embed(state, make_batch())
  np.testing.assert_allclose(embedded.mean(axis=0), 0, atol=1e-6)


@pytest.mark.parametrize('prior, deviation, largest', [('normal', 1.0, np.inf), ('uniform', 3**-0.5, 1)])
def test_the_prior_has_the_distribution_asked(prior, deviation, largest):
  draws = np.asarray(variant(prior=prior, prior_scale=5.0, code_size=20).latents(KEY, 900))
  z, y = draws[:, :20] / 5, draws[:, 20:]
  assert abs(z.mean()) < 0.03 and abs(z.std() - deviation) < 0.03 and np.abs(z).max() <= largest
  assert (np.abs(z).max() > 3) == (prior == 'normal')
  np.testing.assert_array_equal(np.sort(y, axis=1), np.tile([0, 0, 1], (900, 1)), err_msg='one-hot')
  np.testing.assert_allclose(y.mean(axis=0), 1 / 3, atol=0.06)
  assert abs(np.corrcoef(draws[:, 0], y[:, 0])[0, 1]) < 0.1, 'z and y are independent'


def test_the_mixture_is_of_gaussians_on_a_circle():
  z = np.asarray(variant(prior='mixture', prior_scale=3.0, categories=0).latents(KEY, 20_000), np.float64)
  angle = np.arctan2(z[:, 1], z[:, 0]) / (2 * np.pi) * aae.COMPONENTS
  component = np.round(angle).astype(int) % aae.COMPONENTS
  np.testing.assert_allclose(np.bincount(component) / len(z), 1 / aae.COMPONENTS, atol=0.01)
  for i in range(aae.COMPONENTS):
    mean = 3 * np.array([np.cos(2 * np.pi * i / aae.COMPONENTS), np.sin(2 * np.pi * i / aae.COMPONENTS)])
    np.testing.assert_allclose(z[component == i].mean(axis=0), mean, atol=0.05)
    assert np.all(np.abs(z[component == i].std(axis=0) / (np.sin(np.pi / aae.COMPONENTS)) - 1) < 0.1)


def run(method, state, draw, steps):
  step = lambda state, key: method.step(state, {'views': (draw(key)[0],)}, jax.random.fold_in(key, 1))
  return jax.jit(lambda state: jax.lax.scan(step, state, jax.random.split(KEY, steps))[0])(state)


def test_codes_take_the_shape_of_the_prior_and_clusters_are_found():
  """Of three blobs in four dimensions."""
  centres = 3 * jnp.array([[1.0, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0]])

  def draw(key, size=192):
    keys = jax.random.split(key)
    labels = jax.random.randint(keys[0], (size,), 0, 3)
    return centres[labels] + 0.3 * jax.random.normal(keys[1], (size, 4)), labels

  adam = lambda rate, b1=0.5: optax.adam(rate, b1)
  method = variant(
      encoder=MLPEncoder((32,)), decoder=MLPDecoder((32,)), discriminator=MLPDiscriminator((32, 32)), code_size=1,
      prior_scale=2.0, optimizer=adam(3e-3, 0.9), discriminator_optimizer=adam(3e-3), encoder_optimizer=adam(3e-3))
  before = initial(method)
  after = run(method, before, draw, 800)
  (train, labels), (test, test_labels) = (map(np.asarray, draw(jax.random.key(i), 600)) for i in (7, 8))
  accuracy = [clustering_accuracy(*(np.asarray(each) for each in (
      method.clusters(state, train), labels, method.clusters(state, test), test_labels))) for state in (before, after)]
  z = np.asarray(method.represent(after, test))[:, 0]
  samples = np.asarray(method.sample(after, KEY, 600, (4,)))
  distance = np.linalg.norm(samples[:, None] - np.asarray(centres), axis=2)
  found = accuracy, z.mean(), z.std(), np.bincount(distance.argmin(axis=1), minlength=3)
  assert accuracy[1] > 0.95 > accuracy[0], found
  assert abs(z.mean()) < 0.8 and abs(z.std() - 2) < 0.8, found
  assert np.median(distance.min(axis=1)) < 1 and found[-1].min() > 60, found


def test_a_config_builds_it():
  sgd = {'name': 'sgd', 'learning_rate': {'name': 'constant', 'base': 0.1, 'scaling': 'none'}}
  section = {
      'name': 'adversarial_autoencoder', 'encoder': {'name': 'mlp_encoder', 'features': [6]},
      'decoder': {'name': 'generator', 'decoder': {'name': 'mlp_decoder', 'features': [6]}},
      'discriminator': {'name': 'mlp_discriminator', 'features': [5]}, 'optimizer': sgd,
      'discriminator_optimizer': sgd, 'encoder_optimizer': sgd, 'categories': 4, 'prior': 'uniform'}
  shape_of_run = {'batch_size': 8, 'steps': 10, 'steps_per_epoch': 2.0}
  method = build.construct('method', section, shape_of_run)
  assert method.decoder == Generator(MLPDecoder((6,))) and method.discriminator == MLPDiscriminator((5,))
  state = jax.eval_shape(method.init, KEY, {'views': (jnp.zeros((8, 6, 6, 1)),)})
  assert jax.eval_shape(lambda s: method.sample(s, KEY, 3, (6, 6, 1)), state).shape == (3, 6, 6, 1)
  with pytest.raises(ValueError, match="config.method: prior must be one of 'normal', .* got 'beta'"):
    build.construct('method', {**section, 'prior': 'beta'}, shape_of_run)


@pytest.mark.parametrize('fields, message', [
    ({'prior': 'beta'}, "prior must be one of 'normal', 'uniform', 'mixture', got 'beta'"),
    ({'divergence': 'kl'}, "divergence must be one of 'jensen_shannon', .*, got 'kl'"),
    ({'code_size': 0}, 'code_size must be positive, got 0'),
    ({'categories': 1}, 'categories must be 0, for none, or at least 2, got 1'),
    ({'categories': -2}, 'categories must be 0, for none, or at least 2, got -2'),
    ({'prior_scale': 0.0}, 'prior_scale must be positive and finite, got 0.0'),
    ({'prior_scale': float('nan')}, 'prior_scale must be positive and finite, got nan'),
    ({'prior': 'mixture', 'code_size': 3}, "code_size must be 2 for prior='mixture', got 3"),
])
def test_mistakes_are_named(fields, message):
  with pytest.raises(ValueError, match=message):
    variant(**fields)
