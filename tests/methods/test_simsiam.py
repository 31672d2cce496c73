"""SimSiam against its step, written out; and how it collapses without its stop of gradients."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from joint import ENCODER, HEAD, OPTIMIZER, PREDICTOR, assert_close, cosine, views

from jaxssl import methods, ops
from jaxssl.evaluation import geometry
from jaxssl.models import MLP

METHOD = methods.SimSiam(ENCODER, HEAD, PREDICTOR, OPTIMIZER)


@pytest.mark.parametrize('count', [2, 3])
def test_loss_written_out(count):
  x = views(0, count)
  state = METHOD.init(jax.random.key(0), {'views': x})
  outputs = [METHOD.network.apply({'params': state.params}, view) for view in x]
  each = [-cosine(p, z) for i, (_, _, p) in enumerate(outputs) for j, (_, z, _) in enumerate(outputs) if i != j]
  np.testing.assert_allclose(METHOD.loss(state.params, state.stats, x)[0], np.mean(each), rtol=1e-4)


def test_no_gradient_reaches_what_is_predicted():
  x = views(0)
  state = METHOD.init(jax.random.key(0), {'views': x})
  z = [METHOD.network.apply({'params': state.params}, view)[1] for view in x]

  def constant(params):
    p = [METHOD.network.apply({'params': params}, view)[2] for view in x]
    return -sum(jnp.mean(jnp.sum(ops.l2_normalize(a) * ops.l2_normalize(b), axis=1))
                for a, b in zip(p, z[::-1], strict=True)) / 2

  found = jax.grad(lambda params: METHOD.loss(params, state.stats, x)[0])(state.params)
  assert_close(found, jax.grad(constant)(state.params))


def test_predictor_has_an_optimizer_of_its_own():
  method = methods.SimSiam(ENCODER, HEAD, PREDICTOR, optax.sgd(0.0), predictor_optimizer=optax.sgd(0.1))
  x = views(0)
  before = method.init(jax.random.key(0), {'views': x})
  after, _ = method.step(before, {'views': x}, jax.random.key(0))
  assert_close(after.params['encoder'], before.params['encoder'], 0)
  assert_close(after.params['head'], before.params['head'], 0)
  grads = jax.grad(lambda params: method.loss(params, before.stats, x)[0])(before.params)['predictor']
  assert_close(after.params['predictor'], jax.tree.map(lambda w, g: w - 0.1 * g, before.params['predictor'], grads))


class WithoutStop(methods.SimSiam):
  """Broken on purpose: the gradient flows into what is predicted, too."""

  def target(self, z):
    return z


def trained(kind, steps=300):
  plain = functools.partial(MLP, output_bn=False, output_bias=True)  # With batch norm there, collapse takes longer.
  method = kind(MLP((32,), output_scale=False), plain((32, 16)), plain((8, 16)), optax.sgd(0.2, momentum=0.9))
  content = jax.random.normal(jax.random.key(0), (256, 12))

  def batch(key):
    rows, noise = jax.random.split(key)
    x = content[jax.random.randint(rows, (64,), 0, 256)]
    return {'views': tuple(x[None] + 0.5 * jax.random.normal(noise, (2, 64, 12)))}

  step = jax.jit(lambda state, key: method.step(state, batch(key), key))
  state = jax.jit(method.init)(jax.random.key(1), batch(jax.random.key(2)))
  for key in jax.random.split(jax.random.key(3), steps):
    state, metrics = step(state, key)
  return {name: float(value) for name, value in geometry.health(*method.embed(state, batch(jax.random.key(4)))).items()}


def test_without_its_stop_of_gradients_it_is_reported_as_collapsed():
  healthy, broken = trained(methods.SimSiam), trained(WithoutStop)
  assert geometry.warning(healthy) is None, healthy
  assert 'ollapse' in (geometry.warning(broken) or ''), broken
