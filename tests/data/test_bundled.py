"""The bundled drawings: counts, splits, and what the packing script makes of its archives."""

import importlib.util
import io
import pathlib
import subprocess
import sys
import zipfile

import numpy as np
import pytest
from PIL import Image

from jaxssl import data
from jaxssl.data import bundled

ROOT = pathlib.Path(__file__).resolve().parents[2]
ALPHABETS = {
  'Balinese': 24, 'Early_Aramaic': 22, 'Greek': 24, 'Japanese_(katakana)': 47, 'Korean': 40, 'Latin': 26,
  'Sanskrit': 42, 'Tagalog': 17,
}  # Characters of each, from Omniglot's own listing.


@pytest.fixture(scope='module')
def packed():
  with np.load(bundled.PATH, allow_pickle=False) as opened:
    return dict(opened)


@pytest.fixture(scope='module')
def script():
  spec = importlib.util.spec_from_file_location('pack_omniglot', ROOT / 'scripts' / 'pack_omniglot.py')
  module = importlib.util.module_from_spec(spec)
  spec.loader.exec_module(module)
  return module


def test_counts(packed):
  assert packed['images'].shape == (4840, 28, 28, 1) and packed['images'].dtype == np.uint8
  assert bundled.PATH.stat().st_size < 2e6
  names = [str(name) for name in packed['alphabet_names']]
  assert {name: len(set(packed['character'][packed['alphabet'] == i])) for i, name in enumerate(names)} == ALPHABETS
  assert sum(ALPHABETS.values()) == 242 == len(packed['character_names'])
  slots = set(zip(packed['character'].tolist(), packed['drawer'].tolist(), strict=True))
  assert slots == {(character, drawer) for character in range(242) for drawer in range(1, 21)}


def test_no_drawing_twice(packed):
  assert len(np.unique(packed['images'].reshape(4840, -1), axis=0)) == 4840


def test_ink_is_bright_and_sparse(packed):
  images = packed['images'][..., 0]
  assert np.median(images) == 0 and 10 < images.mean() < 40
  assert (images.reshape(4840, -1).max(1) > 150).all()


def _drawings(source):
  return {image.tobytes() for image in source.inputs}


@pytest.mark.parametrize(
  'name, sizes, classes',
  [
    ('omniglot', (242 * 15, 242 * 15, 242 * 5), (242, 242)),
    ('omniglot_validation', (242 * 12, 242 * 12, 242 * 3), (242, 242)),
    ('omniglot_unseen', (201 * 20, 41 * 15, 41 * 5), (201, 41)),
  ],
)
def test_splits(name, sizes, classes):
  pretrain, train, test = (data.load('bundled', name, None, split) for split in data.SPLITS)
  assert (len(pretrain), len(train), len(test)) == sizes
  assert (len(pretrain.class_names), len(test.class_names)) == classes
  assert not _drawings(pretrain) & _drawings(test) and not _drawings(train) & _drawings(test)
  assert train.class_names == test.class_names
  for source in (pretrain, train, test):
    assert source.labels.dtype == np.int64
    counts = np.bincount(source.labels)
    assert len(counts) == len(source.class_names) and (counts == counts[0]).all()


def test_validation_never_touches_the_test_set():
  test = _drawings(data.load('bundled', 'omniglot', None, 'test'))
  for split in data.SPLITS:
    assert not test & _drawings(data.load('bundled', 'omniglot_validation', None, split))


def test_unseen_alphabets_are_unseen():
  pretrain, test = (data.load('bundled', 'omniglot_unseen', None, split) for split in ('pretrain', 'test'))
  assert {name.split('/')[0] for name in test.class_names} == {'Balinese', 'Tagalog'}
  assert {name.split('/')[0] for name in pretrain.class_names} == set(ALPHABETS) - {'Balinese', 'Tagalog'}


def test_a_wrong_name_names_the_nearest():
  with pytest.raises(ValueError, match=r"name='omniglot_unsen' is unknown; did you mean 'omniglot_unseen'"):
    data.load('bundled', 'omniglot_unsen', None, 'train')


def test_a_path_is_no_bundled_set():
  with pytest.raises(ValueError, match="source='folder'"):
    data.load('bundled', 'omniglot', 'pictures', 'train')


def _archive(path, alphabets, ink=0):
  """A small archive in Omniglot's layout: a 40 px square of ink, its corner by drawer."""
  with zipfile.ZipFile(path, 'w') as archive:
    for alphabet in alphabets:
      for drawer in (2, 1):
        pixels = np.full((105, 105), 255 - ink, np.uint8)
        pixels[10 * drawer : 10 * drawer + 40, 30:70] = ink
        content = io.BytesIO()
        Image.fromarray(pixels).convert('1').save(content, 'PNG')
        archive.writestr(f'small/{alphabet}/character01/0001_{drawer:02d}.png', content.getvalue())
  return path


def test_script_removes_duplicates_and_inverts(script, tmp_path):
  archives = [_archive(tmp_path / 'a.zip', ['Greek', 'Latin']), _archive(tmp_path / 'b.zip', ['Greek', 'Korean'])]
  arrays = script.pack(archives, 35)
  assert arrays['character_names'].tolist() == ['Greek/character01', 'Korean/character01', 'Latin/character01']
  assert arrays['drawer'].tolist() == [1, 2] * 3 and arrays['character'].tolist() == [0, 0, 1, 1, 2, 2]
  first = arrays['images'][0, ..., 0].astype(float)  # One pixel is 3x3 of the drawing.
  assert first.shape == (35, 35) and first[8, 15] == 255 and first[30, 30] == 0
  np.testing.assert_allclose(first.sum() * 9, 1600 * 255, rtol=0.01)  # Shrinking keeps the amount of ink.
  rows, columns = np.indices((35, 35))
  centre = [3 * (first * axis).sum() / first.sum() + 1 for axis in (rows, columns)]
  np.testing.assert_allclose(centre, [29.5, 49.5], atol=0.1)  # And its place.


def test_script_refuses_two_drawings_of_one_name(script, tmp_path):
  archives = [_archive(tmp_path / 'a.zip', ['Greek']), _archive(tmp_path / 'b.zip', ['Greek'], ink=255)]
  with pytest.raises(ValueError, match='differs'):
    script.pack(archives, 28)


def test_script_writes_the_same_bytes_again(tmp_path):
  archive = _archive(tmp_path / 'a.zip', ['Greek'])
  outs = [tmp_path / 'one.npz', tmp_path / 'two.npz']
  for out in outs:
    subprocess.run([sys.executable, ROOT / 'scripts' / 'pack_omniglot.py', archive, '--out', out], check=True)
  assert outs[0].read_bytes() == outs[1].read_bytes()
