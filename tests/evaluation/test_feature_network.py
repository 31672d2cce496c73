"""The network that judges samples: it learns, is always the same, and is found again only where it is the right one."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxssl.evaluation import feature_network, to_float

SHAPE = (8,)
RNG = np.random.default_rng(0)
LABELS = np.arange(300) % 3 * 10
X = (3 * RNG.normal(size=(30, 8))[LABELS] + RNG.normal(size=(300, 8))).astype(np.float32)


def train(steps=40):
  return feature_network.train(SHAPE, X, LABELS, augment_fn=lambda keys, x: to_float(x), steps=steps)


@pytest.fixture(scope='module')
def network():
  with jax.numpy_rank_promotion('raise'):
    return train()


def mark(x=X, labels=LABELS, recipe='recipe', steps=40, shape=SHAPE):
  return feature_network.fingerprint(shape, x, labels, recipe, steps)


def test_it_learns_to_classify(network):
  features = np.asarray(feature_network.encoder_of(network)(jnp.asarray(X)))
  assert network.kind == 'classifier' and features.shape == (300, 96)
  assert network.accuracy(features, LABELS) > 0.9
  assert network.accuracy(features, LABELS + 1) == 0  # Labels that it has not seen.
  untrained = feature_network.untrained(SHAPE)
  assert untrained.kind == 'random' and untrained.accuracy(features, LABELS) is None
  assert feature_network.encoder_of(untrained)(jnp.asarray(X[:5])).shape == (5, 96)


def test_it_is_always_the_same_and_found_again(network, tmp_path):
  file = str(tmp_path / 'fidelity.npz')
  feature_network.save(train(), file, mark())
  found = feature_network.load(file, SHAPE, mark())
  assert [each.name for each in tmp_path.iterdir()] == ['fidelity.npz']
  np.testing.assert_array_equal(found.classes, [0, 10, 20])
  jax.tree.map(np.testing.assert_array_equal, (found.variables, found.head), (network.variables, network.head))
  features = np.asarray(feature_network.encoder_of(found)(jnp.asarray(X)))
  np.testing.assert_array_equal(features, feature_network.encoder_of(network)(jnp.asarray(X)))
  with pytest.raises(ValueError, match='fidelity.npz was trained on other data, or in another way'):
    feature_network.load(file, SHAPE, mark(labels=LABELS[::-1]))


def test_fingerprints_tell_data_and_training_apart():
  changed = X.copy()
  changed[7, 3] += 1
  marks = [mark(), mark(x=changed), mark(x=X[:299], labels=LABELS[:299]), mark(labels=LABELS + 1), mark(recipe='other'),
           mark(steps=41), mark(shape=(8, 8, 1)), mark(x=X.astype(np.float64))]
  assert len(set(marks)) == len(marks) and mark() == marks[0]


@pytest.mark.parametrize('damage, message', [
    (lambda data: data[:len(data) // 2], 'is damaged'),
    (lambda data: b'no archive', 'is damaged: it is no .npz archive'),
    (lambda data: b'', 'is damaged: it is no .npz archive'),
    (lambda data: b'\x93NUMPY\x01\x00', 'is damaged: it is no .npz archive'),
    (lambda data: data[:len(data) // 2] + b'\x00\xff\x07' + data[len(data) // 2 + 3:], 'is damaged'),
])
def test_a_damaged_file_is_refused(network, tmp_path, damage, message):
  file = tmp_path / 'fidelity.npz'
  feature_network.save(network, str(file), mark())
  file.write_bytes(damage(file.read_bytes()))
  with pytest.raises(ValueError, match=message):
    feature_network.load(str(file), SHAPE, mark())


def test_arrays_that_are_missing_or_of_another_shape_are_refused(network, tmp_path):
  file = str(tmp_path / 'fidelity.npz')
  feature_network.save(network, file, mark())
  whole = dict(np.load(file))
  for changed in ({'head/bias': np.zeros(2)}, {'classes': np.zeros(7)}, {'params/linear1/kernel': None}):
    arrays = {name: x for name, x in {**whole, **changed}.items() if x is not None}
    np.savez(file, **arrays)
    with pytest.raises(ValueError, match='is damaged: it does not hold the arrays of the network'):
      feature_network.load(file, SHAPE, mark())
  np.savez(file, **{**whole, 'head/bias': np.array([{}], object)})
  with pytest.raises(ValueError, match='is damaged: Object arrays cannot be loaded'):
    feature_network.load(file, SHAPE, mark())


@pytest.mark.parametrize('shape, stem', [((28, 28, 1), 'strided'), ((64, 96, 3), 'imagenet')])
def test_images_are_seen_by_a_residual_network(shape, stem):
  encoder = feature_network.architecture(shape)
  assert encoder.stem == stem
  made = jax.eval_shape(lambda x: encoder.init_with_output(jax.random.key(0), x)[0], jnp.zeros((2, *shape)))
  assert made.shape == (2, 96)


def test_vectors_of_any_shape_are_seen_by_an_mlp():
  encoder = feature_network.architecture((4, 5))
  assert jax.eval_shape(lambda x: encoder.init_with_output(jax.random.key(0), x)[0], jnp.zeros((2, 4, 5))).shape == (
      2, 96)
