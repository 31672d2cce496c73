import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import linen as nn

from jaxssl.evaluation import evaluate_trained, finetune, flatten, sgd_probe, supervised, table


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


@pytest.fixture
def trained(monkeypatch):
  """Collects (params, stats) of every training."""
  found, train = [], supervised.train

  def spy(*args, **options):
    found.append(jax.tree.map(np.asarray, train(*args, **options)))
    return found[-1]

  monkeypatch.setattr(supervised, 'train', spy)
  return found


def test_the_default_recipe_is_that_of_simclr(trained):
  run = lambda **options: finetune.accuracy(
      _Encoder(), _variables(), *_data(120, 0), *_data(9, 1), augment_fn=plain, batch_size=40, epochs=2, **options)
  run(learning_rate=0.5)
  run(optimizer=optax.sgd(optax.cosine_decay_schedule(0.5 * 40 / 256, 6), momentum=0.9, nesterov=True))
  jax.tree.map(np.testing.assert_array_equal, *trained)


class _Stochastic(nn.Module):
  """Forgets its input for some examples in training."""

  drop_path: float = 0.0

  @nn.compact
  def __call__(self, x, train=False):
    x = nn.Dense(4, name='patch_embed')(x.reshape(len(x), -1))
    if train:
      x = nn.Dropout(self.drop_path, broadcast_dims=(1,))(x, deterministic=False)
    return x + nn.Dense(4, name='block0')(x)


class _Within(nn.Module):
  network: nn.Module

  def __call__(self, x, train=False):
    return self.network(x, train=train)


def test_the_recipe_of_vision_transformers(trained):
  encoder = _Within(_Stochastic())
  variables = encoder.init(jax.random.key(0), jnp.zeros((1, 4, 4, 1)))
  run = lambda **options: finetune.accuracy(
      encoder, variables, *_data(120, 0), *_data(90, 1), augment_fn=plain, batch_size=40, optimizer='adamw',
      learning_rate=0.3, weight_decay=0.05, layer_decay=0.65, warmup_epochs=1, **options)
  value = run(epochs=20, drop_path=0.2, mixup=0.8, cutmix=1.0, label_smoothing=0.1)
  assert value >= 0.9
  # Its parts change the training, and the same seed repeats it.
  trained.clear()
  for options in ({}, {'drop_path': 0.2}, {'drop_path': 0.2}, {'mixup': 0.8}):
    run(epochs=2, **options)
  jax.tree.map(np.testing.assert_array_equal, trained[1], trained[2])
  assert len({params['head']['kernel'].tobytes() for params, _ in trained}) == 3


def test_smoothed_labels():
  labels = finetune.Recipe(label_smoothing=0.1).mix(4)(jax.random.key(0), 'images', jnp.array([2, 0]))
  assert labels[0] == 'images'
  np.testing.assert_allclose(labels[1], 0.9 * np.eye(4)[[2, 0]] + 0.025, rtol=1e-6)
  assert finetune.Recipe().mix(4) is None


def test_drop_path_is_set_where_it_is():
  changed = finetune.with_drop_path(_Within(_Within(_Stochastic(0.3))), 0.1)
  assert changed == _Within(_Within(_Stochastic(0.1)))
  unchanged = _Within(_Stochastic(0.3))
  assert finetune.with_drop_path(unchanged, None) is unchanged
  with pytest.raises(ValueError, match=r'drop_path must be None for .* _Within\(_Encoder\); got 0.1'):
    finetune.with_drop_path(_Within(_Encoder()), 0.1)


@pytest.mark.parametrize('recipe, options, message', [
    (finetune, {'epochs': 0}, 'epochs must be positive, got 0'),
    (finetune, {'batch_size': 0}, 'batch_size must be at least 1, got 0'),
    (finetune, {'learning_rate': '0.1'}, "learning_rate must be positive, got '0.1'"),
    (finetune, {'optimizer': 'lars'}, "optimizer must be one of 'sgd', 'adamw', got 'lars'"),
    (finetune, {'optimizer': None}, "optimizer must be one of 'sgd', 'adamw', got None"),
    (finetune, {'weight_decay': -1.0}, 'weight_decay must be finite and not negative, got -1.0'),
    (finetune, {'optimizer': 'adamw', 'layer_decay': 1.5}, r'layer_decay must be in \(0, 1\] or None, got 1.5'),
    (finetune, {'layer_decay': 0.5}, "layer_decay must be None without optimizer='adamw', got 0.5"),
    (finetune, {'warmup_epochs': float('nan')}, 'warmup_epochs must be finite and not negative, got nan'),
    (finetune, {'drop_path': 1.0}, r'drop_path must be in \[0, 1\) or None, got 1.0'),
    (finetune, {'mixup': -0.1}, 'mixup must be finite and not negative, got -0.1'),
    (finetune, {'cutmix': float('inf')}, 'cutmix must be finite and not negative, got inf'),
    (finetune, {'switch_probability': 2}, r'switch_probability must be in \[0, 1\], got 2'),
    (finetune, {'label_smoothing': 1.0}, r'label_smoothing must be in \[0, 1\), got 1.0'),
    (sgd_probe, {'optimizer': 'adamw'}, "optimizer must be one of 'sgd', 'lars', got 'adamw'"),
    (sgd_probe, {'batch_norm': 1}, 'batch_norm must be True or False, got 1'),
    (sgd_probe, {'batch_norm': True, 'batch_size': 1}, 'batch_size must be at least 1, with batch_norm 2, got 1'),
])
def test_recipes_out_of_range(recipe, options, message):
  with pytest.raises(ValueError, match=message):
    recipe.Recipe(**options)


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


def test_batch_norm_without_parameters_against_its_formula():
  rng = np.random.default_rng(0)
  features = rng.normal(3, 2, (3, 6, 4)).astype(np.float32)
  _, stats = sgd_probe.initialise(sgd_probe.Recipe(batch_norm=True), 4, 2, 0)
  mean, variance = np.zeros(4), np.ones(4)
  for h in features.astype(np.float64):
    found, stats = sgd_probe.normalize(jnp.asarray(h, jnp.float32), stats, True)
    np.testing.assert_allclose(found, (h - h.mean(0)) / np.sqrt(h.var(0) + 1e-6), rtol=1e-4, atol=1e-5)
    mean, variance = 0.9 * mean + 0.1 * h.mean(0), 0.9 * variance + 0.1 * h.var(0, ddof=1)
  found, unchanged = sgd_probe.normalize(jnp.asarray(h, jnp.float32), stats, False)
  np.testing.assert_allclose(found, (h - mean) / np.sqrt(variance + 1e-6), rtol=1e-4, atol=1e-5)
  assert unchanged is stats


def test_lars_probe_with_batch_norm_against_numpy(trained):
  images, labels = _data(30, 0)
  options = {'epochs': 4, 'batch_size': 15, 'learning_rate': 30.0, 'optimizer': 'lars', 'warmup_epochs': 2}
  value = sgd_probe.accuracy(
      flatten, images, labels, *_data(90, 1), augment_fn=plain, batch_norm=True, **options)
  ((weight, bias), stats), = trained
  features, targets = images.reshape(30, -1) / 255, np.unique(labels, return_inverse=True)[1]
  start = sgd_probe.initialise(sgd_probe.Recipe(**options), 16, 2, 0)[0]
  w, b = (np.asarray(x, np.float64) for x in start)
  assert 0.005 < w.std() < 0.015
  push, mean = [np.zeros_like(w), np.zeros_like(b)], np.zeros(16)
  for step, chosen in enumerate(supervised.batches(30, 15, 8, 0)):
    h = features[chosen]
    mean = 0.9 * mean + 0.1 * h.mean(0)
    h = (h - h.mean(0)) / np.sqrt(h.var(0) + 1e-6)
    exponential = np.exp(h @ w + b)
    error = (exponential / exponential.sum(1, keepdims=True) - np.eye(2)[targets[chosen]]) / 15
    rate = 30 * 15 / 256 * (step / 4 if step < 4 else 0.5 * (1 + np.cos(np.pi * (step - 4) / 4)))
    gradient = h.T @ error
    trust = 0.001 * np.linalg.norm(w) / np.linalg.norm(gradient)
    push = [0.9 * push[0] + rate * trust * gradient, 0.9 * push[1] + rate * error.sum(0)]
    w, b = w - push[0], b - push[1]
  np.testing.assert_allclose(weight, w, rtol=1e-3, atol=1e-5)
  np.testing.assert_allclose(bias, b, rtol=1e-3, atol=1e-5)
  np.testing.assert_allclose(stats['mean'], mean, rtol=1e-4)
  # Evaluated by the running averages.
  test_images, test_labels = _data(90, 1)
  logits = (test_images.reshape(90, -1) / 255 - stats['mean']) / np.sqrt(stats['variance'] + 1e-6) @ weight + bias
  assert value == np.mean(np.unique(labels)[logits.argmax(1)] == test_labels)


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
  lars = evaluate_trained({'trained': classifier}, train, test, protocol='sgd', epochs=9, batch_size=8,
                          optimizer='lars', batch_norm=True)
  assert lars[0]['optimizer'] == 'lars' and 'batch_size' not in lars[0]
  assert 'linear probe (LARS with augmentation, batch norm, 9 epochs)' in table.format(lars)
  assert table.describe({**rows[1], 'optimizer': 'adamw', 'mixup': 0.8}) == 'fine-tuning (AdamW, mixup, 60 epochs)'
