"""VICReg: what it does with views, and what its health says."""

import itertools

import jax
import numpy as np
import pytest
from joint import ENCODER, HEAD, OPTIMIZER, views

from jaxssl import losses, methods

METHOD = methods.VICReg(ENCODER, HEAD, OPTIMIZER, invariance=3.0, variance=2.0, covariance=0.5)


@pytest.mark.parametrize('count', [2, 3])
def test_loss_is_the_mean_over_pairs(count):
  x = views(0, count)
  state = METHOD.init(jax.random.key(0), {'views': x})
  z = [METHOD.network.apply({'params': state.params}, view)[1] for view in x]
  expected = np.mean([losses.vicreg(a, b, invariance=3.0, variance=2.0, covariance=0.5)
                      for a, b in itertools.combinations(z, 2)])
  np.testing.assert_allclose(METHOD.loss(state.params, state.stats, x)[0], expected, rtol=1e-5)


def test_health_adds_up_to_the_loss():
  x = views(0)
  state = METHOD.init(jax.random.key(0), {'views': x})
  found = METHOD.health(state, {'views': x})
  total = 3 * found['invariance_term'] + 2 * found['variance_term'] + 0.5 * found['covariance_term']
  np.testing.assert_allclose(METHOD.loss(state.params, state.stats, x)[0], total, rtol=1e-5)


def test_mistakes_are_named():
  with pytest.raises(ValueError, match='variance must be finite and not negative, got -1.0'):
    methods.VICReg(ENCODER, HEAD, OPTIMIZER, variance=-1.0)
