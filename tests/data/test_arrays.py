"""Images and labels from .npz files: what they hold, how they are split, and what happens when they are wrong."""

import numpy as np
import pytest

from jaxssl import data


def save(tmp_path, **arrays):
  path = tmp_path / 'set.npz'
  np.savez(path, **arrays)
  return str(path)


def images(n, *shape, seed=0):
  return np.random.default_rng(seed).integers(0, 256, (n, *(shape or (6, 5, 3)))).astype(np.uint8)


def test_npz_with_splits(tmp_path):
  train, test = images(8), images(4, seed=1)
  path = save(
    tmp_path, train_images=train, train_labels=np.arange(8) % 3, test_images=test, test_labels=np.arange(4, dtype='u1')
  )
  for split in ('pretrain', 'train'):
    source = data.load('npz', None, path, split)
    np.testing.assert_array_equal(source.inputs, train)
    assert source.labels.dtype == np.int64 and source.name == 'set'
  source = data.load('npz', 'ignored', path, 'test')
  np.testing.assert_array_equal(source.inputs, test)
  assert source.class_names == ('0', '1', '2', '3')


def test_npz_without_a_test_split_holds_out_a_fifth(tmp_path):
  whole = images(50)
  path = save(tmp_path, images=whole, labels=np.repeat(np.arange(5), 10))
  pretrain, train, test = (data.load('npz', None, path, split) for split in data.SPLITS)
  np.testing.assert_array_equal(pretrain.inputs, train.inputs)
  assert np.bincount(test.labels).tolist() == [2] * 5 and np.bincount(train.labels).tolist() == [8] * 5
  assert {each.tobytes() for each in (*train.inputs, *test.inputs)} == {each.tobytes() for each in whole}


def test_npz_labels_may_have_gaps(tmp_path):
  labels = np.array([7, 10**8, 7, 10**8, 0, 0])
  source = data.load('npz', None, save(tmp_path, train_images=images(6), train_labels=labels, test_images=images(2)),
                     'train')
  assert source.class_names == ('0', '7', '100000000') and source.labels.tolist() == [1, 2, 1, 2, 0, 0]


def test_npz_without_labels(tmp_path):
  source = data.load('npz', None, save(tmp_path, train_images=images(10)), 'test')
  assert len(source) == 2 and source.labels is None and source.class_names == ()


def test_npz_grey_and_float(tmp_path):
  grey = images(10, 6, 5)
  source = data.load('npz', None, save(tmp_path, train_images=grey / np.float32(255), test_images=grey), 'train')
  assert source.inputs.dtype == np.uint8
  np.testing.assert_array_equal(source.inputs, grey[..., None])


@pytest.mark.parametrize(
  'arrays, message',
  [
    ({'pictures': images(4)}, "holds 'pictures'; an .npz file holds 'images'"),
    ({'images': images(4), 'train_images': images(4)}, "holds 'images', 'train_images'"),
    ({'test_images': images(4)}, "holds 'test_images'"),
    ({'images': images(4).astype(np.int64)}, "'images' is int64; images are uint8"),
    ({'images': images(4).astype(np.float32)}, r"float32 in \[\d+.0, \d+.0\]; float images are in \[0, 1\]"),
    ({'images': np.full((2, 3, 3, 1), np.nan)}, r'float images are in \[0, 1\]'),
    ({'images': images(4, 3, 8, 8)}, r'shape \(4, 3, 8, 8\)'),
    ({'images': images(0, 8, 8, 3)}, r'shape \(0, 8, 8, 3\)'),
    ({'images': images(4), 'labels': np.arange(3)}, '4 images but 3 labels'),
    ({'images': images(4), 'labels': np.arange(4) - 1}, 'labels are integers'),
    ({'images': images(4), 'labels': np.array(list('abcd'))}, 'labels are integers'),
    ({'images': np.array([images(1), None], object)}, 'pickled objects are refused'),
  ],
)
def test_npz_errors(tmp_path, arrays, message):
  with pytest.raises(ValueError, match=message):
    data.load('npz', None, save(tmp_path, **arrays), 'train')


def test_npz_file_errors(tmp_path):
  with pytest.raises(FileNotFoundError, match='no such file'):
    data.load('npz', None, str(tmp_path / 'none.npz'), 'train')
  (tmp_path / 'text.npz').write_text('nothing')
  with pytest.raises(ValueError, match='not an .npz file'):
    data.load('npz', None, str(tmp_path / 'text.npz'), 'train')
  np.save(tmp_path / 'array.npy', images(3))
  with pytest.raises(ValueError, match='a single array'):
    data.load('npz', None, str(tmp_path / 'array.npy'), 'train')
