"""Paired views from .npz files and folders: rows that belong together, splits, and what is wrong with them."""

import numpy as np
import pytest
from PIL import Image

from jaxssl import data, recipes

RNG = np.random.default_rng(0)
VIEWS = {'view_0': RNG.integers(0, 256, (20, 6, 6, 3), np.uint8), 'view_1': RNG.normal(size=(20, 4)),
         'labels': np.arange(20) % 2 + 3}


def save(path, **arrays):
  np.savez(path, **arrays)
  return str(path)


def load(path, split='train', source='npz', size=None):
  return data.load_paired(source, None, str(path), split, size)


def test_npz_holds_out_a_fifth_of_the_rows(tmp_path):
  path = save(tmp_path / 'set.npz', **VIEWS)
  train, test = load(path), load(path, 'test')
  assert (len(train), len(test), train.class_names) == (16, 4, ('3', '4'))
  images, vectors = train.inputs[np.arange(16)]
  assert images.dtype == np.uint8 and vectors.dtype == np.float32
  rows = [int(np.flatnonzero((VIEWS['view_0'] == image).all((1, 2, 3)))[0]) for image in images]
  np.testing.assert_allclose(vectors, VIEWS['view_1'][rows], rtol=1e-6)
  np.testing.assert_array_equal(train.labels, VIEWS['labels'][rows] - 3)
  np.testing.assert_array_equal(load(path, 'pretrain').inputs[np.arange(3)][0], images[:3])


def test_npz_with_a_test_part_grey_images_and_three_views(tmp_path):
  arrays = {'view_0': VIEWS['view_0'][..., 0], 'view_1': VIEWS['view_0'] / 255, 'view_2': np.arange(60).reshape(20, 3)}
  path = save(tmp_path / 'set.npz', **{f'train_{k}': v for k, v in arrays.items()},
              **{f'test_{k}': v[:5] for k, v in arrays.items()})
  train, test = load(path), load(path, 'test')
  assert (len(train), len(test), train.labels) == (20, 5, None)
  assert [x.shape for x in test.inputs[np.arange(2)]] == [(2, 6, 6, 1), (2, 6, 6, 3), (2, 3)]


@pytest.mark.parametrize('change, message', [
    ({'view_1': VIEWS['view_1'][:19]}, "all views need the same examples, but 'view_0' has 20, 'view_1' has 19"),
    ({'labels': np.arange(7)}, "'labels' has 7"),
    ({'view_1': np.full((20, 2), np.nan)}, "'view_1' holds numbers that are not finite"),
    ({'view_1': 3.0 * np.ones((20, 4, 4, 1))}, r"'view_1' lies in \[3.0, 3.0\]; images .* float in \[0, 1\]"),
    ({'view_1': np.array(['a'] * 20)}, r"'view_1' is <U1 of shape \(20,\); views are real numbers"),
    ({'view_1': np.zeros((20, 3, 8, 8), np.uint8)}, r"'view_1' has shape \(20, 3, 8, 8\); .* channels last"),
    ({'view_1': 1j * np.ones((20, 2))}, "'view_1' is complex128 of shape .*; views are real numbers"),
    ({'view_1': np.full((20, 2), 1e300)}, "'view_1' holds numbers that are not finite, or beyond 1e\\+15"),
    ({'view_3': VIEWS['view_1']}, "holds 'view_3' but no 'view_2': views are numbered from 0"),
    ({'view_1': None}, "'view_1'.*pickled objects are refused"),
])
def test_wrong_arrays_are_named(tmp_path, change, message):
  path = save(tmp_path / 'set.npz', **{**VIEWS, **change})
  with pytest.raises(ValueError, match=message):
    load(path)


def test_one_view_alone_is_a_tuple_of_one(tmp_path):
  rows = np.arange(20.0)
  alone = save(tmp_path / 'alone.npz', view_0=np.stack([rows, rows], axis=1))
  (train,), (test,) = load(alone).inputs[:], load(alone, split='test').inputs[:]
  np.testing.assert_array_equal(np.sort([*train[:, 0], *test[:, 0]]), rows)
  assert train.dtype == np.float32 and len(test) == 4


def test_wrong_files_are_named(tmp_path):
  one = save(tmp_path / 'one.npz', view_0=VIEWS['view_0'])
  with pytest.raises(ValueError, match="holds 'view_0'; .*paired views take the recipe 'paired'"):
    data.load('npz', None, one, 'train')
  images = save(tmp_path / 'images.npz', images=VIEWS['view_0'])
  with pytest.raises(ValueError, match="holds 'images'; an .npz file of paired views holds"):
    load(images)
  with pytest.raises(ValueError, match="source='tfds' is unknown. .*'npz', 'folder'"):
    load(images, source='tfds')
  with pytest.raises(FileNotFoundError, match='there is no such file'):
    load(tmp_path / 'absent.npz')
  with pytest.raises(ValueError, match="is a folder, and source='npz' reads a file; did you mean source='folder'?"):
    load(tmp_path)
  with pytest.raises(ValueError, match="is a file, and source='folder' reads a folder; did you mean source='npz'?"):
    load(images, source='folder')


def write(path, value, size=(8, 6)):
  path.parent.mkdir(parents=True, exist_ok=True)
  Image.fromarray(np.full((*size, 3), value, np.uint8)).save(path)


@pytest.fixture
def folder(tmp_path):
  for label in ('a', 'b'):
    for i in range(10):
      write(tmp_path / 'view_0' / label / f'{i}.png', 10 * i)
      write(tmp_path / 'view_1' / label / f'{i}.jpg', 10 * i + 100, (5, 5))
  return tmp_path


def test_folders_pair_images_of_the_same_path(folder):
  train, test = load(folder, source='folder', size=4), load(folder, 'test', 'folder', 4)
  assert (len(train), len(test), train.class_names) == (16, 4, ('a', 'b'))
  left, right = train.inputs[np.arange(16)]
  assert left.shape == right.shape == (16, 4, 4, 3)
  np.testing.assert_allclose(right.mean((1, 2, 3)), left.mean((1, 2, 3)) + 100, atol=2)


def test_examples_that_are_not_in_every_view_are_left_out(folder, caplog):
  everyone = {*load(folder, source='folder', size=4).files, *load(folder, 'test', 'folder', 4).files}
  (folder / 'view_1' / 'a' / '3.jpg').unlink()
  (folder / 'view_1' / 'b' / '5.jpg').write_bytes(b'no image')
  splits = [load(folder, split, 'folder', 4) for split in ('train', 'test')]
  assert {file for source in splits for file in source.files} == everyone - {'a/3', 'b/5'}
  warnings = [record.getMessage() for record in caplog.records if 'as not every view has them' in record.getMessage()]
  assert {name for name in ('a/3', 'b/5') if any(name in each for each in warnings)} == {'a/3', 'b/5'}
  for source in splits:
    left, right = source.inputs[np.arange(len(source))]
    np.testing.assert_allclose(right.mean((1, 2, 3)), left.mean((1, 2, 3)) + 100, atol=2)


def test_two_images_of_one_example_are_refused(folder):
  write(folder / 'view_1' / 'a' / '3.png', 0)
  with pytest.raises(ValueError, match=r"view_1' holds 'a/3.jpg' and 'a/3.png': an example has one image in each view"):
    load(folder, source='folder', size=4)


def test_wrong_folders_are_named(folder, tmp_path):
  with pytest.raises(ValueError, match="paired views are two or more folders 'view_0', 'view_1', …; found 0"):
    load(folder / 'view_0', source='folder', size=4)
  for file in (folder / 'view_1').rglob('*.jpg'):
    file.rename(file.with_name('x' + file.name))
  with pytest.raises(ValueError, match=r"no image has the same path in every view; view_0 holds"):
    load(folder, source='folder', size=4)


def test_the_stream_is_tuples_and_wants_a_recipe_for_them(tmp_path):
  source = load(save(tmp_path / 'set.npz', **VIEWS))
  stream = data.batches(source, recipes.paired(6), engine='device', seed=0, batch_size=4)
  batch = next(stream)
  stream.close()
  assert [x.shape for x in batch['inputs']] == [(4, 6, 6, 3), (4, 4)] and batch['label'].shape == (4,)
  np.testing.assert_array_equal(batch['inputs'][0], source.inputs[batch['index']][0])
  with pytest.raises(ValueError, match="holds paired views, which need the recipe 'paired'"):
    data.batches(source, recipes.simclr(6), engine='device', seed=0, batch_size=4)
  with pytest.raises(ValueError, match="'paired' is for paired views, which .* does not hold"):
    data.batches(data.load('bundled', 'omniglot', None, 'train'), recipes.paired(6), engine='device', seed=0,
                 batch_size=4)
  with pytest.raises(ValueError, match="engine='host' makes views of single images; the one for paired views is"):
    data.batches(source, recipes.paired(6), engine='host', seed=0, batch_size=4)
