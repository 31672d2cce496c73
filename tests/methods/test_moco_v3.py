"""MoCo v3 against its step, written out."""

import jax
import numpy as np
import optax
import pytest
from joint import ENCODER, HEAD, OPTIMIZER, PREDICTOR, B, assert_close, followed, unit, views

from jaxssl import methods
from jaxssl.models import MLP, Projected, ViT

METHOD = methods.MoCoV3(ENCODER, HEAD, PREDICTOR, OPTIMIZER, temperature=0.3, momentum=0.8)


def contrast(query, key):
  scores = unit(query) @ unit(key).T / 0.3
  return 2 * 0.3 * np.mean(np.log(np.exp(scores).sum(1)) - np.diag(scores))


def test_three_steps_written_out():
  state = METHOD.init(jax.random.key(0), {'views': views(0)})
  target = {name: state.params[name] for name in ('encoder', 'head')}
  step = jax.jit(METHOD.step)
  for i in range(3):
    x = views(i)
    target = followed(target, {name: state.params[name] for name in target}, 0.8)
    (q1, q2) = (METHOD.network.apply({'params': state.params}, view)[2] for view in x)
    (k1, k2) = (Projected(ENCODER, HEAD).apply({'params': target}, view)[1] for view in x)
    state, metrics = step(state, {'views': x}, jax.random.key(i))
    np.testing.assert_allclose(metrics['loss'], contrast(q1, k2) + contrast(q2, k1), rtol=1e-4)
  assert_close(state.stats['target']['params'], target)


def test_map_of_patches_can_stay_as_it_is():
  head = MLP((6, 4), hidden_bn=False, output_bn=False)
  method = methods.MoCoV3(
      ViT(2, 8, 1, 2), head, head.clone(features=(5, 4)), optax.adamw(0.1, weight_decay=0.1), freeze_patches=True)
  x = tuple(jax.random.uniform(jax.random.key(0), (2, B, 4, 4, 1)))
  before = method.init(jax.random.key(0), {'views': x})
  after, _ = jax.jit(method.step)(before, {'views': x}, jax.random.key(1))
  assert_close(after.params['encoder']['patch_embed'], before.params['encoder']['patch_embed'], 0)
  kernels = [state.params['encoder']['block0']['qkv']['kernel'] for state in (before, after)]
  assert np.any(kernels[0] != kernels[1])


@pytest.mark.parametrize('fields, message', [
    ({'temperature': 0.0}, 'temperature must be positive and finite, got 0.0'),
    ({'momentum': 2.0}, r'momentum must lie in \[0, 1\], or be a schedule, got 2.0'),
])
def test_mistakes_are_named(fields, message):
  with pytest.raises(ValueError, match=message):
    methods.MoCoV3(**{**vars(METHOD), **fields})


def test_only_a_vit_has_patches_to_freeze():
  with pytest.raises(ValueError, match='freeze_patches=True is for a ViT'):
    methods.MoCoV3(ENCODER, HEAD, PREDICTOR, OPTIMIZER, freeze_patches=True).init(
        jax.random.key(0), {'views': views(0)})
