import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxssl.evaluation import supervised


def test_every_epoch_is_a_permutation_and_the_stream_repeats():
  stream = np.concatenate(list(supervised.batches(10, 4, 10, seed=3)))
  epochs = stream.reshape(4, 10)
  np.testing.assert_array_equal(np.sort(epochs, axis=1), np.tile(np.arange(10), (4, 1)))
  assert len({tuple(epoch) for epoch in epochs}) == 4
  np.testing.assert_array_equal(stream, np.concatenate(list(supervised.batches(10, 4, 10, seed=3))))
  assert (stream != np.concatenate(list(supervised.batches(10, 4, 10, seed=4)))).any()


@pytest.mark.parametrize('arguments, expected', [((100, 10, 3), 30), ((100, 64, 1), 2), ((3, 3, 0.1), 1)])
def test_num_steps(arguments, expected):
  assert supervised.num_steps(*arguments) == expected


def test_nesterov_against_the_formula():
  base, batch_size, steps = 0.1, 512, 5
  optimizer = supervised.make_optimizer('sgd', base, batch_size, steps)
  params, velocity, state = 1.0, 0.0, optimizer.init(jnp.float32(1.0))
  found = jnp.float32(1.0)
  for i in range(steps):
    gradient = 2 * params
    rate = base * batch_size / 256 * 0.5 * (1 + np.cos(np.pi * i / steps))
    velocity = 0.9 * velocity + gradient
    params = params - rate * (gradient + 0.9 * velocity)
    updates, state = optimizer.update(2 * found, state, found)
    found = optax.apply_updates(found, updates)
    np.testing.assert_allclose(found, params, rtol=1e-4, atol=1e-6)


def test_optimizers_warm_up_and_have_names():
  params, gradient = {'block0': jnp.ones((2, 2)), 'head': jnp.ones((2, 2))}, jnp.full((2, 2), 0.5)
  make = lambda name, **options: supervised.make_optimizer(
      name, 0.1, 512, 8, steps_per_epoch=2, warmup_epochs=1, weight_decay=0.5, **options)
  for name in ('sgd', 'lars', 'adamw'):
    optimizer = make(name, **({'layer_decay': 0.5} if name == 'adamw' else {}))
    state, moves = optimizer.init(params), []
    for _ in range(2):
      updates, state = optimizer.update({key: gradient for key in params}, state, params)
      moves.append(updates)
    assert not np.any(moves[0]['head']) and np.all(moves[1]['head'] < 0)  # The rate begins at 0.
    if name == 'adamw':  # Adam's direction is 1, decay adds .5 x 1; a half of the peak rate, .2.
      np.testing.assert_allclose(moves[1]['head'], -0.1 * 1.5, rtol=1e-5)
      np.testing.assert_allclose(moves[1]['block0'], -0.05 * 1.5, rtol=1e-5)
    if name == 'lars':  # 1e-3 |w| / |d| d, and |w| = 2, d = |d| / 2 everywhere.
      np.testing.assert_allclose(moves[1]['head'], -0.1 * 1e-3, rtol=1e-5)
    if name == 'sgd':  # d = .5 + .5; v = d, then 1.9 d; Nesterov's step d + .9 v.
      np.testing.assert_allclose(moves[1]['head'], -0.1 * (1 + 0.9 * 1.9), rtol=1e-5)
  with pytest.raises(ValueError, match="optimizer must be 'sgd', 'lars' or 'adamw', got 'adam'"):
    make('adam')


def test_crop_flip_keeps_the_colours():
  images = np.full((4, 12, 12, 3), (10, 100, 200), np.uint8)
  images[:, :, :6] = 0
  keys = jax.random.split(jax.random.key(0), 4)
  views = np.asarray(jax.jit(supervised.crop_flip(8))(keys, images))
  assert views.shape == (4, 8, 8, 3)
  # Every pixel is a mixture of the two colours of the image, whatever the crop.
  np.testing.assert_allclose(views[..., 0] * 10, views[..., 1], atol=1e-5)
  assert len({view.tobytes() for view in views}) > 1


def test_train_is_plain_gradient_descent_on_the_chosen_rows():
  rng = np.random.default_rng(0)
  images, targets = rng.normal(size=(9, 4)).astype(np.float32), rng.integers(0, 3, 9)
  rows = np.array([1, 2, 5, 8])
  seen = []

  def augment_fn(keys, images):
    jax.debug.callback(lambda x: seen.append(x), jax.random.key_data(keys))
    return 2 * images

  params, stats = supervised.train(
      lambda params, stats, x, key: (x @ params, {'steps': stats['steps'] + 1}), jnp.zeros((4, 3)),
      {'steps': jnp.int32(0)}, images, targets, rows=rows, augment_fn=augment_fn,
      optimizer=optax.sgd(0.3), batch_size=4, steps=3, seed=0)
  weight = np.zeros((4, 3))
  for _ in range(3):
    logits = 2 * images[rows] @ weight
    probability = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    weight -= 0.3 * (2 * images[rows]).T @ (probability - np.eye(3)[targets[rows]]) / 4
  np.testing.assert_allclose(params, weight, atol=1e-5)
  assert stats['steps'] == 3
  jax.effects_barrier()
  assert len({key.tobytes() for keys in seen for key in keys}) == 12


def test_mixed_labels_and_the_keys_of_what_is_random():
  rng = np.random.default_rng(0)
  images, targets = rng.normal(size=(4, 4)).astype(np.float32), np.array([0, 1, 2, 2])
  seen = []

  def note(name, keys):
    jax.debug.callback(lambda x: seen.extend((name, key.tobytes()) for key in x.reshape(-1, 2)),
                       jax.random.key_data(keys))

  def apply(params, stats, x, key):
    note('apply', key)
    return x @ params, stats

  def mix(key, images, targets):
    note('mix', key)
    return 2 * images, 0.9 * jax.nn.one_hot(targets, 3) + 0.1 / 3

  def augment_fn(keys, images):
    note('augment', keys)
    return images

  params, _ = supervised.train(
      apply, jnp.zeros((4, 3)), {}, images, targets, rows=np.arange(4), augment_fn=augment_fn,
      optimizer=optax.sgd(0.3), batch_size=4, steps=2, seed=0, mix=mix)
  weight = np.zeros((4, 3))
  for _ in range(2):
    exponential = np.exp(2 * images @ weight)
    probability = exponential / exponential.sum(axis=1, keepdims=True)
    weight -= 0.3 * (2 * images).T @ (probability - 0.9 * np.eye(3)[targets] - 0.1 / 3) / 4
  np.testing.assert_allclose(params, weight, atol=1e-5)
  jax.effects_barrier()
  assert len({key for _, key in seen}) == 2 * (4 + 1 + 1) and {name for name, _ in seen} == {'augment', 'mix', 'apply'}


def test_divergence_is_an_error():
  with pytest.raises(FloatingPointError, match='not finite at step 0 of 2'):
    supervised.train(
        lambda params, stats, x, key: (x @ params * jnp.nan, stats), jnp.ones((2, 2)), {}, np.ones((4, 2), np.float32),
        np.zeros(4, int), rows=np.arange(4), augment_fn=lambda keys, x: x, optimizer=optax.sgd(1.0), batch_size=2,
        steps=2, seed=0)
