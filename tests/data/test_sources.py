"""Folders, .npz files and TFDS: what they hold, how they are split, and what happens when they are wrong."""

import collections
import io
import os

import numpy as np
import pytest
from PIL import Image

from jaxssl import data
from jaxssl.data import _source, encoded


def picture(seed, height=20, width=30):
  """A smooth image, so that JPEG keeps it."""
  corners = np.random.default_rng(seed).integers(0, 256, (3, 3, 3)).astype(np.uint8)
  return Image.fromarray(corners).resize((width, height), Image.Resampling.BICUBIC)


def write(path, seed=0, **size):
  path.parent.mkdir(parents=True, exist_ok=True)
  picture(seed, **size).save(path)


def content(image, form, **options):
  file = io.BytesIO()
  image.save(file, form, **options)
  return file.getvalue()


# Arguments.


@pytest.mark.parametrize(
  'arguments, message',
  [
    (('bundeld', 'omniglot', None, 'train'), "source='bundeld' is unknown; did you mean 'bundled'"),
    (('bundled', 'omniglot', None, 'training'), "split='training' is unknown; did you mean 'train'"),
    (('folder', None, None, 'train'), "path=None: source='folder'"),
    (('npz', None, '', 'train'), "path=None: source='npz'"),
    (('tfds', None, None, 'train'), "name=None: source='tfds'"),
    (('bundled', 'omniglot', None, 'train', 0), 'size=0'),
  ],
)
def test_wrong_arguments(arguments, message):
  with pytest.raises(ValueError, match=message):
    data.load(*arguments)


def test_hold_out_is_stratified_and_fixed():
  labels = np.repeat(np.arange(4), (50, 10, 2, 1))
  test = _source.hold_out(len(labels), labels)
  assert np.bincount(labels[test], minlength=4).tolist() == [10, 2, 1, 0]
  np.testing.assert_array_equal(test, _source.hold_out(len(labels), labels))
  assert _source.hold_out(100, None).sum() == 20


# .npz files.


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


# Decoding.


def test_decode_turns_by_exif():
  image = picture(0)
  exif = Image.Exif()
  exif[0x0112] = 6  # To be turned clockwise.
  turned = content(image, 'PNG', exif=exif)
  np.testing.assert_array_equal(encoded.decode(turned), np.rot90(np.asarray(image), -1))
  assert not encoded.is_plain(turned) and encoded.is_plain(content(image, 'JPEG'))


def test_decode_other_modes():
  image, grey = picture(1), picture(1).convert('L')
  white = np.full((20, 30, 3), 255)
  rgba = image.copy()
  rgba.putalpha(0)
  palette = image.convert('P', palette=Image.Palette.ADAPTIVE)
  cases = [
    (grey, 'PNG', grey.convert('RGB'), 0),
    (palette, 'PNG', palette.convert('RGB'), 0),
    (image.convert('CMYK'), 'JPEG', image, 12),
    (rgba, 'PNG', white, 0),
    (rgba, 'WEBP', white, 0),
    (Image.fromarray(np.asarray(grey).astype(np.uint16) * 257), 'PNG', grey.convert('RGB'), 0),
    (Image.fromarray(np.asarray(grey) > 128), 'PNG', np.repeat((np.asarray(grey) > 128)[..., None] * 255, 3, -1), 0),
    (image, 'BMP', image, 0),
  ]
  for given, form, expected, tolerance in cases:
    pixels = encoded.decode(content(given, form))
    assert pixels.dtype == np.uint8 and pixels.shape == (20, 30, 3)
    np.testing.assert_allclose(pixels.astype(int), np.asarray(expected).astype(int), atol=tolerance)


def test_decode_palette_with_a_transparent_colour():
  image = Image.fromarray(np.array([[0, 1]], np.uint8), 'P')
  image.putpalette([10, 20, 30, 40, 50, 60])
  pixels = encoded.decode(content(image, 'PNG', transparency=0))
  assert pixels.tolist() == [[[255, 255, 255], [40, 50, 60]]]


def test_decode_to_a_square_takes_the_centre():
  image = picture(2, 40, 80)
  expected = np.asarray(image.resize((20, 10), Image.Resampling.BICUBIC))[:, 5:15]
  np.testing.assert_array_equal(encoded.decode(content(image, 'PNG'), size=10), expected)
  wide = content(picture(2, 304, 912), 'JPEG', quality=95)  # Large enough to be decoded at a fraction of its size.
  with Image.open(io.BytesIO(wide)) as image:
    expected = image.resize((48, 16), Image.Resampling.BICUBIC).crop((16, 0, 32, 16))
  difference = encoded.decode(wide, size=16).astype(int) - np.asarray(expected).astype(int)
  assert abs(difference).mean() < 1
  assert encoded.decode(wide, channels=1, size=16).shape == (16, 16, 1)


# Folders.


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
  assert "of the 9 images of the split 'train', 3 are left out" in caplog.text
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


# TFDS.


@pytest.fixture(scope='module')
def prepared(tmp_path_factory):
  """Small TFDS data sets in a directory: {name: (images, labels) by split}."""
  tfds = pytest.importorskip('tensorflow_datasets')
  tf = pytest.importorskip('tensorflow')
  root, made = tmp_path_factory.mktemp('tfds'), {}

  def prepare(name, splits, shape, file_format='tfrecord'):
    made[name] = {}
    datasets = {}
    for i, (split, labels) in enumerate(splits.items()):
      pixels = [np.asarray(picture(100 * i + j, height=shape[0] or 20 + j, width=24)) for j in range(len(labels))]
      made[name][split] = pixels, labels
      examples = [{'image': image, 'label': label} for image, label in zip(pixels, labels, strict=True)]
      signature = {'image': tf.TensorSpec(shape, tf.uint8), 'label': tf.TensorSpec((), tf.int64)}
      datasets[split] = tf.data.Dataset.from_generator(lambda examples=examples: examples, output_signature=signature)
    features = tfds.features.FeaturesDict({
      'label': tfds.features.ClassLabel(names=['x', 'y']),
      'image': tfds.features.Image(shape=shape, encoding_format='png'),
    })
    options = {'name': name, 'version': '1.0.0', 'data_dir': str(root), 'file_format': file_format}
    tfds.dataset_builders.TfDataBuilder(split_datasets=datasets, features=features, **options).download_and_prepare()

  half = [0, 1] * 5
  prepare('fixed', {'train': half, 'test': [0, 1, 1]}, (20, 24, 3))
  prepare('varied', {'train': half, 'validation': [1, 0], 'test': [-1, -1, -1]}, (None, 24, 3))
  prepare('records', {'train': half, 'unlabelled': [-1] * 4, 'test': [1, 0]}, (None, 24, 3), 'array_record')
  prepare('alone', {'train': half}, (20, 24, 3))
  return str(root), made


def as_bytes(pixels):
  return collections.Counter(np.asarray(image).tobytes() for image in pixels)


def test_tfds_images_of_one_size(prepared):
  root, made = prepared
  train, test = (data.load('tfds', 'fixed', root, split) for split in ('train', 'test'))
  assert train.inputs.shape == (10, 20, 24, 3) and train.inputs.dtype == np.uint8 and train.class_names == ('x', 'y')
  known = {image.tobytes(): label for image, label in zip(*made['fixed']['train'], strict=True)}
  assert [known[image.tobytes()] for image in train.inputs] == train.labels.tolist()
  assert as_bytes(test.inputs) == as_bytes(made['fixed']['test'][0])
  np.testing.assert_array_equal(train.inputs, data.load('tfds', 'fixed', root, 'pretrain').inputs)


def test_tfds_images_of_many_sizes(prepared):
  root, made = prepared
  lazy, fixed = (data.load('tfds', 'varied', root, 'train', size=size) for size in (None, 8))
  assert fixed.inputs.shape == (10, 8, 8, 3)
  assert as_bytes(lazy.inputs.original(i) for i in range(10)) == as_bytes(made['varied']['train'][0])
  for i in range(10):
    np.testing.assert_array_equal(fixed.inputs[i], encoded.decode(lazy.inputs.content(i), 3, 8))


def test_tfds_test_split_falls_back_to_validation(prepared):
  root, made = prepared
  source = data.load('tfds', 'varied', root, 'test')
  assert as_bytes(source.inputs.original(i) for i in range(2)) == as_bytes(made['varied']['validation'][0])
  assert sorted(source.labels) == [0, 1]


def test_tfds_without_a_test_split_holds_out_a_fifth(prepared):
  root, made = prepared
  pretrain, train, test = (data.load('tfds', 'alone', root, split) for split in data.SPLITS)
  assert (len(pretrain), len(train)) == (8, 8) and sorted(test.labels) == [0, 1]
  assert as_bytes([*train.inputs, *test.inputs]) == as_bytes(made['alone']['train'][0])


def test_tfds_unlabelled_images_are_for_pretraining(prepared):
  root, made = prepared
  pretrain, train = (data.load('tfds', 'records', root, split) for split in ('pretrain', 'train'))
  assert pretrain.labels is None and len(pretrain) == 14 and len(train) == 10
  both = made['records']['train'][0] + made['records']['unlabelled'][0]
  assert as_bytes(pretrain.inputs.original(i) for i in range(14)) == as_bytes(both)


def test_tfds_beyond_the_memory_streams_records(prepared, monkeypatch):
  root, made = prepared
  held = data.load('tfds', 'records', root, 'train', size=8)
  monkeypatch.setattr(encoded, 'MEMORY', 100)
  source = data.load('tfds', 'records', root, 'train', size=8)
  assert isinstance(source.inputs, encoded.EncodedImages)
  np.testing.assert_array_equal(source.inputs[:], held.inputs)
  np.testing.assert_array_equal(source.labels, held.labels)
  with pytest.raises(ValueError, match=r"varied.*array_record"):
    data.load('tfds', 'varied', root, 'train')


def test_tfds_wrong_name():
  pytest.importorskip('tensorflow_datasets')
  with pytest.raises(ValueError, match="name='cifar01' is unknown; did you mean 'cifar10'"):
    data.load('tfds', 'cifar01', None, 'train')


def test_tfds_not_prepared_and_no_network(tmp_path, monkeypatch):
  tfds = pytest.importorskip('tensorflow_datasets')

  def fail(self, **kwargs):
    raise ConnectionError('no route')

  monkeypatch.setattr(tfds.core.DatasetBuilder, 'download_and_prepare', fail)
  with pytest.raises(FileNotFoundError, match="name='cifar10' is not prepared in .*ConnectionError: no route"):
    data.load('tfds', 'cifar10', str(tmp_path), 'train')


def test_tfds_missing_names_the_extra(monkeypatch):
  pytest.importorskip('tensorflow')
  monkeypatch.setitem(__import__('sys').modules, 'tensorflow_datasets', None)
  with pytest.raises(ImportError, match=r'jaxssl\[data\]'):
    data.load('tfds', 'cifar10', None, 'train')


@pytest.mark.parametrize('name, shape, n', [('cifar10', (32, 32, 3), 10000), ('fashion_mnist', (28, 28, 1), 10000)])
def test_tfds_prepared_data_sets(name, shape, n):
  root = os.environ.get('TFDS_DATA_DIR', os.path.expanduser('~/tensorflow_datasets'))
  if not os.path.isdir(os.path.join(root, name)):
    pytest.skip(f'{name} is not prepared in {root}')
  source = data.load('tfds', name, None, 'test')
  assert source.inputs.shape == (n, *shape) and np.bincount(source.labels).tolist() == [1000] * 10
