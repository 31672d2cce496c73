import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import linen as nn

from jaxssl.evaluation import evaluate_trained, finetune, flatten, sgd_probe, table


class _Encoder(nn.Module):
  """Sees only which half of the image is brighter, once it is trained to look."""

  @nn.compact
  def __call__(self, x, train=False):
    x = nn.Dense(8, name='dense')(x.reshape(len(x), -1))
    return nn.relu(nn.BatchNorm(use_running_average=not train, momentum=0.5, name='norm')(x))


def _data(n, seed):
  rng = np.random.default_rng(seed)
  labels = rng.permutation(np.arange(n) % 2)
  images = rng.integers(0, 120, (n, 4, 4, 1))
  images[labels == 1, :2] += 60
  images[labels == 0, 2:] += 60
  return images.astype(np.uint8), np.array([3, 7])[labels]


plain = lambda keys, images: images.astype(jnp.float32) / 255


@functools.cache
def _variables():
  return _Encoder().init(jax.random.key(0), jnp.zeros((1, 4, 4, 1)))


def test_finetuning_learns_and_repeats_and_leaves_the_variables_alone():
  before = jax.tree.map(np.array, _variables())
  run = lambda **options: finetune.accuracy(
      _Encoder(), _variables(), *_data(120, 0), *_data(90, 1), augment_fn=plain, batch_size=40, learning_rate=0.5,
      **options)
  value = run(epochs=20)
  assert value >= 0.95
  assert run(epochs=20) == value
  assert run(epochs=0.1, optimizer=optax.sgd(0.0)) == 0.5  # Zero head: the first class for all.
  jax.tree.map(np.testing.assert_array_equal, before, _variables())


def test_few_labels_are_less_than_all():
  images, labels = _data(120, 0)
  seen = []

  def augment_fn(keys, images):
    jax.debug.callback(lambda x: seen.append(x), images)
    return plain(keys, images)

  finetune.accuracy(
      _Encoder(), _variables(), images, labels, *_data(30, 1), augment_fn=augment_fn, epochs=3, fraction=0.05,
      batch_size=64)
  jax.effects_barrier()
  assert {image.tobytes() for batch in seen for image in batch} < {image.tobytes() for image in images}
  assert [batch.shape[0] for batch in seen] == [6, 6, 6]  # 5 % of 120, and three epochs of them.


def test_initialise_takes_the_encoder_and_a_zero_head():
  network = finetune.Classifier(_Encoder(), 2)
  params, stats = finetune.initialise(network, _variables(), jnp.zeros((1, 4, 4, 1)))
  x = jax.random.uniform(jax.random.key(1), (5, 4, 4, 1))
  assert not network.apply({'params': params, **stats}, x).any()
  params['head'] = {'kernel': jnp.ones((8, 2)), 'bias': jnp.zeros(2)}
  expected = jnp.repeat(_Encoder().apply(_variables(), x).sum(axis=1, keepdims=True), 2, axis=1)
  np.testing.assert_allclose(network.apply({'params': params, **stats}, x), expected, rtol=1e-5)


def test_foreign_variables_are_refused():
  network = finetune.Classifier(_Encoder(), 2)
  params = {**_variables()['params'], 'dense': {'kernel': jnp.zeros((3, 8)), 'bias': jnp.zeros(8)}}
  with pytest.raises(ValueError, match=r'params/encoder/dense/kernel is float32\[3, 8\], expected float32\[16, 8\]'):
    finetune.initialise(network, {**_variables(), 'params': params}, jnp.zeros((1, 4, 4, 1)))
  with pytest.raises(ValueError, match='batch_stats/encoder/norm/mean is missing'):
    finetune.initialise(network, {'params': _variables()['params']}, jnp.zeros((1, 4, 4, 1)))


def test_sgd_probe_learns_what_is_linear_and_only_that():
  run = lambda encode: sgd_probe.accuracy(
      encode, *_data(120, 0), *_data(90, 1), augment_fn=plain, epochs=30, batch_size=40, learning_rate=2.0)
  value = run(flatten)
  assert value >= 0.95
  assert run(flatten) == value
  assert run(lambda x: 0 * flatten(x)) == 0.5


def test_rows():
  train, test = (type('Source', (), dict(zip(('inputs', 'labels'), _data(n, n), strict=True))) for n in (60, 9))
  calls = []

  def classifier(images, labels, test_images, test_labels, **options):
    assert (images is train.inputs) and (test_images is test.inputs) and len(labels) == 60 and len(test_labels) == 9
    calls.append(options)
    return 0.5

  rows = evaluate_trained({'random': classifier, 'trained': classifier}, train, test, protocol='finetune', epochs=60,
                          fractions=(0.01, 1.0), seed=3, batch_size=8)
  assert calls[0] == {'epochs': 60, 'fraction': 0.01, 'seed': 3, 'batch_size': 8}
  assert [(row['features'], row['fraction']) for row in rows] == [
      ('random', 0.01), ('random', 1.0), ('trained', 0.01), ('trained', 1.0)]
  assert rows[0] == {
      'protocol': 'finetune', 'label': 'class', 'split': 'test', 'representation': 'h', 'features': 'random', 'seed': 3,
      'metric': 'accuracy', 'value': 0.5, 'num_train': 60, 'num_test': 9, 'num_classes': 2, 'epochs': 60,
      'fraction': 0.01}
  assert 'fine-tuning (60 epochs), 1 % of labels' in table.format(rows)
  assert 'linear probe (SGD with augmentation, 60 epochs)' in table.format([{**row, 'protocol': 'sgd'} for row in rows])
