"""What every method promises, run over every method."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import linen as nn
from jax.sharding import AxisType

from jaxssl import augment, methods
from jaxssl.methods.autoencoder import KLSparsity
from jaxssl.models import (
  MLP,
  AudioEncoder,
  ConvDecoder,
  ConvDiscriminator,
  ConvEncoder,
  Generator,
  GridPredictor,
  JEPAPredictor,
  JointDiscriminator,
  LinearPredictor,
  MAEDecoder,
  MaskedConvContext,
  MLPDecoder,
  MLPDiscriminator,
  MLPEncoder,
  MLPJointDiscriminator,
  PatchEncoder,
  Prototypes,
  RNNContext,
  RowGRUContext,
  ViT,
)
from jaxssl.training import loop, mesh


class TinyEncoder(nn.Module):
  """One convolution with batch norm: the smallest thing that couples the examples of a batch."""

  @nn.compact
  def __call__(self, x, train=False):
    x = nn.Conv(4, (3, 3), (2, 2), use_bias=False, name='conv')(x)
    x = nn.BatchNorm(use_running_average=not train, momentum=0.9, name='bn')(x)
    return nn.relu(x).mean((1, 2))


def cases():
  """Returns name -> a function that makes the method; a name begins with what decides about its batches."""
  optimizer = optax.sgd(0.1, momentum=0.9)
  cpc = functools.partial(
      methods.CPC, AudioEncoder(4, (4, 3), (2, 2)), RNNContext('gru', 5), LinearPredictor(2, 4), optimizer)
  image_cpc = functools.partial(methods.CPCImage, PatchEncoder(TinyEncoder(), 2, 2), optimizer=optimizer)
  moco = functools.partial(
      methods.MoCo, TinyEncoder(), MLP((8, 6)), optimizer, temperature=0.2, momentum=0.9, queue_size=24)
  cmc = functools.partial(methods.CMC, TinyEncoder(), optimizer, temperature=0.3)
  gan = functools.partial(methods.GAN, latent_size=3)
  bigan = functools.partial(
      methods.BiGAN, MLPEncoder((8,), batch_norm=True), Generator(MLPDecoder((8,), batch_norm=True)), latent_size=3,
      optimizer=optimizer, discriminator_optimizer=optimizer)
  plain = functools.partial(MLP, output_bn=False, output_bias=True)
  # Before batch norm the gradient of a bias, and behind it the mean, would be 0 but for rounding.
  smooth = functools.partial(plain, hidden_bn=False)
  identity = lambda key, shape, dtype: jnp.eye(*shape, dtype=dtype)  # So that the loss is not near 0 by chance.
  rising = lambda step: 0.9 + 0.01 * step
  grid = functools.partial(GridPredictor, predictor=LinearPredictor(2, 4), skip=0)
  return {
      'simclr': lambda: methods.SimCLR(TinyEncoder(), MLP((8, 6)), optimizer, temperature=0.2),
      'simclr, multi-label': lambda: methods.SimCLR(
          TinyEncoder(), MLP((8, 6)), optimizer, temperature=0.2, objective='ml_cpc',
          alpha=lambda step: 1 / (1 + step)),
      'simclr, in groups': lambda: methods.SimCLR(
          # Batch norm over four examples magnifies rounding, and so does a low temperature.
          TinyEncoder(), MLP((8, 6), bn_groups=4), optimizer, temperature=0.5, negative_groups=4),
      'simclr, supervised': lambda: methods.SimCLR(
          TinyEncoder(), MLP((8, 6)), optimizer, temperature=0.2, objective='supervised'),
      'moco, relational': lambda: methods.MoCo(
          TinyEncoder(), MLP((8, 6)), optimizer, momentum=rising, queue_size=24, objective='relational'),
      'moco v3': lambda: methods.MoCoV3(
          ViT(2, 8, 1, 2), smooth((8, 6)), smooth((8, 6)), optimizer, momentum=rising),
      'byol': lambda: methods.BYOL(TinyEncoder(), plain((8, 6)), smooth((8, 6)), optimizer, momentum=rising),
      'simsiam': lambda: methods.SimSiam(
          TinyEncoder(), MLP((8, 6), output_scale=False), smooth((6,), kernel_init=identity), optimizer,
          optax.sgd(0.05)),
      'swav': lambda: methods.SwAV(
          TinyEncoder(), plain((8, 6)), Prototypes(7), optimizer, freeze_steps=1, queue_size=32, queue_start=1),
      'dino': lambda: methods.DINO(
          ViT(2, 8, 2, 2, drop_path=0.2), smooth((8, 6), activation='gelu'),
          Prototypes(9, weight_norm=True), optax.sgd(0.01, momentum=0.9), momentum=rising, freeze_steps=1,
          koleo_weight=0.1),
      'nnclr': lambda: methods.NNCLR(TinyEncoder(), MLP((8, 6)), smooth((8, 6)), optimizer, queue_size=24),
      'barlow twins': lambda: methods.BarlowTwins(
          TinyEncoder(), MLP((8, 6), output_bn=False), optax.sgd(0.01, momentum=0.9)),
      'vicreg': lambda: methods.VICReg(TinyEncoder(), MLP((8, 6), output_bn=False), optax.sgd(0.01, momentum=0.9)),
      'w-mse': lambda: methods.WMSE(
          TinyEncoder(), MLP((8, 3), output_bn=False), optimizer, whitening_size=8, whitening_draws=2),
      'lejepa': lambda: methods.LeJEPA(TinyEncoder(), plain((8, 6)), optimizer, directions=16),
      'cpc': cpc,
      'cpc, drawn': lambda: cpc(negatives='group_others', num_negatives=6),
      'cpc, multi-label': lambda: cpc(objective='ml_cpc', alpha=lambda step: 1 / (1 + step)),
      'image cpc': lambda: image_cpc(grid(MaskedConvContext(4, 1), directions=('down', 'right'))),
      'image cpc, drawn': lambda: image_cpc(grid(RowGRUContext(5)), negatives='image', num_negatives=6),
      'moco': lambda: moco(objective='ml_cpc', alpha=lambda step: 1 / (1 + step)),
      'cmc': lambda: cmc(views=3),
      'cmc, memory': lambda: cmc(contrast='memory', num_examples=20, num_negatives=9),
      'cmc, memory by NCE': lambda: cmc(
          views=3, graph='core', contrast='memory_nce', num_examples=20, num_negatives=9, temperature=0.5),
      'autoencoder': lambda: methods.Autoencoder(
          ConvEncoder((4,), batch_norm=True), ConvDecoder((4,), batch_norm=True), optimizer, code_size=5,
          corruption=augment.MaskingNoise(0.25), sparsity=KLSparsity(0.1)),
      'vae': lambda: methods.VAE(
          MLPEncoder((8,), batch_norm=True), MLPDecoder((8,), batch_norm=True), optax.sgd(0.001, momentum=0.9), 5,
          beta=lambda step: 1 / (1 + step), binarize=True),
      'vq-vae': lambda: methods.VQVAE(
          ConvEncoder((3, 4), pool='grid'), ConvDecoder((4, 3)), optimizer, num_codes=8, code_dim=3, decay=0.9,
          restart_below=0.3),
      'vq-vae, groups': lambda: methods.VQVAE(
          TinyEncoder(), MLPDecoder((5,)), optimizer, num_codes=5, code_dim=2, groups=3, decay=None),
      'mae': lambda: methods.MAE(
          ViT(2, 8, 1, 2), MAEDecoder(8, 1, 2), optimizer, mask_ratio=0.6, normalize_targets=False),
      'i-jepa': lambda: methods.IJEPA(
          ViT(2, 8, 1, 2), JEPAPredictor(8, 1, 2), optimizer, momentum=lambda step: 0.9 + 0.01 * step),
      'gan': lambda: gan(
          ConvDiscriminator((4, 5), norm='batch', spectral_norm=True),
          Generator(ConvDecoder((4,), batch_norm=True)), optimizer, optimizer),
      'gan, penalties': lambda: gan(
          MLPDiscriminator((8,), score_bias=False), Generator(MLPDecoder((8,), batch_norm=True)), optimizer, optimizer,
          divergence='relativistic', gradient_penalty=0.1, r1=0.1, r2=0.2, clip=0.5, n_critic=2),
      'adversarial autoencoder': lambda: methods.AdversarialAutoencoder(
          MLPEncoder((8,), batch_norm=True), MLPDecoder((8,)), MLPDiscriminator((6,), spectral_norm=True),
          optax.sgd(0.01, momentum=0.9), optimizer, optimizer, code_size=2, categories=3, prior='mixture'),
      'bigan': lambda: bigan(discriminator=MLPJointDiscriminator((6, 5), norm='batch')),
      'bigan, unary and stochastic': lambda: bigan(
          discriminator=JointDiscriminator(*(MLPDiscriminator((6,), spectral_norm=True) for _ in range(3))),
          objective='unary', latent='normal', stochastic=True),
  }


@functools.cache
def build(name):
  return cases()[name]()


METHODS = list(cases())
# In the slow set alone: another setting of their method is in the default one.
VARIANTS = ('simclr, multi-label', 'simclr, supervised', 'cpc, multi-label', 'image cpc, drawn', 'moco, relational',
            'vq-vae, groups', 'cmc, memory by NCE', 'bigan, unary and stochastic')
EACH = [pytest.param(name, marks=[pytest.mark.slow] * (name in VARIANTS)) for name in METHODS]
MULTI_CROP = ('swav', 'dino', 'lejepa')  # Small views beside the large ones.
KEY = jax.random.key(3)


def hears(name):
  return name.startswith('cpc')


def prepare(batch, key):
  noisy = lambda x, i: x + 0.1 * jax.random.normal(jax.random.fold_in(key, i), x.shape)
  inputs = batch['inputs']
  given = inputs if isinstance(inputs, tuple) else (inputs, inputs)
  if 'small' in batch:
    given += (inputs[:, 1:5, 1:5], inputs[:, :4, 2:])
  return {**batch, 'views': tuple(noisy(x, i) for i, x in enumerate(given))}


def make_batch(name, step, size=16):
  rng = np.random.default_rng(step)
  index = np.arange(size, dtype=np.int32)
  if hears(name):
    lengths = rng.integers(12, 25, size)
    return {'inputs': rng.normal(size=(size, 24)).astype(np.float32), 'index': index, 'group': index % 3,
            'mask': np.arange(24) < lengths[:, None]}
  images = lambda *shape: rng.uniform(size=(size, *shape)).astype(np.float32)
  if name.startswith('cmc'):  # Views of different shapes.
    index = rng.permutation(20)[:size].astype(np.int32)
    return {'inputs': tuple(images(6, 6, i + 1) for i in range(build(name).views)), 'index': index}
  more = {'small': index} if name in MULTI_CROP else {'label': index % 3} if name.endswith('supervised') else {}
  return {'inputs': images(6, 6, 1), 'index': index, **more}


@functools.cache
def initial(name):
  method = build(name)
  return jax.jit(lambda key, batch: method.init(key, prepare(batch, key)))(KEY, make_batch(name, 0))


def fresh(name):
  """A copy of the initial state, since the loop donates what it is given."""
  return jax.tree.map(jnp.copy, initial(name))


def assert_same(a, b, tolerance=0.0):
  """Every leaf of `b` is that of `a`, to `tolerance` times the leaf's largest value."""

  def check(path, x, y):
    x, y = np.asarray(x, np.float64), np.asarray(y, np.float64)
    np.testing.assert_allclose(y, x, rtol=0, atol=tolerance * np.abs(x).max(), err_msg=jax.tree_util.keystr(path))

  jax.tree_util.tree_map_with_path(check, a, b)


@functools.cache
def uninterrupted(name):
  """State (a copy) and metrics after each of five steps of one run."""
  batches = (make_batch(name, i) for i in range(5))
  return [(jax.tree.map(np.array, state), metrics)
          for _, state, metrics, _ in loop.train(build(name), prepare, fresh(name), batches, KEY)]


def after(name, steps):
  """The state after `steps` of the uninterrupted run, on the device."""
  return jax.tree.map(jnp.asarray, uninterrupted(name)[steps - 1][0])


@pytest.mark.parametrize('name', EACH)
def test_step_counts_and_learns(name):
  before = initial(name)
  state, metrics = uninterrupted(name)[4]
  assert int(state.step) == 5 and int(state.failed_step) == -1
  assert np.isfinite(metrics['loss']) and metrics['gradient_norm'] > 0
  changed = jax.tree.map(
      lambda a, b: bool(np.any(np.asarray(a) != b)), before.params['encoder'], state.params['encoder'])
  assert all(jax.tree.leaves(changed)), 'every parameter of the encoder learns'


@pytest.mark.parametrize('name', EACH)
def test_represents_under_every_name(name):
  method, state = build(name), fresh(name)
  inputs = make_batch(name, 0, 5)['inputs']
  default = method.represent(state, inputs)
  assert default.shape[0] == 5 and default.dtype == jnp.float32
  np.testing.assert_array_equal(default, method.represent(state, inputs, method.representations[0]))
  first = lambda i: jax.tree.map(lambda x: x[i : i + 1], inputs)
  for representation in method.representations:
    features = method.represent(state, inputs, representation)
    encoder, variables = method.backbone(state, representation)
    np.testing.assert_allclose(encoder.apply(variables, inputs), features, atol=1e-6, err_msg=representation)
    shapes = lambda tree: jax.tree.map(jnp.shape, dict(tree))
    assert shapes(jax.eval_shape(encoder.init, KEY, inputs)) == shapes(variables), 'what fine-tuning starts from'
  with pytest.raises(ValueError, match=f"name must be one of .*'{method.representations[0]}'.* got 'nothing'"):
    method.represent(state, inputs, 'nothing')
  one_by_one = jnp.concatenate([method.represent(state, first(i)) for i in range(5)])
  np.testing.assert_allclose(default, one_by_one, atol=1e-5, err_msg='features depend on the rest of the batch')


@pytest.mark.parametrize('name', [each for each in EACH if not hears(each.values[0])])  # Clips have a length.
def test_represents_batches_of_any_size_as_one_program(name):
  method, state = build(name), fresh(name)
  inputs = make_batch(name, 0, 3)['inputs']
  (batch,) = jax.export.symbolic_shape('b')
  shapes = jax.tree.map(lambda x: jax.ShapeDtypeStruct((batch, *x.shape[1:]), x.dtype), inputs)
  for representation in method.representations:
    represent = jax.jit(functools.partial(method.represent, state, name=representation))
    (features,) = jax.export.export(represent)(shapes).out_avals
    assert features.shape == (batch, *method.represent(state, inputs, representation).shape[1:])


@pytest.mark.parametrize('name', EACH)
def test_resumes_bit_for_bit_and_stops_at_the_first_loss_that_is_not_finite(name):
  poison = lambda x: np.full_like(x, np.nan) if x.dtype == np.float32 else x
  batches = [make_batch(name, i) for i in (2, 3, 4, 5, 5)]
  batches[3]['inputs'] = jax.tree.map(poison, batches[3]['inputs'])
  *_, fifth, _, last = (jax.tree.map(np.array, state) for _, state, _, _ in loop.train(
      build(name), prepare, after(name, 2), batches, KEY, 2))
  assert_same(after(name, 5), fifth)
  assert int(last.failed_step) == 5
  assert_same(fifth._replace(failed_step=last.failed_step), last)


@pytest.mark.parametrize('name, devices, model', [
    pytest.param(name, devices, model, marks=[pytest.mark.slow] * ((devices, model) != (8, 1) or name in VARIANTS))
    for name in METHODS for devices, model in ((8, 1), (2, 1), (8, 2))])
def test_many_devices_equal_one(name, devices, model):
  expected, expected_metrics = uninterrupted(name)[1]
  devices = mesh.make_mesh(model=model, devices=jax.devices()[:devices])
  assert set(devices.axis_types) == {AxisType.Auto}
  with jax.set_mesh(devices):
    batches = (mesh.shard_batch(devices, make_batch(name, i)) for i in range(2))
    *_, (_, state, metrics, _) = loop.train(
        build(name), prepare, mesh.replicate(devices, fresh(name)), batches, KEY)
  np.testing.assert_allclose(metrics['loss'], expected_metrics['loss'], rtol=1e-5)
  assert_same(expected, state, tolerance=5e-5)
