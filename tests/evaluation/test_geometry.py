import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxssl import losses
from jaxssl.evaluation import geometry


def _normalise(z):
  return z / np.linalg.norm(z, axis=1, keepdims=True)


def _uniformity(z):
  z = _normalise(np.asarray(z, np.float64))
  squared = [np.sum((z[i] - z[j]) ** 2) for i in range(len(z)) for j in range(i)]
  return np.log(np.mean(np.exp(-2 * np.array(squared))))


def test_identical_rows_are_a_total_collapse():
  z = jnp.tile(jnp.arange(1.0, 9.0)[None], (32, 1))
  health = jax.jit(geometry.health)(z, z)
  np.testing.assert_allclose(health['embedding_std'], 0, atol=1e-6)
  np.testing.assert_allclose(health['effective_rank'], 1, atol=1e-4)
  np.testing.assert_allclose(health['alignment'], 0, atol=1e-6)
  np.testing.assert_allclose(health['uniformity'], 0, atol=1e-5)
  assert geometry.warning(health).startswith('Collapse')


def test_orthonormal_rows():
  d = 16
  z = jnp.eye(d) * 3.0
  # Each dimension is 1 once and 0 else: variance (1 - 1/d) / d. All pairs are sqrt(2) apart.
  np.testing.assert_allclose(geometry.embedding_std(z), np.sqrt(1 - 1 / d), rtol=1e-6)
  np.testing.assert_allclose(geometry.effective_rank(z), d, rtol=1e-4)
  np.testing.assert_allclose(geometry.uniformity(z), -4, rtol=1e-6)
  np.testing.assert_allclose(geometry.alignment(z, -z), 4, rtol=1e-6)
  np.testing.assert_allclose(geometry.alignment(z, jnp.roll(z, 1, axis=0)), 2, rtol=1e-6)


def test_health_of_one_view_is_that_of_two_alike_without_alignment():
  z = jax.random.normal(jax.random.key(2), (64, 8))
  one, two = geometry.health(z), geometry.health(z, z)
  assert set(two) - set(one) == {'alignment'}
  for name, value in one.items():
    np.testing.assert_allclose(value, two[name], rtol=1e-5)
  with pytest.raises(ValueError, match=r'n >= 2; got \[1, 8\]'):
    geometry.health(z[:1])


def test_gaussian_embedding_is_healthy():
  z = jax.random.normal(jax.random.key(0), (4096, 8))
  health = geometry.health(z, z)
  np.testing.assert_allclose(health['embedding_std'], 1, atol=0.01)
  np.testing.assert_allclose(health['rank_fraction'], 1, atol=0.01)
  assert geometry.warning(health) is None


def test_health_against_float64():
  rng = np.random.default_rng(0)
  z1, z2 = rng.normal(size=(2, 33, 7)) + 0.5
  health = jax.jit(geometry.health)(jnp.asarray(z1), jnp.asarray(z2))
  std = [np.mean(_normalise(z).std(axis=0)) * np.sqrt(7) for z in (z1, z2)]
  ranks = []
  for z in (z1, z2):
    p = np.linalg.svd(z, compute_uv=False)
    p = p / p.sum() + 1e-7
    ranks.append(np.exp(-np.sum(p * np.log(p))))
  np.testing.assert_allclose(health['embedding_std'], np.mean(std), rtol=1e-5)
  np.testing.assert_allclose(health['effective_rank'], np.mean(ranks), rtol=1e-5)
  np.testing.assert_allclose(health['rank_fraction'], np.mean(ranks) / 7, rtol=1e-5)
  np.testing.assert_allclose(
      health['alignment'], np.mean(np.sum((_normalise(z1) - _normalise(z2)) ** 2, axis=1)), rtol=1e-5)
  np.testing.assert_allclose(health['uniformity'], (_uniformity(z1) + _uniformity(z2)) / 2, rtol=1e-5)


def test_effective_rank_of_a_known_spectrum():
  rng = np.random.default_rng(1)
  left, _ = np.linalg.qr(rng.normal(size=(50, 3)))
  right, _ = np.linalg.qr(rng.normal(size=(20, 3)))
  z = left @ np.diag([2.0, 1.0, 1.0]) @ right.T
  # Entropy of (1/2, 1/4, 1/4) is 1.5 log 2; the epsilon adds a little for each of the 20 singular values.
  np.testing.assert_allclose(geometry.effective_rank(jnp.asarray(z)), 2**1.5, rtol=2e-4)


def test_partial_collapse_is_told_from_health():
  rng = np.random.default_rng(2)
  z = rng.normal(size=(256, 2)) @ rng.normal(size=(2, 128))
  message = geometry.warning(geometry.health(jnp.asarray(z), jnp.asarray(z)))
  assert message.startswith('Partial collapse')


@pytest.mark.parametrize('name', ['embedding_std', 'effective_rank', 'rank_fraction'])
def test_values_that_are_not_finite_are_named(name):
  health = {'embedding_std': 1.0, 'effective_rank': 50.0, 'rank_fraction': 0.5, name: float('nan')}
  assert 'diverged' in geometry.warning(health)


def test_thresholds():
  healthy = {'embedding_std': 0.5, 'effective_rank': 20.0, 'rank_fraction': 0.2}
  assert geometry.warning(healthy) is None
  assert geometry.warning({**healthy, 'embedding_std': 0.0999}).startswith('Collapse')
  assert geometry.warning({**healthy, 'rank_fraction': 0.0499}).startswith('Partial')
  assert geometry.warning({**healthy, 'prototypes_used': 30.0, 'assignment_entropy': 0.5}) is None
  assert 'the same prototype' in geometry.warning({**healthy, 'prototypes_used': 1.9, 'assignment_entropy': 0.1})
  assert 'all prototypes alike' in geometry.warning({**healthy, 'prototypes_used': 30.0, 'assignment_entropy': 0.9995})


def test_large_values_do_not_overflow_and_zeros_are_finite():
  zeros = geometry.health(jnp.zeros((8, 4)), jnp.zeros((8, 4)))
  assert all(np.isfinite(value) for value in zeros.values())
  z = 1e12 * jax.random.normal(jax.random.key(0), (64, 4))
  for name, value in geometry.health(z, z).items():
    np.testing.assert_allclose(value, geometry.health(z / 1e12, z / 1e12)[name], rtol=1e-4, atol=1e-6)


def test_shapes_are_checked():
  with pytest.raises(ValueError, match=r'\[4, 3\] and \[4, 2\]'):
    geometry.health(jnp.ones((4, 3)), jnp.ones((4, 2)))
  with pytest.raises(ValueError, match='n >= 2'):
    geometry.health(jnp.ones((1, 3)), jnp.ones((1, 3)))


def test_retrieval_is_the_mean_over_pairs_of_views():
  z = jnp.stack([jnp.eye(4), jnp.eye(4), jnp.roll(jnp.eye(4), 1, axis=0)], axis=1)
  np.testing.assert_allclose(geometry.retrieval(z), 1 / 3)
  z = jax.random.normal(jax.random.key(0), (20, 2, 3))
  np.testing.assert_allclose(geometry.retrieval(z), losses.retrieval_accuracy(z[:, 0], z[:, 1]), atol=1e-6)
  assert geometry.retrieval(jnp.ones((4, 2, 3))) == 0


def test_rows_hold_what_needs_no_labels():
  z = jax.random.normal(jax.random.key(0), (20, 5))
  rows = geometry.rows(z, 'trained', 'h', seed=3)
  assert {row['metric']: row['value'] for row in rows} == {
      'effective_rank': float(geometry.effective_rank(z)), 'uniformity': float(geometry.uniformity(z))}
  assert all((row['features'], row['representation'], row['seed'], row['num_test']) == ('trained', 'h', 3, 20)
             for row in rows)
