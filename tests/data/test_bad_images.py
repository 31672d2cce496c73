"""Images that are odd, damaged or hostile, by every loader that reads image files, and by every engine."""

import contextlib
import os
import pathlib
import resource
import shutil
import sys
import tempfile

import numpy as np
import pytest

sys.path.insert(0, os.path.dirname(__file__))
import bad_files

from jaxssl import data, recipes
from jaxssl.data import encoded
from jaxssl.data import folder as folder_of_images


def fill(folder, images, good=0):
  """Writes images, and `good` ordinary ones, to a folder."""
  folder.mkdir(parents=True, exist_ok=True)
  for i in range(good):
    (folder / f'good{i}.png').write_bytes(bad_files.encode(bad_files.picture(i), 'PNG'))
  for name, content in images.items():
    (folder / name).write_bytes(content)


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
  """Fine and broken images in train/, two ordinary ones in test/: (the folder, name -> a word of the reason)."""
  root = tmp_path_factory.mktemp('images')
  fill(root / 'train', bad_files.fine_images() | bad_files.broken_images(), good=4)
  fill(root / 'test', {}, good=2)
  words = {name: '' for name in bad_files.broken_images()} | bad_files.broken_places(root / 'train', '.png')
  return root, words | {
    'gif_called.png': 'is no image in a format that is read (JPEG, PNG, WebP, BMP)', 'truncated.jpg': 'truncated',
    'bomb.png': '3600000000 pixels) exceeds limit', 'bomb.bmp': '3600000000 pixels) exceeds limit',
    'bomb.webp': '268435456 pixels) exceeds limit'}


@pytest.mark.parametrize('size', [None, 16])
def test_a_folder_reports_what_is_broken_and_reads_what_is_odd(folder, size, caplog):
  folder_of_images.warn_once.cache_clear()  # What one size has reported, the other reports again.
  root, words = folder
  source = data.load('folder', None, str(root), 'train', size=size)
  skipped = dict(source.skipped)
  assert {f'train/{name}' for name in words} == set(skipped)
  assert {f'train/{name}' for name in bad_files.fine_images()} <= set(source.files)
  for name, word in words.items():
    why = skipped[f'train/{name}']
    assert word in why and why and '\n' not in why and str(root) not in why
    assert f'  train/{name}: {why}\n' in caplog.text + '\n'
  if size:
    assert source.inputs.shape == (len(source), 16, 16, 3)
  else:
    shapes = {file: source.inputs.original(i).shape for i, file in enumerate(source.files)}
    assert shapes['train/line.png'] == (1, 5000, 3) and shapes['train/column.jpg'] == (5000, 1, 3)


def test_names_are_printed_on_one_line_each(tmp_path, caplog):
  fill(tmp_path, {'new\nline \x1b[31m.png': b'', os.fsdecode(b'\xff.png'): b''}, good=8)
  data.load('folder', None, str(tmp_path), 'train', size=8)
  assert r'  new\nline \x1b[31m.png: ' in caplog.text and r'  \udcff.png: ' in caplog.text


def test_a_header_that_declares_too_much_is_refused_before_anything_is_allocated(tmp_path):
  before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
  for name, content in bad_files.broken_images().items():
    if name.startswith('bomb'):
      with pytest.raises(Exception, match='exceeds limit'):
        encoded.decode(content)
  assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 50_000  # KiB


def test_a_png_with_a_wrong_checksum_is_broken():
  whole = bad_files.encode(bad_files.picture(), 'PNG')
  wrong = whole[:-16] + bytes(4) + whole[-12:]  # Of the pixels; the last twelve bytes are the end.
  assert encoded.decode(wrong).shape == (20, 30, 3)
  with pytest.raises(Exception, match='broken PNG file'):
    encoded.is_plain(wrong)


@pytest.mark.slow
def test_tensorflow_takes_of_a_damaged_jpeg_what_pillow_does():
  """Or a run with the engine 'host' would stop at an image that was fine when it began."""
  tf = pytest.importorskip('tensorflow')
  rng, taken = np.random.default_rng(0), 0
  for i in range(1000):
    image = bad_files.picture(i, 60, 90).convert('L' if i % 3 == 0 else 'RGB')
    content = bytearray(bad_files.encode(image, 'JPEG', progressive=i % 2 == 0, quality=95))
    for _ in range(rng.integers(1, 4)):
      place, count = rng.integers(0, len(content)), rng.integers(1, 9)
      content[place : place + (count if rng.random() < 0.5 else 0)] = rng.bytes(count if rng.random() < 0.7 else 0)
    try:
      shape = encoded.decode(bytes(content)).shape
      plain = encoded.is_plain(bytes(content))
    except Exception:
      continue
    if plain:
      taken += 1
      assert tf.io.decode_jpeg(bytes(content), channels=3, try_recover_truncated=True).shape == shape
  assert taken > 300


def test_a_file_too_large_for_an_image_is_not_read(tmp_path):
  fill(tmp_path, {}, good=8)
  with open(tmp_path / 'huge.png', 'wb') as file:
    file.truncate(1 << 40)  # Takes no space on the disk.
  source = data.load('folder', None, str(tmp_path), 'train', size=8)
  assert source.skipped == (('huge.png', 'is too large for an image: 1,099,511,627,776 bytes'),)


def test_an_error_without_a_message_leaves_its_image_out(tmp_path, monkeypatch):
  fill(tmp_path, {}, good=10)
  calls = iter(range(100))

  def decode(*arguments):
    if next(calls) == 3:
      raise EOFError
    return np.zeros((8, 8, 3), np.uint8)

  monkeypatch.setattr(encoded, 'decode', decode)
  source = data.load('folder', None, str(tmp_path), 'train', size=8)
  assert [why for _, why in source.skipped] == ['EOFError'] and len(source) == 7


def test_paired_views_leave_out_what_is_broken_in_either(folder, tmp_path, caplog):
  root, words = folder
  shutil.copytree(root, tmp_path / 'view_0', symlinks=True, copy_function=_copy)
  fill(tmp_path / 'view_1' / 'train', {name: bad_files.encode(bad_files.picture(), 'PNG') for name in (
    'truncated.png', 'pixel.png', 'line.png', 'cmyk.png')}, good=4)
  fill(tmp_path / 'view_1' / 'test', {}, good=2)
  for view in ('view_0', 'view_1'):  # Names that differ in the extension alone are refused.
    for name in ('animated', 'truncated', 'empty', 'bomb'):
      for file in sorted((tmp_path / view / 'train').glob(f'{name}.*'))[1:]:
        file.unlink()
  source = data.load_paired('folder', None, str(tmp_path), 'train', size=16)
  assert set(source.files) == {f'train/{name}' for name in ('pixel', 'line', 'cmyk', *(f'good{i}' for i in range(4)))}
  assert 'left out, as not every view has them: ' in caplog.text


def _copy(source, target):
  if os.path.isfile(source):
    shutil.copy(source, target)
  else:
    os.mkfifo(target)


@pytest.mark.parametrize('engine', [
  'device', *(pytest.param(engine, marks=pytest.mark.slow) for engine in ('host', 'split'))])
def test_odd_images_become_views(folder, engine):
  """Of an image of one pixel, of one line, with a palette, …; at each engine, which decode them in their own ways."""
  if engine != 'device':
    pytest.importorskip('tensorflow')
  root, _ = folder
  source = data.load('folder', None, str(root), 'train', size=32 if engine == 'device' else None)
  stream = data.batches(source, recipes.simclr(24), engine=engine, seed=0, batch_size=len(source))
  for _, batch in zip(range(2), stream, strict=False):
    assert sorted(batch['index']) == list(range(len(source)))
    for view in batch.get('views', ()):
      assert view.shape == (len(source), 24, 24, 3)
  stream.close()


@contextlib.contextmanager
def nobody():
  """A folder for a user without rights, which the test becomes, if it is root, while it runs."""
  root = tempfile.mkdtemp()
  user = os.geteuid()
  try:
    os.chmod(root, 0o755)
    yield root
  finally:
    os.seteuid(user)
    shutil.rmtree(root)


def test_what_may_not_be_read_is_reported(caplog):
  with nobody() as root:
    for part in ('train/open', 'train/locked', 'test'):
      fill(pathlib.Path(root, part), {}, good=3)
    secret = pathlib.Path(root, 'train/open/secret.png')
    shutil.copy(pathlib.Path(root, 'test/good0.png'), secret)
    encoded.decode(secret.read_bytes())  # Pillow's modules are imported as long as they can be.
    os.chmod(secret, 0)
    os.chmod(pathlib.Path(root, 'train/locked'), 0)
    if os.geteuid() == 0:
      os.seteuid(65534)
    source = data.load('folder', None, root, 'train', size=8)
    assert source.skipped == (('train/open/secret.png', 'Permission denied'),) and len(source) == 3
    assert 'train/locked is left out, as it cannot be listed: Permission denied' in caplog.text


def test_the_smallest_folders(tmp_path):
  with pytest.raises(ValueError, match='holds no image'):
    data.load('folder', None, str(tmp_path), 'train', size=8)
  fill(tmp_path / 'many', {}, good=5)
  fill(tmp_path / 'one', {}, good=1)
  train, test = (data.load('folder', None, str(tmp_path), split, size=8) for split in ('train', 'test'))
  assert np.bincount(train.labels).tolist() == [4, 1] and test.labels.tolist() == [0]
  for i in range(4):
    (tmp_path / 'many' / f'good{i}.png').unlink()
  with pytest.raises(ValueError, match="too few images: none is left for the split 'test'"):
    data.load('folder', None, str(tmp_path), 'test', size=8)


def test_links_that_go_round_end_and_list_an_image_once(tmp_path):
  fill(tmp_path / 'a', {}, good=5)
  (tmp_path / 'a' / 'up').symlink_to(tmp_path, target_is_directory=True)
  (tmp_path / 'b').symlink_to(tmp_path / 'a', target_is_directory=True)
  train, test = (data.load('folder', None, str(tmp_path), split, size=8) for split in ('train', 'test'))
  assert sorted(train.files + test.files) == [f'a/good{i}.png' for i in range(5)]
