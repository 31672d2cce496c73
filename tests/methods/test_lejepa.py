"""LeJEPA: which mean the views are near, and that each is regularised by itself."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from joint import ENCODER, HEAD, OPTIMIZER, views

from jaxssl import losses, methods

METHOD = methods.LeJEPA(ENCODER, HEAD, OPTIMIZER, weight=0.1, directions=8)


@pytest.mark.parametrize('global_views', [2, 4])
def test_loss_written_out(global_views):
  method = methods.LeJEPA(**{**vars(METHOD), 'global_views': global_views})
  x, key = views(0, 4), jax.random.key(5)
  state = method.init(jax.random.key(0), {'views': x})
  z = jnp.stack([method.network.apply({'params': state.params}, view)[1] for view in x])
  invariance = np.mean((np.asarray(z) - np.asarray(z[:global_views].mean(0))) ** 2)
  directions = losses.random_directions(key, 8, z.shape[2])
  normality = np.mean([losses.sigreg(each, directions) for each in z])
  loss, (_, metrics) = method.loss(state.params, state.stats, x, key)
  np.testing.assert_allclose(loss, 0.9 * invariance + 0.1 * normality, rtol=1e-5)
  np.testing.assert_allclose(metrics['sigreg'], normality, rtol=1e-5)


def test_directions_are_drawn_anew():
  x = views(0)
  state = METHOD.init(jax.random.key(0), {'views': x})
  first, second = (METHOD.loss(state.params, state.stats, x, jax.random.key(i))[0] for i in range(2))
  assert first != second


@pytest.mark.parametrize('fields, message', [
    ({'weight': 1.0}, r'weight must lie in \(0, 1\), got 1.0'),
    ({'directions': 0}, 'directions must be positive, got 0'),
    ({'global_views': 3}, 'global_views must be at most the 2 views, got 3'),
])
def test_mistakes_are_named(fields, message):
  with pytest.raises(ValueError, match=message):
    methods.LeJEPA(**{**vars(METHOD), **fields}).init(jax.random.key(0), {'views': views(0)})
