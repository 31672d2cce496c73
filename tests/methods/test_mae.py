"""MAE against a whole reference in NumPy, float64; what is hidden stays hidden; what evaluation is given."""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from vit_reference import cut, linear, position, prefix, transformer

from jaxssl import core, losses, methods, models, ops

ENCODER = models.ViT(4, 16, 1, 2)
DECODER = models.MAEDecoder(8, 1, 2)
MAE = methods.MAE(ENCODER, DECODER, optax.adam(3e-3))
VARIANTS = {
    'paper': MAE,
    'pixels': methods.MAE(ENCODER, DECODER, optax.sgd(0.1), mask_ratio=0.5, normalize_targets=False),
    'registers': methods.MAE(
        ENCODER.clone(patch=(2, 4), class_token=False, registers=2, pool='mean'), DECODER, optax.sgd(0.1)),
}
KEY = jax.random.key(7)


def images(*shape, seed=1):
  return jnp.asarray(np.random.default_rng(seed).random(shape, np.float32))


@functools.cache
def initial(method, shape=(2, 8, 16, 3)):
  return jax.jit(method.init)(jax.random.key(0, impl='rbg'), {'views': (jnp.zeros(shape),)})


@functools.partial(jax.jit, static_argnums=0)
def loss(method, params, x, key):
  return method.loss(params, {}, x, key)[0]


@functools.partial(jax.jit, static_argnums=0)
def predict(method, params, x, masking):
  return method.network.apply({'params': params}, x, masking.keep, masking.restore)


@functools.partial(jax.jit, static_argnums=(0, 3))
def represent(method, params, x, name):
  return method.represent(core.State(0, 0, params, {}, ()), x, name)


@functools.partial(jax.jit, static_argnums=0)
def reconstruct(method, state, x, key):
  return method.reconstruct(state, x, key)


@functools.partial(jax.jit, static_argnums=(0, 4))
def score(method, state, x, key, samples=1):
  return method.score(state, x, key, samples)


def reference(method, params, x, noise):
  """The loss of images x, patch by patch, and the predictions [b, n, p]."""
  params = jax.tree.map(lambda a: np.asarray(a, np.float64), params)
  encoder, decoder = params['encoder'], params['decoder']
  errors, predictions = [], []
  for image, row in zip(np.asarray(x, np.float64), np.asarray(noise), strict=True):
    patches, places = cut(image, method.encoder.patch)
    visible = sorted(range(len(places)), key=lambda i: row[i])[:int(len(places) * (1 - method.mask_ratio))]
    tokens = prefix(encoder)
    first = len(tokens)
    for i in visible:
      tokens.append(linear(encoder['patch_embed'], patches[i]) + position(*places[i], method.encoder.width))
    encoded = transformer(encoder, np.stack(tokens), method.encoder.heads)
    encoded = linear(decoder['embed'], encoded)
    full = [*encoded[:first]]
    for i, place in enumerate(places):
      token = encoded[first + visible.index(i)] if i in visible else decoder['mask_token']
      full.append(token + position(*place, method.decoder.width))
    decoded = transformer({k: v for k, v in decoder.items() if k not in ('embed', 'pixels')}, np.stack(full),
                          method.decoder.heads)[first:]
    predicted = linear(decoder['pixels'], decoded)
    for i in set(range(len(places))) - set(visible):
      target = patches[i]
      if method.normalize_targets:
        target = (target - target.mean()) / math.sqrt(target.var(ddof=1) + 1e-6)
      errors.append(((predicted[i] - target) ** 2).mean())
    predictions.append(predicted)
  return np.mean(errors), np.stack(predictions)


def noise_of(key, n, b=2):
  """What the loss draws from its key; the other half of it is for stochastic depth."""
  return jax.random.uniform(jax.random.split(key)[0], (b, n))


@pytest.mark.parametrize('name', VARIANTS)
def test_loss_equals_a_slow_reference(name):
  method, x = VARIANTS[name], images(2, 8, 16, 3)
  params = initial(method).params
  rng = np.random.default_rng(0)
  params = jax.tree.map(lambda a: a + 0.1 * rng.normal(size=a.shape).astype(np.float32), params)
  n = 16 if name == 'registers' else 8
  expected, predictions = reference(method, params, x, noise_of(KEY, n))
  np.testing.assert_allclose(loss(method, params, x, KEY), expected, rtol=1e-5)
  masking = method.draw_mask(jax.random.split(KEY)[0], x)
  np.testing.assert_allclose(predict(method, params, x, masking), predictions, atol=2e-5)


def test_masks_are_drawn_for_each_image_and_uniformly():
  masking = MAE.draw_mask(KEY, jnp.zeros((4000, 8, 16, 1)))
  keep, restore, mask = (np.asarray(a) for a in masking)
  assert keep.shape == (4000, 2) and (mask.sum(1) == 6).all() and (restore.argsort(1)[:, :2] == keep).all()
  assert not np.take_along_axis(mask, keep, axis=1).any()
  np.testing.assert_allclose(mask.mean(0), 0.75, atol=0.03)
  pairs = {tuple(sorted(row)) for row in keep}
  assert len(pairs) == 8 * 7 // 2


def test_predictions_of_visible_patches_get_no_gradient():
  x = images(2, 8, 16, 3)
  mask = MAE.draw_mask(KEY, x).mask
  gradient = jax.grad(losses.masked_patch_error)(images(2, 8, 48, seed=3), MAE.target(x), mask)
  assert (np.asarray(gradient)[~np.asarray(mask)] == 0).all()
  assert (np.asarray(gradient)[np.asarray(mask)] != 0).all()


def test_hidden_pixels_reach_no_prediction():
  x, other, state = images(2, 8, 16, 3), images(2, 8, 16, 3, seed=2), initial(MAE)
  masking = MAE.draw_mask(KEY, x)
  swapped = MAE._paste(x, ops.to_patches(other, 4), masking.mask)
  assert np.abs(swapped - x).max() > 0.5
  found = predict(MAE, state.params, x, masking)
  np.testing.assert_array_equal(found, predict(MAE, state.params, swapped, masking))
  assert np.abs(found - predict(MAE, state.params, other, masking)).max() > 1e-3


def test_tokens_of_no_patch_are_left_out_of_the_mean():
  encoder, variables = MAE.backbone(initial(MAE), 'mean')
  x, params = images(2, 8, 16, 3), initial(MAE).params
  tokens = jax.jit(functools.partial(encoder.apply, method='tokens'))(variables, x)
  np.testing.assert_allclose(represent(MAE, params, x, None), tokens[:, 1:].mean(1), atol=1e-6)
  np.testing.assert_allclose(represent(MAE, params, (x,), 'class'), tokens[:, 0], atol=1e-6)
  assert VARIANTS['registers'].representations == ('mean',)
  with pytest.raises(ValueError, match="name must be one of 'mean', got 'class'"):
    VARIANTS['registers'].backbone(initial(VARIANTS['registers']), 'class')


def test_training_beats_the_mean_patch():
  """Images of one colour each: a hidden patch is known from any visible one."""
  method = methods.MAE(ENCODER, DECODER, optax.adam(1e-2), normalize_targets=False)
  colours = lambda seed: jnp.tile(images(16, 1, 1, 3, seed=seed), (1, 8, 16, 1)) * jnp.linspace(
      0, 1, 16)[None, None, :, None]
  state, step = initial(method, (16, 8, 16, 3)), jax.jit(method.step)
  for i in range(100):
    state, metrics = step(state, {'views': (colours(i),)}, jax.random.fold_in(KEY, i))
  found = score(method, state, colours(1000), KEY, 4)
  assert found['masked_error'].mean() < 0.5 * found['masked_error_of_mean_patch'].mean()
  assert metrics['loss'] < 0.5 * found['masked_error_of_mean_patch'].mean()


@pytest.mark.parametrize('name', ['paper', 'pixels'])
def test_scores_equal_those_of_the_pictures(name):
  method, x, state = VARIANTS[name], images(2, 8, 16, 3), initial(VARIANTS[name])
  (key,) = jax.random.split(KEY, 1)
  found, pictures = score(method, state, x, KEY), reconstruct(method, state, x, key)
  mask = np.asarray(method.draw_mask(key, x).mask)
  cells = lambda image: np.asarray(ops.to_patches(image, 4), np.float64)
  assert (cells(pictures['masked'])[mask] == 0.5).all()
  for picture in pictures.values():
    np.testing.assert_array_equal(cells(picture)[~mask], cells(x)[~mask])
  error, guess = (np.zeros(2) for _ in range(2))
  for i in range(2):
    true, made = cells(x)[i], cells(pictures['reconstruction'])[i]
    if name == 'paper':
      mean, deviation = true.mean(-1, keepdims=True), np.sqrt(true.var(-1, ddof=1, keepdims=True) + 1e-6)
      true, made = (true - mean) / deviation, (made - mean) / deviation
    error[i] = ((made - true)[mask[i]] ** 2).mean()
    guess[i] = ((true[~mask[i]].mean(0) - true[mask[i]]) ** 2).mean()
  np.testing.assert_allclose(found['masked_error'], error, rtol=1e-4)
  np.testing.assert_allclose(found['masked_error_of_mean_patch'], guess, rtol=1e-4)


def test_score_is_the_mean_over_masks_and_the_loss_that_of_images():
  x, state = images(2, 8, 16, 3), initial(MAE)
  many = score(MAE, state, x, KEY, 3)
  each = []
  for key in jax.random.split(KEY, 3):
    masking = MAE.draw_mask(key, x)
    prediction = predict(MAE, state.params, x, masking)
    each.append(losses.masked_patch_error(prediction, MAE.target(x), masking.mask))
  np.testing.assert_allclose(many['masked_error'].mean(), np.mean(each), rtol=1e-5)
  assert {name: (value.shape, value.dtype) for name, value in many.items()} == dict.fromkeys(
      ('masked_error', 'masked_error_of_mean_patch'), ((2,), jnp.float32))


def test_embedding_has_mean_zero():
  (h,) = jax.jit(MAE.embed)(initial(MAE), {'views': (images(5, 8, 16, 3),)})
  assert h.shape == (5, 16) and h.std() > 1e-3
  np.testing.assert_allclose(h.mean(0), 0, atol=1e-6)


@pytest.mark.parametrize('shape', [(2, 8, 8, 1), (2, 12, 4, 3)])
def test_any_shape_of_images(shape):
  method = methods.MAE(ENCODER, DECODER, optax.sgd(0.1), mask_ratio=0.5)
  batch = {'views': (images(*shape),)}

  def run(key):
    state = method.init(key, batch)
    return method.step(state, batch, key)[1]['loss'], method.reconstruct(state, batch['views'], key)

  value, pictures = jax.eval_shape(run, KEY)
  assert value.shape == () and {picture.shape for picture in pictures.values()} == {shape}


@pytest.mark.parametrize('ratio, shape, message', [
    (0.75, (2, 4, 4, 1), 'some of the 1 patches visible .* got 0.75, which leaves 0'),
    (0.9, (2, 8, 16, 1), 'some of the 8 patches visible .* got 0.9, which leaves 0'),
    (0.75, (2, 8, 15, 1), 'patch must divide the images: 4 x 4 does not divide 8 x 15'),
])
def test_masks_of_all_or_nothing_are_refused(ratio, shape, message):
  method = methods.MAE(ENCODER, DECODER, optax.sgd(0.1), mask_ratio=ratio)
  with pytest.raises(ValueError, match=message):
    method.init(KEY, {'views': (jnp.zeros(shape),)})


@pytest.mark.parametrize('ratio', [-0.1, 0.0, 1.0])
def test_ratios_out_of_range_are_refused(ratio):
  with pytest.raises(ValueError, match=rf'mask_ratio must lie in \(0, 1\), got {ratio}'):
    methods.MAE(ENCODER, DECODER, optax.sgd(0.1), mask_ratio=ratio)


def test_nine_tenths_of_ten_patches_leave_one():
  method = methods.MAE(ENCODER, DECODER, optax.sgd(0.1), mask_ratio=0.9)
  assert method.draw_mask(KEY, jnp.zeros((1, 4, 40, 1))).keep.shape == (1, 1)


def test_decoder_names_a_width_that_heads_do_not_divide():
  method = methods.MAE(ENCODER, models.MAEDecoder(8, 1, 3), optax.sgd(0.1))
  with pytest.raises(ValueError, match='decoder: width must be a multiple of heads, and .* positive, got 8, 3 and 1'):
    jax.eval_shape(method.init, KEY, {'views': (jnp.zeros((2, 8, 16, 3)),)})


def test_other_networks_are_refused():
  with pytest.raises(ValueError, match='encoder must be a ViT, got ConvEncoder'):
    methods.MAE(models.ConvEncoder((4,)), DECODER, optax.sgd(0.1))
  with pytest.raises(ValueError, match='decoder must be a MAEDecoder, got MLPDecoder'):
    methods.MAE(ENCODER, models.MLPDecoder(()), optax.sgd(0.1))


def test_remat_changes_no_number():
  again = methods.MAE(ENCODER.clone(remat=True), DECODER.clone(remat=True), MAE.optimizer)
  x = images(2, 8, 16, 3)
  gradients = [jax.value_and_grad(functools.partial(loss, method)) for method in (MAE, again)]
  found, expected = (gradient(initial(MAE).params, x, KEY) for gradient in gradients)
  jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6), found, expected)
  traced = [str(jax.make_jaxpr(gradient)(initial(MAE).params, x, KEY)) for gradient in gradients]
  assert [jaxpr.count('prevent_cse') for jaxpr in traced] == [0, 2], 'a block of each is computed again'


def test_stochastic_depth_draws_from_the_step():
  method = methods.MAE(ENCODER.clone(depth=2, drop_path=0.9), DECODER, optax.sgd(0.1))
  params, x = initial(method).params, images(8, 8, 16, 3)
  assert loss(method, params, x, KEY) == loss(method, params, x, KEY)
  prediction = predict(method, params, x, method.draw_mask(jax.random.split(KEY)[0], x))
  whole = losses.masked_patch_error(prediction, method.target(x), method.draw_mask(jax.random.split(KEY)[0], x).mask)
  assert abs(loss(method, params, x, KEY) - whole) > 1e-4


def test_state_holds_the_encoder_under_its_name():
  state = initial(MAE)
  assert isinstance(state, core.State) and set(state.params) == {'encoder', 'decoder'}
  expected = jax.eval_shape(ENCODER.init, KEY, jnp.zeros((1, 8, 16, 3)))['params']
  assert jax.tree.map(jnp.shape, state.params['encoder']) == jax.tree.map(jnp.shape, expected)
