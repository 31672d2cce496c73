"""The nearest code against loops, and the codebook's moving averages against loops and by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxssl.models import vector_quantizer
from jaxssl.models.vector_quantizer import VectorQuantizer, follow

RNG = np.random.default_rng(0)
KEY = jax.random.key(0)


def slow_nearest(embedding, vector):
  distances = [sum((a - b) ** 2 for a, b in zip(vector, entry, strict=True)) for entry in embedding]
  return distances.index(min(distances))


def slow_follow(codebook, vectors, indices, decay):
  """The moving averages and the smoothing, one vector at a time."""
  counts, sums = decay * codebook['counts'], decay * codebook['sums']
  for vector, index in zip(vectors, indices, strict=True):
    counts[index] += (1 - decay)
    sums[index] += (1 - decay) * vector
  total, epsilon = sum(counts), 1e-5
  smoothed = [(count + epsilon) / (total + len(counts) * epsilon) * total for count in counts]
  return {'embedding': np.array([s / n for s, n in zip(sums, smoothed, strict=True)]), 'counts': counts, 'sums': sums}


def make_codebook(num_codes=5, dim=3, count=2.0):
  embedding = RNG.normal(size=(num_codes, dim))
  return {'embedding': embedding, 'counts': np.full(num_codes, count), 'sums': count * embedding}


def float32(tree):
  return jax.tree.map(jnp.float32, tree)


@pytest.mark.parametrize('num_codes', [1, 2, 17])
def test_the_nearest_entry_against_loops(num_codes):
  embedding, z_e = RNG.normal(size=(num_codes, 4)), RNG.normal(size=(3, 2, 5, 4))
  expected = np.array([slow_nearest(embedding, v) for v in z_e.reshape(-1, 4)]).reshape(3, 2, 5)
  found = jax.jit(vector_quantizer.nearest)(jnp.float32(embedding), jnp.float32(z_e))
  assert found.dtype == jnp.int32
  np.testing.assert_array_equal(found, expected)


def test_what_all_vectors_share_does_not_matter():
  embedding, z_e = RNG.normal(size=(64, 8)).astype(np.float32), RNG.normal(size=(500, 8)).astype(np.float32)
  near = vector_quantizer.nearest(jnp.asarray(embedding), jnp.asarray(z_e))
  far = vector_quantizer.nearest(jnp.asarray(embedding + 256), jnp.asarray(z_e + 256))
  assert np.mean(near != far) < 0.005, 'all but ties of the rounded inputs'


def test_of_equal_entries_the_first_is_taken():
  embedding = jnp.array([[5.0, 5.0], [1.0, 0.0], [0.0, 1.0], [1.0, 0.0]])
  np.testing.assert_array_equal(vector_quantizer.nearest(embedding, jnp.array([[1.0, 0.0], [0.5, 0.5]])), [1, 1])


@pytest.mark.parametrize('moving', [True, False])
def test_the_module_returns_entries_of_its_codebook(moving):
  quantizer, z_e = VectorQuantizer(6, 3, moving=moving), jnp.float32(RNG.normal(size=(2, 4, 3)))
  variables = quantizer.init(KEY, z_e)
  assert set(variables) == ({'codebook'} if moving else {'params'})
  embedding = variables['codebook' if moving else 'params']['embedding']
  codes, indices = quantizer.apply(variables, z_e)
  np.testing.assert_array_equal(codes, embedding[indices])
  np.testing.assert_array_equal(indices, vector_quantizer.nearest(embedding, z_e))
  assert len(np.unique(indices)) > 1, 'a fresh codebook has more than one entry of use'


def test_moving_averages_against_loops():
  """Three steps; an entry that is never used keeps its place."""
  codebook = make_codebook()
  found, unused = float32(codebook), codebook['embedding'][4]
  for _ in range(3):
    vectors, indices = RNG.normal(size=(14, 3)), RNG.integers(0, 4, 14)
    codebook = slow_follow(codebook, vectors, indices, 0.8)
    found = jax.jit(lambda *args: follow(*args, KEY, decay=0.8))(
        found, jnp.float32(vectors.reshape(7, 2, 3)), jnp.int32(indices.reshape(7, 2)))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6), found, codebook)
  np.testing.assert_allclose(found['embedding'][4], unused, rtol=1e-4)


def test_without_memory_the_codebook_is_the_mean_of_the_batch():
  """One step of K-means."""
  vectors, indices = RNG.normal(size=(30, 3)), np.arange(30) % 5
  found = follow(float32(make_codebook()), jnp.float32(vectors), jnp.int32(indices), KEY, decay=0.0)
  means = [vectors[indices == k].mean(axis=0) for k in range(5)]
  np.testing.assert_allclose(found['embedding'], means, rtol=1e-4, atol=1e-6)


def test_entries_hardly_used_restart_at_vectors_of_the_batch():
  """Of 20 vectors an even share is 4; counts after the step are 0.5 * 2 + 0.5 * (16, 3, 1, 0, 0)."""
  codebook, vectors = float32(make_codebook()), jnp.float32(RNG.normal(size=(20, 3)))
  indices = jnp.repeat(jnp.arange(5), jnp.array([16, 3, 1, 0, 0]))
  plain = follow(codebook, vectors, indices, KEY, decay=0.5)
  np.testing.assert_allclose(plain['counts'], [9, 2.5, 1.5, 1, 1])
  found = follow(codebook, vectors, indices, KEY, decay=0.5, restart_below=0.5)  # Below 2.
  np.testing.assert_allclose(found['counts'], [9, 2.5, 4, 4, 4])
  np.testing.assert_allclose(found['sums'][:2], plain['sums'][:2])
  for entry in found['embedding'][2:]:
    assert np.min(np.abs(vectors - entry[None]).max(axis=1)) < 1e-4, 'at a vector of the batch'
  other = follow(codebook, vectors, indices, jax.random.key(1), decay=0.5, restart_below=0.5)
  assert np.any(np.abs(other['embedding'][2:] - found['embedding'][2:]) > 0.1), 'another key, other vectors'


def test_at_the_first_step_all_restart_if_any_may():
  codebook, vectors = float32(make_codebook()), jnp.float32(RNG.normal(size=(20, 3)))
  indices = jnp.arange(20) % 5
  found = follow(codebook, vectors, indices, KEY, decay=0.5, restart_below=0.01, first=jnp.array(True))
  np.testing.assert_allclose(found['counts'], 4)
  assert all(np.min(np.abs(vectors - entry[None]).max(axis=1)) < 1e-4 for entry in found['embedding'])
  never = follow(codebook, vectors, indices, KEY, decay=0.5, first=jnp.array(True))
  np.testing.assert_allclose(never['counts'], 3)
