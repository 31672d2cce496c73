"""GAN against its updates written out: who moves when, on which inputs, by how much, and what is learned."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from adversarial import close, same

from jaxssl import build, losses, methods
from jaxssl.methods import gan
from jaxssl.models import ConvDecoder, ConvDiscriminator, Generator, MLPDecoder, MLPDiscriminator, MLPEncoder

METHOD = methods.GAN(
    MLPDiscriminator((8, 6)), Generator(MLPDecoder((7,)), 'linear'), optax.sgd(0.1), optax.sgd(0.2), latent_size=3)
KEY = jax.random.key(0)


def variant(**fields):
  return methods.GAN(**{**vars(METHOD), **fields})


def make_batch(seed=0, size=12, shape=(2,)):
  return {'views': (jax.random.normal(jax.random.key(seed), (size, *shape)),)}


@functools.cache
def initial(method, shape=(2,)):
  return jax.jit(method.init)(jax.random.key(0, impl='rbg'), make_batch(shape=shape))  # Quick to compile.


def step(method, state, batch, key=KEY):
  return jax.jit(method.step)(state, batch, key)


def score(method, params, x):
  return method.discriminator.apply({'params': params}, x)


def terms(method, state, real, fake):
  return gan.DIVERGENCES[method.divergence](*(score(method, state.params['encoder'], x) for x in (real, fake)))


@pytest.mark.parametrize('divergence', gan.DIVERGENCES)
def test_the_losses_written_out(divergence):
  method = variant(divergence=divergence, gradient_penalty=0.3, r1=0.5, r2=0.7)
  state, real, fake = initial(METHOD), make_batch()['views'][0], make_batch(1)['views'][0]
  loss, (_, metrics) = jax.jit(lambda params: method.discriminator_loss(params, {}, real, fake, KEY))(
      state.params['encoder'])
  expected = terms(method, state, real, fake)
  critic = functools.partial(score, method, state.params['encoder'])
  slopes = lambda x: np.float64(jnp.linalg.norm(jax.grad(lambda x: critic(x).sum())(x), axis=1))
  zero_centred = 0.5 * np.mean(slopes(real) ** 2) / 2 + 0.7 * np.mean(slopes(fake) ** 2) / 2
  ends = [np.mean((slopes(x) - 1) ** 2) for x in (real, fake)]  # The penalty between them is about as large.
  assert 0.3 * min(ends) / 2 < metrics['penalty'] - zero_centred < 0.3 * max(ends) * 2
  np.testing.assert_allclose(loss, expected.discriminator + metrics['penalty'], rtol=1e-5)
  np.testing.assert_allclose(metrics['discriminator_loss'], expected.discriminator, rtol=1e-5)
  np.testing.assert_allclose(metrics['divergence'], expected.divergence, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize('field, of', [('r1', 'real'), ('r2', 'fake')])
def test_r1_is_of_real_inputs_and_r2_of_generated_ones(field, of):
  method, state = variant(**{field: 3.0}), initial(METHOD)
  inputs = {'real': make_batch()['views'][0], 'fake': 5 * make_batch(1)['views'][0]}
  _, (_, metrics) = method.discriminator_loss(state.params['encoder'], {}, inputs['real'], inputs['fake'], KEY)
  expected = losses.adversarial.zero_centered_penalty(
      functools.partial(score, method, state.params['encoder']), inputs[of])
  np.testing.assert_allclose(metrics['penalty'], 3 * expected, rtol=1e-5)


def silent(state):
  """The state with a generator that makes the same of every latent, its bias."""
  generator = jax.tree.map(jnp.zeros_like, state.params['generator'])
  generator['decoder']['output']['bias'] = jnp.array([0.5, -1.0])
  return state._replace(params={**state.params, 'generator': generator})


@pytest.mark.parametrize('divergence', ['jensen_shannon', 'relativistic'])
def test_a_step_written_out(divergence):
  """The discriminator descends first; the generator, on its own loss, against the discriminator that came of it."""
  method, state, batch = variant(divergence=divergence), silent(initial(METHOD)), make_batch()
  real, bias = batch['views'][0], jnp.array([0.5, -1.0])
  constant = lambda bias: jnp.broadcast_to(bias[None], real.shape)
  loss = lambda params: gan.DIVERGENCES[divergence](
      score(method, params, real), score(method, params, constant(bias))).discriminator
  encoder = jax.tree.map(lambda w, g: w - 0.1 * g, state.params['encoder'], jax.grad(loss)(state.params['encoder']))
  of_bias = lambda bias: gan.DIVERGENCES[divergence](
      score(method, encoder, real), score(method, encoder, constant(bias))).generator
  after, metrics = step(method, state, batch)
  close(after.params['encoder'], encoder)
  close(after.params['generator']['decoder']['output']['bias'], bias - 0.2 * jax.grad(of_bias)(bias))
  np.testing.assert_allclose(metrics['generator_loss'], of_bias(bias), rtol=1e-5)
  np.testing.assert_allclose(metrics['loss'], loss(state.params['encoder']), rtol=1e-5)
  assert int(after.step) == 1 and int(after.failed_step) == -1


def test_several_updates_of_the_discriminator_are_of_parts_of_the_batch():
  """Of a generator that stands still they are as many steps, each of its own part."""
  still = variant(generator_optimizer=optax.sgd(0.0), clip=0.4)
  state, batch = silent(initial(METHOD)), make_batch()
  found, _ = step(variant(generator_optimizer=optax.sgd(0.0), clip=0.4, n_critic=3), state, batch)
  expected, update = state, jax.jit(still.step)
  for i in range(3):
    expected, _ = update(expected, {'views': (batch['views'][0][i::3],)}, KEY)
  close(found.params['encoder'], expected.params['encoder'])
  assert int(found.step) == 1
  largest = max(float(jnp.abs(w).max()) for w in jax.tree.leaves(found.params['encoder']))
  np.testing.assert_allclose(largest, 0.4, err_msg='clipped')
  assert max(float(jnp.abs(w).max()) for w in jax.tree.leaves(state.params['encoder'])) > 0.4


def test_a_loop_does_the_same_on_accelerators(monkeypatch):
  method, state, batch = variant(n_critic=3, gradient_penalty=1.0), initial(METHOD), make_batch()
  expected, expected_metrics = step(method, state, batch)
  monkeypatch.setattr(jax, 'default_backend', lambda: 'gpu')
  traced = jax.make_jaxpr(method.step)(state, batch, KEY)
  assert any(equation.primitive.name == 'scan' for equation in traced.eqns)
  found, metrics = step(dataclass_copy(method), state, batch)
  close(found.params, expected.params)
  close(metrics, expected_metrics, 1e-4)


def dataclass_copy(method):
  """Another object of the same fields, of whose step nothing is cached."""
  return methods.GAN(**vars(method))


def test_schedules_count_steps_and_not_updates():
  """With a rate of 0 at step 1 alone, neither network moves in that step, and both do before and after."""
  rate = lambda count: jnp.where(count == 1, 0.0, 0.1)
  method = variant(optimizer=optax.sgd(rate, 0.0), generator_optimizer=optax.sgd(rate, 0.0), n_critic=4)
  state, update, moved = initial(method), jax.jit(method.step), []
  for i in range(4):
    after, _ = update(state, make_batch(i), jax.random.key(i))
    moved.append([not same(after.params[name], state.params[name]) for name in ('encoder', 'generator')])
    state = after
  assert moved == [[True, True], [False, False], [True, True], [True, True]]


def test_latents_and_interpolations_are_new_in_every_step_and_update():
  method = variant(n_critic=2, optimizer=optax.sgd(0.0), generator_optimizer=optax.sgd(0.0))
  state, update = initial(method), jax.jit(method.step)
  batch = make_batch(size=4)
  batch = {'views': (jnp.repeat(batch['views'][0], 2, axis=0),)}  # Both updates see the same real inputs.
  found = [float(update(state, batch, jax.random.key(i))[1]['discriminator_loss']) for i in (0, 0, 1)]
  assert found[0] == found[1] != found[2]


@pytest.mark.parametrize('momentum, expected', [(0.0, [0.0, 0.0, 0.0]), (0.5, [0.1, 2 / 11, 0.25]),
                                                (0.15, [0.1, 0.15, 0.15])])
def test_the_average_of_the_generator(momentum, expected, optimized):
  method = variant(generator_momentum=momentum)
  state, update = initial(METHOD), jax.jit(method.step, compiler_options=optimized)
  average = state.average['params']
  close(average, state.params['generator'], 0)
  for i, weight in enumerate(expected):
    state, _ = update(state, make_batch(i), jax.random.key(i))
    average = jax.tree.map(lambda a, w, m=weight: m * a + (1 - m) * w, average, state.params['generator'])
    close(state.average['params'], average)
  z = method.latents(KEY, 5)
  np.testing.assert_array_equal(
      method.sample(state, KEY, 5, (2,)), METHOD.generator.apply(state.average, z, (2,)))
  assert same(state.average['params'], state.params['generator']) == (momentum == 0)


def test_latents_have_the_distribution_asked():
  normal, uniform = (np.asarray(variant(latent=name, latent_size=50).latents(KEY, 400)) for name in gan.LATENTS)
  assert normal.shape == uniform.shape == (400, 50)
  assert abs(normal.mean()) < 0.03 and abs(normal.std() - 1) < 0.03 and np.abs(normal).max() > 3
  assert abs(uniform.mean()) < 0.03 and abs(uniform.std() - 3**-0.5) < 0.02 and np.abs(uniform).max() < 1


def test_nothing_moves_when_the_generator_alone_fails():
  """The discriminator's loss is finite, but its rate makes weights of which the generator has no finite loss."""
  method = variant(optimizer=optax.sgd(1e38))
  state, batch = initial(METHOD), make_batch()
  loss, (_, _) = method.discriminator_loss(state.params['encoder'], {}, batch['views'][0], batch['views'][0], KEY)
  after, _ = step(method, state, batch)
  assert np.isfinite(loss) and int(after.failed_step) == 0
  assert same(after._replace(failed_step=state.failed_step), state)


def test_features_are_of_the_layers_of_the_discriminator():
  method = variant(discriminator=ConvDiscriminator((3, 4, 5)), generator=Generator(ConvDecoder((4,))))
  x = make_batch(shape=(12, 20, 1))['views'][0]
  state = initial(method, (12, 20, 1))
  assert method.representations == ('layer3', 'layer2', 'layer1', 'all')
  outputs, scores = method.discriminator.apply({'params': state.params['encoder']}, x, method='layers')
  h = method.represent(state, x)  # 2 x 3 places, as many as there are.
  np.testing.assert_allclose(h, outputs['layer3'].reshape(12, -1), atol=1e-6)
  last = state.params['encoder']['score']
  np.testing.assert_allclose(h @ last['kernel'][:, 0] + last['bias'], scores, atol=1e-5)
  sizes = {name: method.represent(state, x, name).shape[1] for name in method.representations}
  assert sizes == {'layer3': 2 * 3 * 5, 'layer2': 3 * 4 * 4, 'layer1': 4 * 4 * 3, 'all': 30 + 48 + 48}
  embedded, = method.embed(state, {'views': (x,)})
  np.testing.assert_allclose(embedded, h - h.mean(axis=0, keepdims=True), atol=1e-6)


def test_batch_norm_of_both_networks_learns_its_averages():
  method = variant(
      discriminator=MLPDiscriminator((4, 4), norm='batch', spectral_norm=True),
      generator=Generator(MLPDecoder((5,), batch_norm=True), 'linear'))
  state = initial(method)
  assert {kind: set(tree) for kind, tree in state.stats.items()} == {
      'batch_stats': {'encoder', 'generator'}, 'spectral': {'encoder'}}
  after, _ = step(method, state, make_batch())
  for name in ('encoder', 'generator'):
    assert not same(after.stats['batch_stats'][name], state.stats['batch_stats'][name])
  assert not same(after.stats['spectral'], state.stats['spectral'])
  assert method.sample(after, KEY, 1, (2,)).shape == (1, 2)


RECIPES = {
    'r1': {'r1': 0.5},
    'wasserstein': {'divergence': 'wasserstein', 'gradient_penalty': 1.0, 'n_critic': 3},
    'relativistic': {'divergence': 'relativistic', 'r1': 0.2, 'r2': 0.2},
    'hinge': {'divergence': 'hinge', 'discriminator': MLPDiscriminator((32, 32), spectral_norm=True)},
    'pearson': {'divergence': 'pearson', 'r1': 0.5},
}


@pytest.mark.parametrize('name', [
    pytest.param(name, marks=[pytest.mark.slow] * (name in ('hinge', 'pearson'))) for name in RECIPES])
def test_it_learns_a_gaussian(name):
  """N((2, -1), 0.5^2): mean and spread of samples come near, of which there is nothing at the start."""
  fields = {'discriminator': MLPDiscriminator((32, 32)), 'generator': Generator(MLPDecoder((32,)), 'linear'),
            'optimizer': optax.adam(2e-3, 0.0, 0.9), 'generator_optimizer': optax.adam(2e-3, 0.0, 0.9),
            'generator_momentum': 0.98, 'latent_size': 4}
  method = variant(**{**fields, **RECIPES[name]})
  draw = lambda key: {'views': (jnp.array([[2.0, -1.0]]) + 0.5 * jax.random.normal(key, (192, 2)),)}

  def run(state):
    update = lambda state, key: method.step(state, draw(key), jax.random.fold_in(key, 1))
    return jax.lax.scan(update, state, jax.random.split(KEY, 600))

  state, metrics = jax.jit(run)(initial(method))
  samples = [np.asarray(method.sample(each, KEY, 4000, (2,))) for each in (initial(method), state)]
  distance = [np.abs(each.mean(axis=0) - [2, -1]).max() for each in samples]
  assert distance[1] < 0.2 < 1 < distance[0], distance
  assert np.all(np.abs(samples[1].std(axis=0) - 0.5) < 0.25), samples[1].std(axis=0)
  assert int(state.failed_step) == -1 and np.all(np.isfinite(metrics['divergence']))


def test_a_config_builds_it():
  adam = {'name': 'adamw', 'learning_rate': 1e-3, 'b1': 0.5}
  section = {
      'name': 'gan', 'discriminator': {'name': 'conv_discriminator', 'widths': [4, 5], 'spectral_norm': True},
      'generator': {'name': 'generator', 'decoder': {'name': 'resnet_decoder', 'widths': [4, 4]}, 'output': 'tanh'},
      'optimizer': adam, 'generator_optimizer': adam, 'divergence': 'hinge', 'n_critic': 2}
  method = build.construct('method', section, {'batch_size': 8, 'steps': 10, 'steps_per_epoch': 2.0})
  assert method.discriminator == ConvDiscriminator((4, 5), spectral_norm=True)
  state = jax.jit(method.init)(KEY, make_batch(shape=(8, 8, 1)))
  assert jax.eval_shape(lambda s: method.sample(s, KEY, 3, (8, 8, 1)), state).shape == (3, 8, 8, 1)
  with pytest.raises(ValueError, match="config.method: divergence must be one of 'jensen_shannon', .* got 'kl'"):
    build.construct('method', {**section, 'divergence': 'kl'}, {})


@pytest.mark.parametrize('fields, message', [
    ({'divergence': 'kl'}, "divergence must be one of 'jensen_shannon', 'saturating', .*'relativistic', got 'kl'"),
    ({'latent': 'beta'}, "latent must be one of 'normal', 'uniform', got 'beta'"),
    ({'latent_size': 0}, 'latent_size must be positive, got 0'),
    ({'n_critic': 0}, 'n_critic must be positive, got 0'),
    ({'gradient_penalty': -1.0}, 'gradient_penalty must be finite and not negative, got -1.0'),
    ({'r1': float('nan')}, 'r1 must be finite and not negative, got nan'),
    ({'r2': float('inf')}, 'r2 must be finite and not negative, got inf'),
    ({'clip': 0.0}, 'clip must be positive and finite, or None, got 0.0'),
    ({'clip': float('inf')}, 'clip must be positive and finite, or None, got inf'),
    ({'discriminator': MLPEncoder((4,))}, 'discriminator must be one of single inputs .* got MLPEncoder'),
    ({'generator_momentum': 1.0}, r'generator_momentum must lie in \[0, 1\), got 1.0'),
])
def test_mistakes_are_named(fields, message):
  with pytest.raises(ValueError, match=message):
    variant(**fields)


@pytest.mark.parametrize('fields, message', [
    ({'n_critic': 5}, 'n_critic must divide the batch of 12, got 5'),
    ({'discriminator': MLPDiscriminator((4, 4), norm='batch'), 'r2': 1.0},
     'discriminator must not have batch norm under r2'),
    ({'divergence': 'wasserstein'}, "divergence='wasserstein' needs a bound on the critic's slope"),
    ({'optimizer': optax.MultiSteps(optax.sgd(0.1), 2).gradient_transformation(), 'n_critic': 3},
     'optimizer must not accumulate gradients with n_critic=3'),
])
def test_what_does_not_go_together_is_named(fields, message):
  with pytest.raises(ValueError, match=message):
    jax.eval_shape(variant(**fields).init, KEY, make_batch())


def test_what_is_no_representation_is_named():
  with pytest.raises(ValueError, match="name must be one of 'layer2', 'layer1', 'all', got 'z'"):
    METHOD.represent(initial(METHOD), make_batch()['views'][0], 'z')
