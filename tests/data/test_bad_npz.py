"""Archives that are damaged, lie or hide something, by every loader that reads .npz files: refused, in one line."""

import functools
import io
import os
import resource
import sys
import zipfile

import numpy as np
import pytest

sys.path.insert(0, os.path.dirname(__file__))
import bad_files

from jaxssl import data

IMAGES = np.random.default_rng(0).integers(0, 256, (10, 6, 6, 3), np.uint8)
AUDIO = np.random.default_rng(0).integers(-9999, 9999, 4000).astype(np.int16)
OFFSETS = np.arange(0, 4001, 400)

# What the arrays are called, an archive that is as it should be, and the loader.
KINDS = {
  'images': ('images', {'images': IMAGES}, data.load),
  'paired': ('view_0', {'view_0': IMAGES, 'view_1': IMAGES}, data.load_paired),
  'audio': ('audio', {'audio': AUDIO, 'offsets': OFFSETS, 'rate': np.array(8000)},
            functools.partial(data.load_audio, rate=8000)),
}


class Trap:
  """Writes a file when it is unpickled."""

  def __init__(self, path):
    self.path = path

  def __reduce__(self):
    return open, (self.path, 'w')


def members(arrays):
  def npy(array):
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()

  return [(f'{name}.npy', npy(array)) for name, array in arrays.items()]


def flip(content, place):
  return content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :]


def broken(key, arrays, trap):
  """Name -> (the bytes of an archive, a word of the message)."""
  whole, others = bad_files.npz(**arrays), [each for each in members(arrays) if each[0] != f'{key}.npy']
  first = dict(members(arrays))[f'{key}.npy']
  dense = bad_files.compressed(**arrays)
  with zipfile.ZipFile(io.BytesIO(whole)) as opened:
    data_starts = whole.index(first) if first in whole else 0
    assert opened.namelist()[0] == f'{key}.npy' and data_starts
  refused = 'pickled objects are refused'
  return {
    'empty': (b'', 'is not an .npz file'),
    'text': (b'no archive', 'is not an .npz file'),
    'truncated': (whole[: len(whole) // 2], 'is not an .npz file'),
    'truncated at its head': (whole[100:], 'is not an .npz file|cannot be read'),
    'a wrong sum of the samples': (flip(whole, data_starts + len(first) - 3), 'Bad CRC-32'),
    'a wrong bit of what is compressed': (flip(dense, len(dense) // 3), 'cannot be read'),
    'pickled': (bad_files.npz(**arrays | {key: np.array([Trap(trap), None], object)}), refused),
    'twice': (bad_files.archive([*members(arrays), (f'{key}.npy', first)]), f"holds '{key}' twice"),
    'twice, once without its suffix': (bad_files.archive([*members(arrays), (key, first)]), f"holds '{key}' twice"),
    'another place': (bad_files.archive([(f'../../{key}.npy', first), *others]), "holds '../../"),
    'no array': (bad_files.archive([(f'{key}.npy', b'text'), *others]), 'cannot be read'),
    'an array without an end': (bad_files.archive([(f'{key}.npy', first[:-50]), *others]), 'it says that its shape is'),
    'an array that goes on': (bad_files.archive([(f'{key}.npy', first + b'more'), *others]), 'it says that its shape'),
    'a bomb in the header of an array': (
      bad_files.archive([(f'{key}.npy', bad_files.npy((10**12, 6, 6, 3))), *others]), r'shape is \(1000000000000, 6'),
    'a size that is not there': (
      bad_files.with_declared_size(bad_files.archive([*others, (f'{key}.npy', first)]), 10**9), r'are \d{9} bytes'),
    'a negative shape': (bad_files.archive([(f'{key}.npy', bad_files.npy((-3,), content=b'abc')), *others]),
                         'cannot be read|has shape|needs|are'),
    'a shape of names': (bad_files.archive([(f'{key}.npy', bad_files.npy("('a',)")), *others]), 'cannot be read'),
    'a header of code': (
      bad_files.archive([(f'{key}.npy', bad_files.npy(f'(open({trap!r}, "w"),)')), *others]), 'cannot be read'),
    'named fields': (bad_files.npz(**arrays | {key: np.zeros(10, [('a', 'u1'), ('b', 'f4')])}), key),
    'complex numbers': (bad_files.npz(**arrays | {key: np.zeros((10, 6, 6, 3), np.complex64)}), 'complex64|has shape'),
    'text in the array': (bad_files.npz(**arrays | {key: np.array(['a', 'b'])}), '<U1|has shape'),
    'a number': (bad_files.npz(**arrays | {key: np.array(3)}), r'shape \(\)'),
    'nothing': (bad_files.npz(**arrays | {key: np.zeros((0, 6, 6, 3), np.uint8)}), r'\(0, 6, 6, 3\)'),
    'NaN': (bad_files.npz(**arrays | {key: np.full(IMAGES.shape if key != 'audio' else 4000, np.nan, np.float32)}),
            r'\[nan, nan\]|not finite'),
    'an unknown compression': (_recoded(whole, 99), 'cannot be read'),
    'encrypted': (_encrypted(whole), 'cannot be read'),
  }


def _recoded(content, method):
  """The archive, whose first member says that it is compressed in another way."""
  content = bytearray(content)
  content[8], content[content.index(b'PK\x01\x02') + 10] = method, method
  return bytes(content)


def _encrypted(content):
  content = bytearray(content)
  for place in (6, content.index(b'PK\x01\x02') + 8):
    content[place] |= 1
  return bytes(content)


CASES = [(kind, case) for kind, (key, arrays, _) in KINDS.items() for case in broken(key, arrays, 'trap')]


@pytest.mark.parametrize('kind, case', CASES)
def test_a_broken_archive_is_refused_in_one_line(tmp_path, kind, case):
  key, arrays, load = KINDS[kind]
  trap, path = tmp_path / 'trap', tmp_path / 'set.npz'
  content, message = broken(key, arrays, str(trap))[case]
  path.write_bytes(content)
  before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
  with pytest.raises(ValueError, match=message) as error:
    load('npz', None, str(path), 'train')
  assert str(error.value).startswith(f'path={str(path)!r}') and '\n' not in str(error.value)
  assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 50_000  # KiB
  assert not trap.exists(), 'something was run'


@pytest.mark.parametrize('kind', KINDS)
def test_an_archive_that_unpacks_to_more_than_the_memory_is_refused(tmp_path, kind, monkeypatch):
  """As a bomb of zeros would be; the memory is made small, so that the archive need not be large."""
  key, arrays, load = KINDS[kind]
  zeros = {name: np.zeros((2000, 6, 6, 3), np.uint8) if name == key else array for name, array in arrays.items()}
  (tmp_path / 'set.npz').write_bytes(bad_files.compressed(**zeros))
  sysconf = os.sysconf
  monkeypatch.setattr(os, 'sysconf', lambda name: 1 if name == 'SC_PHYS_PAGES' else sysconf(name))
  with pytest.raises(ValueError, match=f"'{key}' cannot be read: takes 0.0 GiB, more than the 0.0 GiB of this machine"):
    load('npz', None, str(tmp_path / 'set.npz'), 'train')


@pytest.mark.parametrize('kind', KINDS)
def test_an_array_alone_is_not_read(tmp_path, kind):
  with open(tmp_path / 'set.npz', 'wb') as file:
    file.write(bad_files.npy((10**12,)))
    file.truncate(1 << 40)  # Takes no space on the disk.
  with pytest.raises(ValueError, match='is a single array, not an .npz file'):
    KINDS[kind][2]('npz', None, str(tmp_path / 'set.npz'), 'train')


@pytest.mark.parametrize('kind', KINDS)
def test_a_split_without_examples_is_refused(tmp_path, kind):
  """A fifth of nothing but classes of one."""
  key, arrays, load = KINDS[kind]
  (tmp_path / 'set.npz').write_bytes(bad_files.npz(**arrays, labels=np.arange(10)))
  assert len(load('npz', None, str(tmp_path / 'set.npz'), 'train')) == 10
  with pytest.raises(ValueError, match="set has too few examples: none is left for the split 'test'"):
    load('npz', None, str(tmp_path / 'set.npz'), 'test')


@pytest.mark.parametrize('labels', [np.arange(10, dtype=np.uint64) + 2**63, np.arange(10).astype('timedelta64[s]')])
def test_labels_that_are_no_64_bit_integers_are_refused(tmp_path, labels):
  (tmp_path / 'set.npz').write_bytes(bad_files.npz(images=IMAGES, labels=labels))
  with pytest.raises(ValueError, match=rf"'labels' is {labels.dtype.name[:6]}.* of shape .*labels are integers"):
    data.load('npz', None, str(tmp_path / 'set.npz'), 'train')


@pytest.mark.parametrize('rate, message', [
  (np.array(3j), "'rate' is 3j; a rate is a whole number"), (np.array(True), "'rate' is True"),
  (np.array(10**12), 'a rate of 1,000,000,000,000 Hz is too far from 8,000 Hz'),
  (np.array(1), 'a rate of 1 Hz is too far'), (np.array(-8000), "'rate' is -8000"),
])
def test_absurd_rates_are_refused(tmp_path, rate, message):
  (tmp_path / 'set.npz').write_bytes(bad_files.npz(audio=AUDIO, offsets=OFFSETS, rate=rate))
  with pytest.raises(ValueError, match=message):
    data.load_audio('npz', None, str(tmp_path / 'set.npz'), 'train', 8000)
