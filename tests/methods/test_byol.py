"""BYOL against its step, written out."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from joint import ENCODER, HEAD, OPTIMIZER, PREDICTOR, assert_close, cosine, followed, views

from jaxssl import methods, ops
from jaxssl.models import Projected

METHOD = methods.BYOL(ENCODER, HEAD, PREDICTOR, OPTIMIZER, momentum=lambda step: 0.6 + 0.1 * step)
TEACHER = Projected(ENCODER, HEAD)


@pytest.mark.parametrize('count', [2, 3])
def test_three_steps_written_out(count):
  state = METHOD.init(jax.random.key(0), {'views': views(0, count)})
  target = {name: state.params[name] for name in ('encoder', 'head')}
  step = jax.jit(METHOD.step)
  for i in range(3):
    x = views(i, count)
    if i:
      own = {name: state.params[name] for name in target}
      target = followed(target, own, 0.6 + 0.1 * (i - 1))
    predictions = [METHOD.network.apply({'params': state.params}, view)[2] for view in x]
    targets = [TEACHER.apply({'params': target}, view)[1] for view in x[:2]]
    each = [2 - 2 * cosine(p, z) for j, p in enumerate(predictions) for k, z in enumerate(targets) if j != k]
    state, metrics = step(state, {'views': x}, jax.random.key(i))
    np.testing.assert_allclose(metrics['loss'], 2 * np.mean(each), rtol=1e-4)
  assert_close(state.stats['target']['params'], target)
  health = METHOD.health(state, {})
  assert 0 < health['target_distance'] < 1


def test_no_gradient_reaches_the_targets():
  x = views(0)
  state = METHOD.init(jax.random.key(0), {'views': x})
  targets = [TEACHER.apply({'params': {k: state.params[k] for k in ('encoder', 'head')}}, view)[1] for view in x]

  def constant(params):
    predictions = [METHOD.network.apply({'params': params}, view)[2] for view in x]
    return sum(2 - 2 * jnp.mean(jnp.sum(ops.l2_normalize(p) * ops.l2_normalize(z), axis=1))
               for p, z in zip(predictions, targets[::-1], strict=True))

  found = jax.grad(lambda params: METHOD.loss(params, state.stats, x)[0])(state.params)
  assert_close(found, jax.grad(constant)(state.params))


def test_mistakes_are_named():
  with pytest.raises(ValueError, match=r'momentum must lie in \[0, 1\], or be a schedule, got -0.1'):
    methods.BYOL(ENCODER, HEAD, PREDICTOR, OPTIMIZER, momentum=-0.1)
  with pytest.raises(ValueError, match='views must be 2 or more, got 1'):
    METHOD.init(jax.random.key(0), {'views': views(0, 1)})
