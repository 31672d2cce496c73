"""Barlow Twins: what it does with views, and what its health says."""

import itertools

import jax
import numpy as np
import pytest
from joint import ENCODER, HEAD, OPTIMIZER, views

from jaxssl import losses, methods

METHOD = methods.BarlowTwins(ENCODER, HEAD, OPTIMIZER, weight=0.1)


@pytest.mark.parametrize('count', [2, 3])
def test_loss_is_the_mean_over_pairs(count):
  x = views(0, count)
  state = METHOD.init(jax.random.key(0), {'views': x})
  z = [METHOD.network.apply({'params': state.params}, view)[1] for view in x]
  expected = np.mean([losses.barlow_twins(a, b, weight=0.1) for a, b in itertools.combinations(z, 2)])
  np.testing.assert_allclose(METHOD.loss(state.params, state.stats, x)[0], expected, rtol=1e-5)


def test_health():
  x = views(0)
  state = METHOD.init(jax.random.key(0), {'views': x})
  z1, z2 = (np.asarray(z) for z in METHOD.embed(state, {'views': x}))
  p = z1.shape[1]
  correlation = np.corrcoef(z1.T, z2.T)[:p, p:]
  found = METHOD.health(state, {'views': x})
  np.testing.assert_allclose(found['correlation'], np.diag(correlation).mean(), rtol=1e-3)
  off = correlation[~np.eye(p, dtype=bool)]
  np.testing.assert_allclose(found['correlation_off_diagonal'], np.sqrt(np.mean(off**2)), rtol=1e-3)


def test_mistakes_are_named():
  with pytest.raises(ValueError, match='weight must be positive and finite, got 0.0'):
    methods.BarlowTwins(ENCODER, HEAD, OPTIMIZER, weight=0.0)
