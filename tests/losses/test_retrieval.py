"""Recall at 1, both ways, against loops; ties are misses."""

import contrastive_reference as reference
import jax.numpy as jnp
import numpy as np
import pytest

from jaxssl import losses


@pytest.mark.parametrize('n, noise', [(2, 0.5), (17, 0.5), (17, 2.0), (40, 1.0)])
def test_it_equals_the_slow_reference(n, noise):
  rng = np.random.default_rng(n)
  a = rng.normal(size=(n, 6))
  b = a + noise * rng.normal(size=(n, 6))
  assert 0 < reference.retrieval(a, b) <= 1
  np.testing.assert_allclose(losses.retrieval_accuracy(a, b), reference.retrieval(a, b), rtol=1e-6)


def test_the_other_rows_of_the_same_side_do_not_count():
  """Where rows of one side resemble each other more than their counterparts, as contrast across views allows."""
  a = jnp.array([[1.0, 0.05, 0.0], [1.0, 0.0, 0.05]])
  b = jnp.array([[0.0, 1.0, 0.0], [0.0, 0.0, 1.0]])
  assert losses.retrieval_accuracy(a, b) == 1 and losses.contrastive_accuracy(a, b) == 0.5


def test_ties_are_misses_and_a_single_pair_is_found():
  assert losses.retrieval_accuracy(jnp.ones((4, 3)), jnp.ones((4, 3))) == 0
  assert losses.retrieval_accuracy(jnp.ones((1, 3)), jnp.ones((1, 3))) == 1
  with pytest.raises(ValueError, match=r'b must have the shape of a, \[4, 3\], got \[3, 3\]'):
    losses.retrieval_accuracy(jnp.ones((4, 3)), jnp.ones((3, 3)))
