"""CMC against its losses, written out: graphs, memory, and NCE with a constant that is kept."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxssl import methods
from jaxssl.models import MLP, ResNet

N, K = 12, 5
LINEAR = MLP((4,), output_bn=False, output_bias=True)
METHOD = methods.CMC(MLP((6,), output_bn=False, output_bias=True), optax.sgd(0.1), LINEAR, views=3, temperature=0.4)


def variant(**fields):
  return methods.CMC(**{**vars(METHOD), **fields})


def make_batch(b=7, seed=0):
  rng = np.random.default_rng(seed)
  views = tuple(jnp.float32(rng.normal(size=(b, 3 + i))) for i in range(3))
  return {'views': views, 'index': jnp.asarray(rng.permutation(N)[:b], jnp.int32)}


def unit(x):
  x = np.asarray(x, np.float64)
  return x / np.linalg.norm(x, axis=-1, keepdims=True)


def embeddings(method, state, batch):
  _, z = method.network.apply({'params': state.params}, batch['views'])
  return [unit(each) for each in z]


def cross_entropy(positive, scores):
  """Of rows of scores [n, c], and the positives' [n], which stand among them."""
  return np.mean(np.log(np.exp(scores).sum(axis=1)) - positive)


@pytest.mark.parametrize('graph, pairs', [('full', [(0, 1), (0, 2), (1, 2)]), ('core', [(0, 1), (0, 2)])])
def test_the_batch_loss_is_the_sum_over_the_graph(graph, pairs):
  method, batch = variant(graph=graph), make_batch()
  state = method.init(jax.random.key(0), batch)
  assert method.pairs == tuple(pairs)
  z = embeddings(method, state, batch)
  expected = 0.0
  for one, other in pairs:
    for i, j in ((one, other), (other, one)):
      scores = z[i] @ z[j].T / 0.4
      expected += cross_entropy(np.diag(scores), scores)
  loss, (_, metrics) = method.loss(state.params, state.stats, batch, jax.random.key(1))
  np.testing.assert_allclose(loss, expected, rtol=1e-6)
  np.testing.assert_allclose(metrics['bound'], np.log(7) - expected / (2 * len(pairs)), rtol=1e-5)


def test_the_memory_loss_and_its_update():
  method, batch, key = variant(contrast='memory', num_examples=N, num_negatives=K), make_batch(), jax.random.key(1)
  state = method.init(jax.random.key(0), batch)
  banks = [np.asarray(bank, np.float64) for bank in state.stats['memory'].banks]
  assert [bank.shape for bank in banks] == [(N, 4)] * 3
  for bank in banks:
    np.testing.assert_allclose(np.linalg.norm(bank, axis=1), 1, rtol=1e-6)
  z, drawn, index = embeddings(method, state, batch), np.asarray(jax.random.randint(key, (K,), 0, N)), batch['index']
  expected = 0.0
  for i, j in itertools.permutations(range(3), 2):
    positive = np.sum(z[i] * banks[j][index], axis=1) / 0.4
    expected += cross_entropy(positive, np.concatenate([positive[:, None], z[i] @ banks[j][drawn].T / 0.4], axis=1))
  loss, (stats, _) = method.loss(state.params, state.stats, batch, key)
  np.testing.assert_allclose(loss, expected, rtol=1e-6)
  for bank, row, after in zip(banks, z, stats['memory'].banks, strict=True):
    bank[index] = unit(0.5 * bank[index] + 0.5 * row)
    np.testing.assert_allclose(after, bank, atol=1e-6)


def nce(positive, noise, log_normalizer):
  """-log P / (P + K / N) of the positive, -log (K / N) / (P + K / N) of each of the noise, as it is written."""
  share = K / N
  p, q = np.exp(positive - log_normalizer), np.exp(noise - log_normalizer)
  return np.mean(-np.log(p / (p + share)) - np.log(share / (q + share)).sum(axis=1))


def test_nce_keeps_the_constant_of_the_first_batch():
  method = variant(views=2, contrast='memory_nce', num_examples=N, num_negatives=K)
  batch = make_batch()
  batch['views'] = batch['views'][:2]
  state, constants = method.init(jax.random.key(0), batch), {}
  assert np.all(state.stats['memory'].normalizers == 0)
  for step in range(3):
    key = jax.random.key(step)
    z, memory = embeddings(method, state, batch), state.stats['memory']
    drawn, expected = np.asarray(jax.random.randint(key, (K,), 0, N)), 0.0
    for way, (i, j) in enumerate([(0, 1), (1, 0)]):
      bank = np.asarray(memory.banks[j], np.float64)
      positive, noise = np.sum(z[i] * bank[batch['index']], axis=1) / 0.4, z[i] @ bank[drawn].T / 0.4
      first = np.log(N * np.mean(np.exp(np.concatenate([positive[:, None], noise], axis=1))))
      expected += nce(positive, noise, constants.setdefault(way, first))
    state, metrics = jax.jit(method.step)(state, batch, key)
    np.testing.assert_allclose(metrics['loss'], expected, rtol=1e-5)
    np.testing.assert_allclose(
        np.log(state.stats['memory'].normalizers[0]), [constants[0], constants[1]], rtol=1e-5)
  assert 'bound' not in metrics


def test_of_an_example_seen_twice_the_last_is_remembered():
  bank = jnp.eye(4)
  z = jnp.float32([[0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 2]])
  from jaxssl.methods.cmc import _remember
  after = _remember(bank, jnp.array([0, 2, 0]), z, 0.5)
  np.testing.assert_allclose(after, [unit([1, 0, 0, 1]), [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]], atol=1e-6)


def test_views_share_parameters_or_have_their_own():
  views = tuple(jnp.ones((2, 8, 8, 1)) * (i + 1) for i in range(2))
  encoder = ResNet((1,), 'basic', (4,), stem='small')
  for shared, names in ((False, {'view0', 'view1'}), (True, {'shared'})):
    method = methods.CMC(encoder, optax.sgd(0.1), LINEAR, shared=shared)
    state = method.init(jax.random.key(0), {'views': views})
    assert set(state.params['encoder']) == set(state.params['head']) == names
    one, other = (method.represent(state, (views[0],) * 2, f'h_view{i}') for i in range(2))
    assert bool(jnp.all(one == other)) == shared
  np.testing.assert_array_equal(method.represent(state, views[0]), method.represent(state, (views[0],) * 2))


def test_an_encoder_for_each_view_and_the_layers_they_all_have():
  images, vectors = jnp.ones((2, 8, 8, 3)), jnp.ones((2, 5))
  resnet = ResNet((1, 1), 'basic', (4, 8), stem='small')
  method = methods.CMC((resnet, MLP((6,))), optax.sgd(0.1), LINEAR)
  state = method.init(jax.random.key(0), {'views': (images, vectors)})
  assert method.representations == ('h', 'h_view0', 'h_view1', 'z', 'z_view0', 'z_view1')
  shapes = [method.represent(state, (images, vectors), name).shape[1] for name in method.representations]
  assert shapes == [14, 8, 6, 8, 4, 4]
  both = methods.CMC(resnet, optax.sgd(0.1), LINEAR)
  state = both.init(jax.random.key(0), {'views': (images, images)})
  assert both.representations[-3:] == ('stage2', 'stage2_view0', 'stage2_view1')
  np.testing.assert_allclose(both.represent(state, images, 'stage2'), both.represent(state, images, 'h'))
  assert both.represent(state, images, 'stage1_view1').shape == (2, 4)


@pytest.mark.parametrize('fields, message', [
    ({'graph': 'star'}, "graph must be one of 'full', 'core', got 'star'"),
    ({'contrast': 'bank'}, "contrast must be one of 'batch', 'memory', 'memory_nce', got 'bank'"),
    ({'views': 1}, 'views must be at least 2, got 1'),
    ({'encoder': (LINEAR, LINEAR)}, 'encoder must be one module, or .* 3, one for each view; got 2'),
    ({'encoder': (LINEAR,) * 3, 'shared': True}, 'without shared=True'),
    ({'temperature': 0.0}, "temperature must be above 0 for contrast='batch', got 0.0"),
    ({'temperature': float('nan')}, 'temperature must be above 0 .* got nan'),
    ({'temperature': 0.01, 'contrast': 'memory_nce'}, "must be above 0.012 for contrast='memory_nce', got 0.01"),
    ({'momentum': 1.0}, r'momentum must lie in \[0, 1\), got 1.0'),
    ({'num_negatives': 0}, 'num_negatives must be positive, got 0'),
    ({'contrast': 'memory'}, "num_examples must be the size of the data set for contrast='memory', got 0"),
])
def test_mistakes_are_named(fields, message):
  with pytest.raises(ValueError, match=message):
    variant(**fields)


def test_another_number_of_views_is_named():
  with pytest.raises(ValueError, match=r'shared=True needs views of one shape, got \[3\], \[4\], \[5\]'):
    variant(shared=True).init(jax.random.key(0), make_batch())
  with pytest.raises(ValueError, match='views must be 3, as many as the data have, got 2'):
    variant(views=2).init(jax.random.key(0), make_batch())
  state = METHOD.init(jax.random.key(0), make_batch())
  with pytest.raises(ValueError, match='inputs must be 3 views, or one array for all of them, got 2'):
    METHOD.represent(state, make_batch()['views'][:2])


def test_the_core_is_learnt_from_all_pairs():
  """Three views of a hidden cause: after a few steps the counterpart is found far more often than by chance."""
  rng = np.random.default_rng(0)
  cause = rng.normal(size=(256, 2))
  views = tuple(jnp.float32(np.concatenate([cause, rng.normal(size=(256, 2))], axis=1) @ rng.normal(size=(4, 5)))
                for _ in range(3))
  method = methods.CMC(MLP((32, 16), output_bn=False, output_bias=True), optax.adam(1e-2), LINEAR, views=3)
  state = jax.jit(method.init)(jax.random.key(0), {'views': views})
  step = jax.jit(method.step)
  for i in range(150):
    state, metrics = step(state, {'views': views}, jax.random.key(i))
  assert metrics['bound'] > 1.0 and metrics['accuracy'] > 0.1
