"""SimCLR against its loss, written out."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxssl import losses, methods
from jaxssl.losses import contrastive
from jaxssl.models import MLP, ResNet

METHOD = methods.SimCLR(
    ResNet((1,), block='basic', widths=(4,), stem='small'), MLP((8, 6)), optax.sgd(0.1), temperature=0.3)


def make_views(sizes, b=6):
  return tuple(jax.random.uniform(jax.random.key(i), (b, s, s, 1)) for i, s in enumerate(sizes))


@pytest.fixture(scope='module')
def state():
  return jax.jit(METHOD.init)(jax.random.key(0), {'views': make_views((8, 8))})


def test_loss_is_nt_xent_of_both_views_in_one_batch(state):
  views = make_views((8, 8))
  loss, (stats, metrics) = METHOD.loss(state.params, state.stats, views)
  (_, z), _ = METHOD.network.apply(
      {'params': state.params, **state.stats}, jnp.concatenate(views), train=True, mutable=['batch_stats'])
  np.testing.assert_allclose(loss, contrastive.nt_xent(*jnp.split(z, 2), temperature=0.3), rtol=1e-5)
  assert 0 <= metrics['contrastive_accuracy'] <= 1
  before = jax.tree.leaves(state.stats)
  assert all(bool(jnp.any(a != b)) for a, b in zip(before, jax.tree.leaves(stats), strict=True))


def test_multi_crop_pairs_the_first_two_views_with_every_other(state):
  views = make_views((8, 8, 6))
  loss, _ = METHOD.loss(state.params, state.stats, views)
  (_, large), variables = METHOD.network.apply(
      {'params': state.params, **state.stats}, jnp.concatenate(views[:2]), train=True, mutable=['batch_stats'])
  (_, small), _ = METHOD.network.apply(
      {'params': state.params, **variables}, views[2], train=True, mutable=['batch_stats'])
  z1, z2 = jnp.split(large, 2)
  pairs = [(z1, z2), (z1, small), (z2, small)]
  np.testing.assert_allclose(
      loss, np.mean([contrastive.nt_xent(a, b, temperature=0.3) for a, b in pairs]), rtol=1e-5)


def test_representations_are_encoder_hidden_layer_and_projection(state):
  images = make_views((8,))[0]
  assert METHOD.representations == ('h', 'head1', 'z')
  h, z = METHOD.network.apply({'params': state.params, **state.stats}, images)
  np.testing.assert_array_equal(METHOD.represent(state, images), h)
  np.testing.assert_array_equal(METHOD.represent(state, images, 'z'), z)
  assert METHOD.represent(state, images, 'head1').shape == (6, 8)


def test_multi_label_follows_the_schedule_of_alpha(state):
  batch = {'views': make_views((8, 8))}
  schedule = functools.partial(losses.geometric_alpha, steps=10, high=4.0, low=0.25)
  method = dataclasses.replace(METHOD, objective='ml_cpc', alpha=schedule)
  (_, z), _ = method.network.apply(
      {'params': state.params, **state.stats}, jnp.concatenate(batch['views']), train=True, mutable=['batch_stats'])
  for step, alpha in [(0, 4.0), (5, 1.0), (10, 0.25)]:
    _, metrics = method.step(state._replace(step=jnp.int32(step)), batch, jax.random.key(0))
    expected = losses.multi_label_nt_xent(*jnp.split(z, 2), temperature=0.3, alpha=alpha)
    np.testing.assert_allclose(metrics['loss'], expected, rtol=1e-5)


@pytest.mark.parametrize('changed, message', [
    ({'temperature': 0.0}, 'temperature must be positive and finite, got 0.0'),
    ({'objective': 'info_nce'}, "objective must be one of 'nt_xent', .* 'supervised', got 'info_nce'"),
    ({'alpha': 0.5}, "alpha is of objective='ml_cpc' alone, got 0.5 with 'nt_xent'")])
def test_errors_name_the_field(changed, message):
  with pytest.raises(ValueError, match=message):
    dataclasses.replace(METHOD, **changed)


def test_one_view_is_refused():
  with pytest.raises(ValueError, match='views must be 2 or more, got 1'):
    METHOD.init(jax.random.key(0), {'views': make_views((8,))})


def test_decoupled_is_without_the_positive_in_the_denominator(state):
  views = make_views((8, 8))
  (_, z), _ = METHOD.network.apply(
      {'params': state.params, **state.stats}, jnp.concatenate(views), train=True, mutable=['batch_stats'])
  loss, _ = dataclasses.replace(METHOD, objective='decoupled').loss(state.params, state.stats, views)
  np.testing.assert_allclose(loss, losses.decoupled_nt_xent(*jnp.split(z, 2), temperature=0.3), rtol=1e-5)


@pytest.mark.parametrize('groups', [1, 2])
def test_supervised_attracts_examples_of_a_class(state, groups):
  views, label = make_views((8, 8)), jnp.array([0, 1, 0, 2, 1, 2])
  (_, z), _ = METHOD.network.apply(
      {'params': state.params, **state.stats}, jnp.concatenate(views), train=True, mutable=['batch_stats'])
  method = dataclasses.replace(METHOD, objective='supervised', negative_groups=groups)
  loss, _ = method.loss(state.params, state.stats, views, 0, label)
  both = [each.reshape(groups, -1, z.shape[1]) for each in jnp.split(z, 2)]
  parts = [jnp.concatenate([each[i] for each in both]) for i in range(groups)]
  expected = [losses.supervised_contrastive(part, jnp.tile(label.reshape(groups, -1)[i], 2), temperature=0.3)
              for i, part in enumerate(parts)]
  np.testing.assert_allclose(loss, np.mean(expected), rtol=1e-5)
  with pytest.raises(ValueError, match="objective='supervised' needs labels, which the data have not"):
    method.init(jax.random.key(0), {'views': views})
