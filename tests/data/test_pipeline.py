"""Batches are a function of (seed, step, slot), whatever the parallelism, the first step and the number of hosts."""

import dataclasses
import itertools
import subprocess
import sys
import threading

import jax
import numpy as np
import pytest
from PIL import Image

from jaxssl import data, recipes
from jaxssl.data import pipeline
from jaxssl.data._source import Source
from jaxssl.recipes import Recipe, View

N, B = 23, 8
RECIPE = Recipe((View(12), View(8, area=(0.05, 0.3), flip=1.0)), 10)


@pytest.fixture(scope='module')
def source():
  rng = np.random.default_rng(0)
  images = rng.integers(0, 256, (N, 16, 16, 3)).astype(np.uint8)
  return Source('noise', images, rng.integers(0, 3, N), ('a', 'b', 'c'))


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
  """JPEG and PNG files of several sizes, one turned by EXIF, one with a palette, one grey."""
  root = tmp_path_factory.mktemp('folder')
  rng = np.random.default_rng(1)
  for i in range(10):
    image = Image.fromarray(rng.integers(0, 256, (30 + i, 40, 3)).astype(np.uint8)).resize((45, 35 + i))
    options = {}
    if i == 3:
      options['exif'] = Image.Exif()
      options['exif'][0x0112] = 6
    if i == 4:
      image = image.convert('P')
    if i == 5:
      image = image.convert('L')
    image.save(root / f'{i}.{"jpg" if i % 2 else "png"}', **options)
  return data.load('folder', None, str(root), 'train')


def take(source, steps, **options):
  """The first `steps` batches."""
  options = {'engine': 'device', 'seed': 3, 'batch_size': B} | options
  stream = data.batches(source, RECIPE, **options)
  taken = list(itertools.islice(stream, steps))
  if hasattr(stream, 'close'):
    stream.close()
  return taken


@pytest.fixture(scope='module', params=recipes.ENGINES)
def whole(request, source):
  """An engine and its first five batches."""
  if request.param != 'device':
    pytest.importorskip('tensorflow')
  return request.param, take(source, 5, engine=request.param)


def assert_same(ones, others):
  assert len(ones) == len(others)
  for one, other in zip(ones, others, strict=True):
    assert one.keys() == other.keys()
    jax.tree.map(np.testing.assert_array_equal, one, other)


# Indices.


def stream_of(steps, **options):
  return np.concatenate([data.indices(3, step, B, N, **options) for step in range(steps)])


def test_every_epoch_is_a_permutation():
  order = stream_of(3 * N)
  epochs = order.reshape(-1, N)[: 8 * 3]
  np.testing.assert_array_equal(np.sort(epochs, 1), np.tile(np.arange(N), (24, 1)))
  assert len({epoch.tobytes() for epoch in epochs}) == len(epochs)


def test_indices_are_philox_permutations():
  words = np.asarray(jax.random.key_data(jax.random.key(3))).astype(np.uint64)
  expected = np.concatenate([
    np.random.Generator(np.random.Philox(key=words, counter=[0, 0, 0, epoch])).permutation(N) for epoch in range(3)
  ])
  np.testing.assert_array_equal(stream_of(8), expected[: 8 * B])


def test_first_places_are_uniform_over_seeds():
  first = [data.indices(seed, 0, 4, 4)[0] for seed in range(2000)]
  np.testing.assert_allclose(np.bincount(first), 500, atol=100)  # Five standard deviations.


@pytest.mark.parametrize('seed', [0, 3, 2**31 - 1])
def test_an_integer_seed_is_its_key(seed):
  key = jax.random.key(seed)
  assert pipeline.words(seed) == pipeline.words(key) == pipeline.words(jax.random.key_data(key))
  np.testing.assert_array_equal(data.indices(seed, 5, B, N), data.indices(key, 5, B, N))


def test_seeds_differ():
  assert data.indices(0, 0, B, N).tolist() != data.indices(1, 0, B, N).tolist()
  assert data.indices(0, 0, B, N).tolist() != data.indices(2**32, 0, B, N).tolist()
  folded = jax.random.fold_in(jax.random.key(0), 1)
  assert data.indices(folded, 0, B, N).tolist() != data.indices(0, 0, B, N).tolist()


def test_hosts_cut_the_indices():
  parts = [data.indices(3, 5, B, N, host=host, hosts=4) for host in range(4)]
  np.testing.assert_array_equal(np.concatenate(parts), data.indices(3, 5, B, N))


def test_jitter_orders_are_drawn_per_step_and_view():
  orders = np.stack([pipeline.jitter_orders(3, step, 2) for step in range(600)]).reshape(-1, 4)
  assert orders.dtype == np.int32
  _, counts = np.unique(orders, axis=0, return_counts=True)
  assert len(counts) == 24
  np.testing.assert_allclose(counts, 50, atol=36)
  np.testing.assert_array_equal(pipeline.jitter_orders(3, 7, 2), pipeline.jitter_orders(jax.random.key(3), 7, 2))


@pytest.mark.parametrize(
  'options, message',
  [
    ({'engine': 'gpu'}, "engine='gpu' is unknown"),
    ({'batch_size': 24}, "batch_size=24 is more than the 23 examples of 'noise'"),
    ({'batch_size': 0}, 'batch_size=0'),
    ({'hosts': 3}, 'batch_size=8 is not divisible by hosts=3'),
    ({'hosts': 2, 'host': 2}, 'host=2 must be from 0'),
    ({'start': -1}, 'step=-1'),
    ({'seed': -1}, 'seed=-1'),
    ({'seed': jax.random.split(jax.random.key(0))}, 'one threefry key'),
  ],
)
def test_errors_come_before_the_first_batch(source, options, message):
  with pytest.raises(ValueError, match=message):
    data.batches(source, RECIPE, **({'engine': 'device', 'seed': 3, 'batch_size': B} | options))


# The device engine.


def test_device_batches_are_the_images(source):
  for step, batch in enumerate(take(source, 6)):
    index = data.indices(3, step, B, N)
    np.testing.assert_array_equal(batch['index'], index)
    np.testing.assert_array_equal(batch['inputs'], source.inputs[index])
    np.testing.assert_array_equal(batch['label'], source.labels[index])
    assert batch['index'].dtype == batch['label'].dtype == np.int32 and batch['inputs'].dtype == np.uint8


def test_groups_come_along(source):
  grouped = dataclasses.replace(source, groups=np.arange(N) % 5, group_names=tuple('abcde'))
  for batch in take(grouped, 2):
    np.testing.assert_array_equal(batch['group'], batch['index'] % 5)
    assert batch['group'].dtype == np.int32


def test_without_labels_there_is_no_label(source):
  assert take(Source('bare', source.inputs), 1)[0].keys() == {'index', 'inputs'}


@pytest.mark.parametrize('start', [1, 3])
def test_resume_at_any_step_is_exact(source, whole, start):
  engine, expected = whole
  assert_same(take(source, 5 - start, engine=engine, start=start), expected[start:])


def test_hosts_concatenate_to_one(source, whole):
  engine, expected = whole
  hosts = zip(*(take(source, 5, engine=engine, host=host, hosts=2) for host in range(2)), strict=True)
  assert_same([jax.tree.map(lambda *parts: np.concatenate(parts), *parts) for parts in hosts], expected)


@pytest.mark.parametrize('parallelism', [1, 4, 16])
def test_any_parallelism_gives_the_same_stream(source, whole, parallelism):
  engine, expected = whole
  assert_same(take(source, 5, engine=engine, parallelism=parallelism), expected)


def prefetchers():
  return [thread for thread in threading.enumerate() if thread.name.startswith('jaxssl-prefetch')]


def test_closing_ends_the_thread(source):
  stream = data.batches(source, RECIPE, engine='device', seed=3, batch_size=B)
  assert not prefetchers()
  next(stream)
  assert len(prefetchers()) == 1
  stream.close()
  assert not prefetchers()


def test_an_error_reaches_the_caller_and_ends_the_thread(source):
  class Broken(np.ndarray):
    def __getitem__(self, index):
      raise OSError('disk gone')

  stream = data.batches(Source('broken', source.inputs.view(Broken)), RECIPE, engine='device', seed=3, batch_size=B)
  with pytest.raises(OSError, match='disk gone'):
    next(stream)
  assert not prefetchers()


def test_device_engine_imports_neither_tensorflow_nor_pillow():
  script = """
import sys
from jaxssl import data, recipes
source = data.load('bundled', 'omniglot', None, 'pretrain')
stream = data.batches(source, recipes.drawings(), engine='device', seed=0, batch_size=64)
assert next(stream)['inputs'].shape == (64, 28, 28, 1)
stream.close()
print(sorted({'tensorflow', 'tensorflow_datasets', 'PIL'} & set(sys.modules)))
"""
  run = subprocess.run([sys.executable, '-c', script], capture_output=True, text=True, check=True)
  assert run.stdout.strip() == '[]'


def test_tensorflow_missing_names_the_extra():
  script = """
import sys
sys.modules['tensorflow'] = None
from jaxssl import data, recipes
source = data.load('bundled', 'omniglot', None, 'pretrain')
try:
  data.batches(source, recipes.drawings(), engine='host', seed=0, batch_size=64)
except ImportError as error:
  print(error)
"""
  run = subprocess.run([sys.executable, '-c', script], capture_output=True, text=True, check=True)
  assert 'pip install "jaxssl[data]"' in run.stdout


# The tf.data engines.


def test_views_are_those_of_the_stream_position(source, whole):
  engine, batches = whole
  if engine == 'device':
    assert all('views' not in batch for batch in batches)
    return
  import tensorflow as tf

  from jaxssl.data import tf_image

  seed = tf.constant(np.asarray(jax.random.key_data(jax.random.key(3))).view(np.int32))
  for step, batch in enumerate(batches):
    orders = tf.constant(pipeline.jitter_orders(3, step, 2))
    for slot in (0, B - 1):
      image = tf.constant(source.inputs[data.indices(3, step, B, N)[slot]])
      made = tf_image.views(image, tf.random.fold_in(seed, np.int64(step * B + slot)), RECIPE, engine, orders)
      for view, expected in zip(batch['views'], made, strict=True):
        assert view.dtype == np.uint8
        # Eager and graph arithmetic may round to different sides of a half.
        np.testing.assert_allclose(view[slot].astype(int), expected.numpy().astype(int), atol=1)
    assert [view.shape for view in batch['views']] == [(B, 12, 12, 3), (B, 8, 8, 3)]
    np.testing.assert_array_equal(batch['index'], data.indices(3, step, B, N))
    np.testing.assert_array_equal(batch['label'], source.labels[batch['index']])
    assert batch['inputs'].shape == (B, 10, 10, 3) and batch['inputs'].dtype == np.uint8


def test_an_image_gets_other_views_in_every_epoch(source):
  views = {}
  for batch in take(source, 2 * N // B + 1, engine='split'):
    for index, view in zip(batch['index'].tolist(), batch['views'][0], strict=True):
      views.setdefault(index, []).append(view.tobytes())
  assert sum(len(each) for each in views.values()) > N
  assert all(len(set(each)) == len(each) for each in views.values())


def test_files_of_many_sizes(folder):
  tf = pytest.importorskip('tensorflow')
  from jaxssl.data import tf_image

  assert not folder.inputs.plain.all() and folder.inputs.plain.any()
  batches = take(folder, 4, engine='split', batch_size=4)
  assert_same(take(folder, 2, engine='split', batch_size=4, start=2, parallelism=3), batches[2:])
  for batch in batches:
    assert 'label' not in batch
    for index, inputs in zip(batch['index'], batch['inputs'], strict=True):
      image = tf.constant(folder.inputs.original(index))
      if folder.inputs.plain[index]:
        image = tf.io.decode_image(folder.inputs.content(index), channels=3, expand_animations=False)
      expected = tf_image.inputs(image, RECIPE).numpy()
      np.testing.assert_allclose(inputs.astype(int), expected.astype(int), atol=1)


def test_plain_images_decode_alike(folder):
  tf = pytest.importorskip('tensorflow')
  for index in np.flatnonzero(folder.inputs.plain):
    decoded = tf.io.decode_image(folder.inputs.content(index), channels=3, expand_animations=False).numpy()
    np.testing.assert_allclose(decoded.astype(int), folder.inputs.original(index).astype(int), atol=4)


def test_tensorflow_sees_no_accelerator():
  tf = pytest.importorskip('tensorflow')
  from jaxssl.data._tensorflow import tensorflow

  assert tensorflow() is tf and not tf.config.get_visible_devices('GPU')
