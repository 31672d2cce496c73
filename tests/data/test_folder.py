"""Folders of images: classes, splits, what cannot be read, and what does not fit in memory."""

import os
import sys

import numpy as np
import pytest
from PIL import Image

sys.path.insert(0, os.path.dirname(__file__))
from bad_files import picture

from jaxssl import data
from jaxssl.data import encoded


def write(path, seed=0, **size):
  path.parent.mkdir(parents=True, exist_ok=True)
  picture(seed, **size).save(path)


@pytest.fixture(scope='module')
def classes(tmp_path_factory):
  """Two classes of ten, nested, in all formats, among things that are no images of the set."""
  root = tmp_path_factory.mktemp('classes')
  forms = ('jpg', 'JPEG', 'png', 'webp', 'bmp')
  for i in range(10):
    write(root / 'cat' / 'deep' / f'{i}.{forms[i % 5]}', i, height=20 + i)
    write(root / 'dog' / f'{i}.{forms[i % 5]}', 100 + i, width=24 + i)
  write(root / '.hidden' / 'a.png')
  write(root / '__MACOSX' / 'cat' / 'a.png')
  write(root / 'dog' / '._0.png')
  (root / 'dog' / 'notes.txt').write_text('none')
  return root


def test_folder_of_classes(classes):
  pretrain, train, test = (data.load('folder', None, str(classes), split, size=16) for split in data.SPLITS)
  assert train.class_names == ('cat', 'dog') and train.name == classes.name
  assert pretrain.files == train.files and not set(train.files) & set(test.files)
  assert len(train) == 16 and np.bincount(test.labels).tolist() == [2, 2]
  assert isinstance(train.inputs, np.ndarray) and train.inputs.shape == (16, 16, 16, 3)
  for image, label, file in zip(train.inputs, train.labels, train.files, strict=True):
    assert file.startswith(train.class_names[label] + '/')
    np.testing.assert_array_equal(image, encoded.decode((classes / file).read_bytes(), 3, 16))


def test_folder_beyond_the_memory_is_decoded_when_used(classes, monkeypatch):
  held = data.load('folder', None, str(classes), 'train', size=16)
  monkeypatch.setattr(encoded, 'MEMORY', 100)
  source = data.load('folder', None, str(classes), 'train', size=16)
  assert isinstance(source.inputs, encoded.EncodedImages) and source.files == held.files
  chosen = np.array([5, 0, 15, 5])
  np.testing.assert_array_equal(source.inputs[chosen], held.inputs[chosen])
  np.testing.assert_array_equal(source.inputs[2:7], held.inputs[2:7])


def test_a_file_overwritten_while_it_is_used_is_named(tmp_path, monkeypatch):
  monkeypatch.setattr(encoded, 'MEMORY', 100)
  for i in range(10):
    write(tmp_path / f'{i}.png', i)
  source = data.load('folder', None, str(tmp_path), 'train', size=8)
  (tmp_path / source.files[3]).write_bytes(b'no longer an image')
  with pytest.raises(OSError, match=f'{source.files[3]} cannot be decoded: '):
    source.inputs[np.arange(8)]


def test_folder_without_a_size_keeps_the_originals(classes):
  source = data.load('folder', None, str(classes), 'train')
  for i in (0, 15):
    with Image.open(classes / source.files[i]) as image:
      np.testing.assert_array_equal(source.inputs.original(i), np.asarray(image.convert('RGB')))
  with pytest.raises(ValueError, match='size=None'):
    source.inputs[np.arange(2)]


def test_folder_with_a_stray_image_says_that_it_has_no_labels(tmp_path, caplog):
  for file in ('a/0.png', 'a/1.png', 'b/0.png', 'stray.png'):
    write(tmp_path / file)
  assert data.load('folder', None, str(tmp_path), 'train', size=8).labels is None
  assert 'No labels' in caplog.text and 'stray.png' in caplog.text


def test_folder_unlabelled(tmp_path):
  for i in range(10):
    write(tmp_path / ('more' if i % 2 else '.') / f'{i}.png', i)
  write(tmp_path / 'other' / 'x.png', 50)
  train, test = (data.load('folder', None, str(tmp_path), split, size=8) for split in ('train', 'test'))
  assert (len(train), len(test)) == (9, 2) and train.labels is None and train.class_names == ()


@pytest.mark.parametrize('test', ['test', 'val', 'validation'])
def test_folder_with_splits(tmp_path, test):
  for part, count in (('train', 3), (test, 2)):
    for label in ('b', 'a'):
      for i in range(count):
        write(tmp_path / part / label / f'{i}.png', i)
  write(tmp_path / test / 'c' / '0.png')
  train, held = (data.load('folder', None, str(tmp_path), split, size=8) for split in ('train', 'test'))
  assert train.files == tuple(f'train/{label}/{i}.png' for label in 'ab' for i in range(3))
  assert train.class_names == held.class_names == ('a', 'b', 'c')
  assert train.labels.tolist() == [0, 0, 0, 1, 1, 1] and held.labels.tolist() == [0, 0, 1, 1, 2]


@pytest.mark.parametrize('size', [None, 8])
def test_folder_reports_and_skips_what_it_cannot_read(tmp_path, caplog, size):
  for i in range(9):
    write(tmp_path / 'train' / f'{i}.jpg', i, height=90, width=90)
  write(tmp_path / 'test' / '0.jpg')
  whole = (tmp_path / 'train' / '4.jpg').read_bytes()
  (tmp_path / 'train' / '4.jpg').write_bytes(whole[: len(whole) // 2])
  (tmp_path / 'train' / '6.jpg').write_text('no image')
  (tmp_path / 'train' / '7.jpg').write_bytes(b'')
  source = data.load('folder', None, str(tmp_path), 'train', size=size)
  assert source.files == tuple(f'train/{i}.jpg' for i in (0, 1, 2, 3, 5, 8)) and len(source) == 6
  assert [file for file, _ in source.skipped] == ['train/4.jpg', 'train/6.jpg', 'train/7.jpg']
  assert 'truncated' in source.skipped[0][1]
  assert "3 of the 9 images of the split 'train' left out:" in caplog.text
  assert all(file in caplog.text and reason in caplog.text for file, reason in source.skipped)
  expected = encoded.decode((tmp_path / 'train' / '8.jpg').read_bytes(), 3, size)
  np.testing.assert_array_equal(source.inputs[5] if size else source.inputs.original(5), expected)


def test_folder_errors(tmp_path):
  with pytest.raises(FileNotFoundError, match='no such folder'):
    data.load('folder', None, str(tmp_path / 'none'), 'train')
  with pytest.raises(ValueError, match='holds no image'):
    data.load('folder', None, str(tmp_path), 'train')
  (tmp_path / 'a.png').write_text('none')
  with pytest.raises(ValueError, match='none of 1 images can be read; a.png: is no image'):
    data.load('folder', None, str(tmp_path), 'train')
