"""Images and labels from an .npz file."""

import math
import pathlib
from typing import IO

import numpy as np

from jaxssl.data._source import Source, reason, require_memory, split_off

LAYOUT = (
  "an .npz file holds 'images' (a fifth is held out for testing), or 'train_images' and, where there is one, "
  "'test_images'; optionally 'labels', or 'train_labels' and 'test_labels'"
)

LABELS = ('labels', 'train_labels', 'test_labels')


def load(name: str | None, path: str | None, split: str, size: int | None = None) -> Source:
  """One split of an .npz file, in memory; `name` and `size` are not read.

  Images are uint8, or float in [0, 1] (rounded to 255 steps); [n, h, w, c] with 1 or 3 channels, or [n, h, w], grey.
  Labels are integers [n] from 0, gaps allowed; a class's name is its integer. Pickled objects are refused.
  """
  del name, size
  if path is None:
    raise ValueError(f"path={path!r}: source='npz' needs the path of a file; {LAYOUT}")
  with open_npz(path, LAYOUT) as opened:
    part, whole = prefix(path, split, tuple(opened.files), 'images', LAYOUT)
    images = _images(path, f'{part}images', read(path, opened, f'{part}images'))
    known, names = read_labels(path, opened, part)
  if known is not None and len(known) != len(images):
    raise ValueError(f'path={path!r}: {len(images)} {part}images but {len(known)} {part}labels')
  if not whole:
    keep = split_off(split, len(images), known)
    images, known = images[keep], None if known is None else known[keep]
  return Source(pathlib.Path(path).stem, images, known, names)


def open_npz(path: str, layout: str) -> np.lib.npyio.NpzFile:
  """Opens an .npz file without pickled objects; `layout`, for the error, says what it should hold."""
  if pathlib.Path(path).is_dir():
    raise ValueError(f"path={path!r} is a folder, and source='npz' reads a file; did you mean source='folder'?")
  if not pathlib.Path(path).is_file():
    raise FileNotFoundError(f'path={path!r}: there is no such file')
  with open(path, 'rb') as file:
    if file.read(6) == np.lib.format.MAGIC_PREFIX:  # Not to be read whole, to find what it is.
      raise ValueError(f'path={path!r} is a single array, not an .npz file; {layout}')
  try:
    opened = np.load(path, allow_pickle=False)
  except PermissionError as error:
    raise ValueError(f'path={path!r} cannot be read: {reason(error)}') from error
  except Exception as error:  # Broken archives make zipfile raise errors of many kinds.
    raise ValueError(f'path={path!r} is not an .npz file; {layout}') from error
  twice = [key for i, key in enumerate(opened.files) if key in opened.files[:i]]
  if twice:
    opened.close()
    raise ValueError(f'path={path!r} holds {twice[0]!r} twice')
  return opened


def prefix(path: str, split: str, keys: tuple[str, ...], data: str, layout: str) -> tuple[str, bool]:
  """The prefix of the keys to read, `data` among them, and whether all of their examples belong to the split."""
  train, test = f'train_{data}', f'test_{data}'
  if train in keys and data not in keys:
    if split == 'test' and test in keys:
      return 'test_', True
    return 'train_', test in keys
  if data in keys and train not in keys and test not in keys:
    return '', False
  paired = "; paired views take the recipe 'paired', as in configs/cmc_views.py" if 'view_0' in ''.join(keys) else ''
  raise ValueError(f'path={path!r} holds {", ".join(map(repr, keys)) or "nothing"}; {layout}{paired}')


def read(path: str, opened: np.lib.npyio.NpzFile, key: str) -> np.ndarray:
  """One array of the file; raises ValueError where it is broken, pickled, or larger than the memory."""
  archive = opened.zip
  assert archive is not None  # Open.
  try:
    name = key if key in archive.namelist() else f'{key}.npy'
    size = archive.getinfo(name).file_size
    require_memory(size)
    with archive.open(name) as member:
      _check_size(member, size)
    return opened[key]
  except Exception as error:  # Broken archives make zipfile and its decompressors raise errors of many kinds.
    raise ValueError(f'path={path!r}: {key!r} cannot be read: {reason(error)} (pickled objects are refused)') from error


def _check_size(member: IO[bytes], size: int) -> None:
  """Raises ValueError unless the header of an array says that it takes what the member of `size` bytes has left."""
  version = np.lib.format.read_magic(member)
  if version == (1, 0):
    shape, _, dtype = np.lib.format.read_array_header_1_0(member)
  elif version == (2, 0):
    shape, _, dtype = np.lib.format.read_array_header_2_0(member)
  else:  # Arrays of named fields, which nothing here reads.
    raise ValueError(f'it is written in version {version} of the format')
  left = size - member.tell()
  if not dtype.hasobject and math.prod(shape) * dtype.itemsize != left:
    raise ValueError(f'it says that its shape is {shape}, of {dtype}, but there are {left} bytes')


def read_labels(path: str, opened: np.lib.npyio.NpzFile, part: str) -> tuple[np.ndarray | None, tuple[str, ...]]:
  """The labels of a part of the file, int64 [n] from 0, and the names of all classes; None and none without any."""
  every = {key: raw_labels(path, opened, key) for key in opened.files if key in LABELS}
  if f'{part}labels' not in every:
    return None, ()
  values = np.unique(np.concatenate(list(every.values())))
  return np.searchsorted(values, every[f'{part}labels']), tuple(map(str, values))


def _images(path: str, key: str, images: np.ndarray) -> np.ndarray:
  if images.ndim == 3:
    images = images[..., None]
  if images.ndim != 4 or images.shape[-1] not in (1, 3) or not images.size:
    raise ValueError(
      f'path={path!r}: {key!r} has shape {images.shape}; images are [n, h, w, c], 1 or 3 channels last, or [n, h, w]'
    )
  if np.issubdtype(images.dtype, np.floating):
    low, high = float(images.min()), float(images.max())
    if not (low >= 0 and high <= 1):
      raise ValueError(f'path={path!r}: {key!r} is {images.dtype} in [{low}, {high}]; float images are in [0, 1]')
    images = np.round(images * 255).astype(np.uint8)
  if images.dtype != np.uint8:
    raise ValueError(f'path={path!r}: {key!r} is {images.dtype}; images are uint8, or float in [0, 1]')
  return images


def raw_labels(path: str, opened: np.lib.npyio.NpzFile, key: str) -> np.ndarray:
  """int64 [n]: the labels under `key`, as they are stored."""
  labels = read(path, opened, key)
  of_integers = labels.dtype.kind in 'iu' and labels.ndim == 1  # To NumPy a time is an integer, too.
  if not of_integers or labels.min(initial=0) < 0 or labels.max(initial=0) >= 2**63:
    found = f'{labels.dtype} of shape {labels.shape}'
    raise ValueError(f'path={path!r}: {key!r} is {found}; labels are integers [n] from 0')
  return labels.astype(np.int64)
