"""W-MSE: which examples are whitened together."""

import itertools

import jax
import numpy as np
import pytest
from joint import ENCODER, OPTIMIZER, B, plain, views

from jaxssl import losses, methods

METHOD = methods.WMSE(ENCODER, plain((6, 2)), OPTIMIZER, whitening_size=4, whitening_draws=2, shrinkage=0.01)


@pytest.mark.parametrize('count', [2, 4])
def test_loss_written_out(count):
  x, key = views(0, count), jax.random.key(5)
  state = METHOD.init(jax.random.key(0), {'views': x})
  z = [METHOD.network.apply({'params': state.params}, view)[1] for view in x]
  each = []
  for draw in jax.random.split(key, 2):
    order = np.asarray(jax.random.permutation(draw, B))
    for rows in (order[:4], order[4:]):
      each += [losses.whitened_mse(a[rows], b[rows], epsilon=0.01) for a, b in itertools.combinations(z, 2)]
  np.testing.assert_allclose(METHOD.loss(state.params, state.stats, x, key)[0], np.mean(each), rtol=1e-5)


@pytest.mark.parametrize('fields, message', [
    ({'whitening_size': 3}, 'whitening_size must divide the batch, 8, got 3'),
    ({'whitening_size': 2}, 'whitening_size must be more than the dimensions of z, 2, got 2'),
    ({'whitening_draws': 0}, 'whitening_draws must be positive, got 0'),
    ({'shrinkage': 1.0}, r'shrinkage must lie in \[0, 1\), got 1.0'),
])
def test_mistakes_are_named(fields, message):
  with pytest.raises(ValueError, match=message):
    methods.WMSE(**{**vars(METHOD), **fields}).init(jax.random.key(0), {'views': views(0)})
