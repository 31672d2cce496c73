"""Images and labels from an .npz file."""

import pathlib
import zipfile
import zlib

import numpy as np

from jaxssl.data._source import Source, split_off

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
    raise ValueError(f"path=None: source='npz' needs the path of a file; {LAYOUT}")
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
  if not pathlib.Path(path).is_file():
    raise FileNotFoundError(f'path={path!r}: there is no such file')
  try:
    opened = np.load(path, allow_pickle=False)
  except (ValueError, EOFError, OSError, zipfile.BadZipFile) as error:
    raise ValueError(f'path={path!r} is not an .npz file; {layout}') from error
  if not isinstance(opened, np.lib.npyio.NpzFile):
    raise ValueError(f'path={path!r} is a single array, not an .npz file; {layout}')
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
  """One array of the file; raises ValueError where it is broken or pickled."""
  try:
    return opened[key]
  except (ValueError, EOFError, OSError, zipfile.BadZipFile, zlib.error) as error:
    raise ValueError(f'path={path!r}: {key!r} cannot be read: {error} (pickled objects are refused)') from error


def read_labels(path: str, opened: np.lib.npyio.NpzFile, part: str) -> tuple[np.ndarray | None, tuple[str, ...]]:
  """The labels of a part of the file, int64 [n] from 0, and the names of all classes; None and none without any."""
  every = {key: labels(path, opened, key) for key in opened.files if key in LABELS}
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


def labels(path: str, opened: np.lib.npyio.NpzFile, key: str) -> np.ndarray:
  """int64 [n]: the labels under `key`."""
  labels = read(path, opened, key)
  if not np.issubdtype(labels.dtype, np.integer) or labels.ndim != 1 or labels.min(initial=0) < 0:
    found = f'{labels.dtype} of shape {labels.shape}'
    raise ValueError(f'path={path!r}: {key!r} is {found}; labels are integers [n] from 0')
  return labels.astype(np.int64)
