"""CPC of images against its loss, written out, and what it represents."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxssl import augment, losses, methods, models, ops, recipes
from jaxssl.models.cpc_image import turn_back

NETWORK = models.ResNet((1,), 'basic', (6,), stem='small', norm='layer', zero_init_residual=False)
ENCODER = models.PatchEncoder(NETWORK, 4, 2)
PREDICTOR = models.GridPredictor(
    models.MaskedConvContext(5, 1), models.LinearPredictor(2, 3), ('down', 'left'), skip=1, target_features=3)
METHOD = methods.CPCImage(ENCODER, PREDICTOR, optax.adam(1e-2))
KEY = jax.random.key(1)


def make_batch(b=4, size=12):
  images = jax.random.uniform(KEY, (b, size, size, 3))
  return {'views': (images,), 'inputs': images}


@pytest.fixture(scope='module')
def state():
  return jax.jit(METHOD.init)(KEY, make_batch())


def pairs(state, images):
  return METHOD.network.apply({'params': state.params}, images)[1]


def test_loss_is_info_nce_down_the_columns(state):
  batch = make_batch()
  found = [losses.cpc_info_nce(*pair) for pair in pairs(state, batch['inputs']).values()]
  assert len(found) == 2 and abs(found[0] - found[1]) > 1e-4
  loss, (_, metrics) = METHOD.loss(state.params, state.stats, batch, KEY)
  np.testing.assert_allclose(loss, np.mean(found), rtol=1e-5)
  assert metrics.keys() == {'accuracy', 'accuracy_next', 'accuracy_last', 'bound'}


def test_loss_written_out(state):
  """Each of 60 + 40 predictions, one and two rows past the overlap, against all patches that anything predicts."""
  method = dataclasses.replace(METHOD, predictor=PREDICTOR.clone(directions=('down',)))
  predictions, targets = pairs(state, make_batch()['inputs'])['down']
  predictions, targets = np.asarray(predictions, np.float64), np.asarray(targets, np.float64)
  assert targets.shape == (4 * 5, 4, 3)  # Five columns an image; five rows, of which the first is never a target.
  scores = np.einsum('stkd,und->stkun', predictions, targets)
  each = {k: [np.log(np.exp(scores[s, t, k - 1]).sum()) - scores[s, t, k - 1, s, t + k]
              for s in range(20) for t in range(4 - k)] for k in (1, 2)}
  loss, _ = method.loss(state.params, state.stats, make_batch(), KEY)
  np.testing.assert_allclose(loss, (np.mean(each[1]) + np.mean(each[2])) / 2, rtol=1e-5)


def test_negatives_of_the_image_come_from_nowhere_else(state):
  method = dataclasses.replace(METHOD, negatives='image')
  batch = make_batch()
  loss, _ = method.loss(state.params, state.stats, batch, KEY)
  one_by_one = [METHOD.loss(state.params, state.stats, jax.tree.map(lambda x, i=i: x[i : i + 1], batch), KEY)[0]
                for i in range(4)]
  np.testing.assert_allclose(loss, np.mean(one_by_one), rtol=1e-5)
  drawn, _ = dataclasses.replace(method, num_negatives=5).loss(state.params, state.stats, batch, KEY)
  assert abs(drawn - np.log(6)) < 0.5 and abs(loss - np.log(5 * 4)) < 0.5


def test_represents_z_c_and_h(state):
  images = make_batch()['inputs']
  z = ENCODER.apply({'params': state.params['encoder']}, images)
  np.testing.assert_allclose(METHOD.represent(state, images), z.mean(axis=(1, 2)), atol=1e-6)
  context = lambda direction: models.MaskedConvContext(5, 1).apply(
      {'params': state.params['predictor'][f'contexts_{direction}']}, jnp.rot90(z, direction == 'left', axes=(1, 2)))
  c = jnp.concatenate([context('down'), turn_back(context('left'), 'left')], axis=-1)
  np.testing.assert_allclose(METHOD.represent(state, images, 'c'), c.mean(axis=(1, 2)), atol=1e-6)
  h = NETWORK.apply({'params': state.params['encoder']['network']}, images)
  np.testing.assert_allclose(METHOD.represent(state, images, 'h'), h, atol=1e-6)
  assert METHOD.represent(state, images[:, :10], 'h').shape == (4, 6)  # Of any size.


def test_patches_changed_by_the_recipe_are_what_is_learnt_from(state):
  recipe = recipes.patches(12, 4, 2, area=(1.0, 1.0), flip=0.0)
  batch = make_batch()
  cut = {**batch, 'views': (ops.patchify(batch['inputs'], 4, 2),)}
  np.testing.assert_allclose(
      METHOD.loss(state.params, state.stats, cut, KEY)[0], METHOD.loss(state.params, state.stats, batch, KEY)[0],
      rtol=1e-6)
  prepared = jax.jit(augment.prepare(recipe))(batch, KEY)
  assert prepared['views'][0].shape == (4, 5, 5, 4, 4, 3)
  changed = METHOD.loss(state.params, state.stats, prepared, KEY)[0]
  assert abs(changed - METHOD.loss(state.params, state.stats, batch, KEY)[0]) > 1e-5


def test_the_grids_of_recipe_and_encoder_must_agree():
  prepared = augment.prepare(recipes.patches(12, 4, 4))(make_batch(), KEY)
  with pytest.raises(ValueError, match=r'into patches .5, 5, 4, 4, 3., but the recipe .* .3, 3, 4, 4, 3.: size and'):
    METHOD.init(KEY, prepared)


def test_wrong_negatives_are_named():
  with pytest.raises(ValueError, match="negatives must be one of 'batch', 'image', got 'group'"):
    dataclasses.replace(METHOD, negatives='group')


def test_parts_must_be_those_of_images():
  with pytest.raises(ValueError, match='encoder must be a PatchEncoder, got ResNet'):
    methods.CPCImage(NETWORK, PREDICTOR, optax.sgd(0.1))
  with pytest.raises(ValueError, match='predictor must be a GridPredictor, got LinearPredictor'):
    methods.CPCImage(ENCODER, models.LinearPredictor(2, 3), optax.sgd(0.1))


def test_health_of_wide_images_and_of_features_with_a_large_mean(state):
  method = dataclasses.replace(METHOD, predictor=PREDICTOR.clone(directions=('right',)))
  images = jax.random.uniform(KEY, (4, 4, 12, 3))  # One row of patches.
  start = jax.jit(method.init)(KEY, {'views': (images,)})
  halves = method.embed(start, {'views': (images,)})
  assert [half.shape for half in halves] == [(4, 6)] * 2 and all(jnp.isfinite(half).all() for half in halves)
  halves = METHOD.embed(state, make_batch())
  np.testing.assert_allclose(jnp.mean(3 * halves[0] + 2 * halves[1], axis=0), 0, atol=1e-5)  # Of 3 rows and of 2.


def test_evaluate_gives_every_distance(state):
  found = METHOD.evaluate(state, make_batch(), KEY)
  assert found.keys() == {'accuracy_1', 'accuracy_2', 'bound_1', 'bound_2'}


def test_learns_what_lies_below():
  """Images of one colour each, with noise: what lies below is known from above, and soon foreseen."""

  def make(key):
    colour_key, noise_key = jax.random.split(key)
    images = (jax.random.uniform(colour_key, (16, 1, 1, 3)) + 0.05 * jax.random.normal(noise_key, (16, 12, 12, 3)))
    return {'views': (images,), 'inputs': images}

  method = dataclasses.replace(METHOD, predictor=PREDICTOR.clone(directions=('down',)))
  state = jax.jit(method.init)(KEY, make(KEY))
  step = jax.jit(lambda state, key: method.step(state, make(key), key))
  first = step(state, KEY)[1]
  for i in range(150):
    state, metrics = step(state, jax.random.fold_in(KEY, i))
  # Twenty patches an image look alike: of log(16 x 20) nats, log 16 can be known.
  assert metrics['loss'] < first['loss'] - 1 and metrics['bound'] > 1
