"""Examples of several views: arrays of an .npz file side by side, or folders of images under the same names."""

import pathlib

import numpy as np

from jaxssl.data import arrays, folder
from jaxssl.data._source import Source, Views, legible, split_off

LARGEST = 1e15  # Its square is still a float32.
LAYOUT = (
  "an .npz file of paired views holds 'view_0', 'view_1', … [n, ...] (a fifth is held out for testing), or "
  "'train_view_0', … and, where there is one, 'test_view_0', …; view_0 alone will do for methods of single "
  "inputs; optionally 'labels', or 'train_labels' and 'test_labels'"
)


def load_npz(name: str | None, path: str | None, split: str, size: int | None = None) -> Source:
  """One split of an .npz file whose arrays view_0, view_1, … hold the views of the same examples, row by row.

  An array [n, h, w, c] is images, uint8 or float in [0, 1]; uint8 [n, h, w] is grey images; anything else is vectors,
  waveforms, … [n, ...], read as float32, of int16 scaled to [-1, 1). `view_0` may stand alone, for methods that need no
  second view. `name` and `size` are not read. Pickled objects are refused.
  """
  del name, size
  if path is None:
    raise ValueError(f"path={path!r}: source='npz' needs the path of a file; {LAYOUT}")
  with arrays.open_npz(path, LAYOUT) as opened:
    part, whole = arrays.prefix(path, split, tuple(opened.files), 'view_0', LAYOUT)
    keys = _keys(path, tuple(opened.files), part)
    views = [_view(path, key, arrays.read(path, opened, key)) for key in keys]
    labels, names = arrays.read_labels(path, opened, part)
  lengths = {key: len(view) for key, view in zip(keys, views, strict=True)}
  if labels is not None:
    lengths[f'{part}labels'] = len(labels)
  if len(set(lengths.values())) > 1:
    found = ', '.join(f'{key!r} has {length}' for key, length in lengths.items())
    raise ValueError(f'path={path!r}: all views need the same examples, but {found}')
  if not whole:
    keep = split_off(split, len(views[0]), labels)
    views, labels = [view[keep] for view in views], None if labels is None else labels[keep]
  return Source(pathlib.Path(path).stem, Views(tuple(views)), labels, names)


def load_folder(name: str | None, path: str | None, split: str, size: int | None = None) -> Source:
  """One split of a folder whose subfolders view_0, view_1, … hold images under the same paths (but for the extension).

  Within view_0 classes and splits are as in a folder of images. Examples that are not in every view are left out, and
  reported. `name` is not read.
  """
  root = folder.root_of(path)
  folders: list[pathlib.Path] = []
  while (root / f'view_{len(folders)}').is_dir():
    folders.append(root / f'view_{len(folders)}')
  if len(folders) < 2:
    raise ValueError(f"path={path!r}: paired views are two or more folders 'view_0', 'view_1', …; found {len(folders)}")
  for each in folders:
    _refuse_twins(each)
  files, labels, names = folder.find(folders[0], split, folder.EXTENSIONS, 'image', links=True)
  others = [{_stem(file): file for file in folder.list_files(each, folder.EXTENSIONS, True)} for each in folders[1:]]
  kept = [i for i, file in enumerate(files) if all(_stem(file) in other for other in others)]
  if not kept:
    raise ValueError(f'path={path!r}: no image has the same path in every view; view_0 holds {files[0]!r}, view_1 '
                     f'{next(iter(others[0].values()), None)!r}')
  chosen = [[files[i] for i in kept], *([other[_stem(files[i])] for i in kept] for other in others)]
  labels = None if labels is None else labels[kept]
  read = zip(folders, chosen, strict=True)
  known = [_stem(file) for file in files]
  return _joined(root, split, known, [folder.read(*each, labels, names, size, split) for each in read])


def _refuse_twins(view: pathlib.Path) -> None:
  """Raises ValueError where two images of a view differ in their extension alone: which of them is the example?"""
  seen: dict[str, str] = {}
  for file in folder.list_files(view, folder.EXTENSIONS, True):
    if (other := seen.setdefault(_stem(file), file)) != file:
      raise ValueError(f'path={str(view)!r} holds {other!r} and {file!r}: an example has one image in each view')


def _joined(root: pathlib.Path, split: str, known: list[str], sources: list[Source]) -> Source:
  """The examples that every view has, of those `known` from the first."""
  places = [{_stem(file): i for i, file in enumerate(source.files or ())} for source in sources]
  common = [stem for stem in places[0] if all(stem in place for place in places)]
  if left_out := sorted(set(known) - set(common)):
    some = ', '.join(map(legible, left_out[:3])) + (', …' if len(left_out) > 3 else '')
    folder.warn_once(f'{root}: {len(left_out)} of the {len(known)} examples of the split {folder.shown(split)!r} left '
                     f'out, as not every view has them: {some}')
  if not common:
    raise ValueError(f'path={str(root)!r}: no example can be read in every view')
  rows = [np.array([place[stem] for stem in common]) for place in places]
  first, skipped = sources[0], sum((source.skipped for source in sources), ())
  return Source(
    root.resolve().name, Views(tuple(folder.take(each.inputs, row) for each, row in zip(sources, rows, strict=True))),
    None if first.labels is None else first.labels[rows[0]], first.class_names, tuple(common), skipped)


def _keys(path: str, keys: tuple[str, ...], part: str) -> list[str]:
  found: list[str] = []
  while f'{part}view_{len(found)}' in keys:
    found.append(f'{part}view_{len(found)}')
  beyond = [key for key in keys if key.startswith(f'{part}view_') and key not in found]
  if beyond and found:
    raise ValueError(
      f'path={path!r} holds {beyond[0]!r} but no {f"{part}view_{len(found)}"!r}: views are numbered from 0')
  return found


def _view(path: str, key: str, view: np.ndarray) -> np.ndarray:
  if view.ndim < 2 or not view.size or view.dtype.kind not in 'biuf':
    raise ValueError(f'path={path!r}: {key!r} is {view.dtype} of shape {view.shape}; views are real numbers '
                     '[n, ...], of two axes or more')
  if view.ndim == 4 and view.shape[1] <= 4 < view.shape[3]:
    raise ValueError(f'path={path!r}: {key!r} has shape {view.shape}; images are [n, h, w, c], channels last')
  if view.dtype == np.uint8 and view.ndim in (3, 4):
    return view[..., None] if view.ndim == 3 else view
  low, high = float(view.min()), float(view.max())
  if not np.isfinite([low, high]).all() or max(-low, high) > LARGEST:
    raise ValueError(f'path={path!r}: {key!r} holds numbers that are not finite, or beyond {LARGEST:g}')
  view = view.astype(np.float32) / (32768 if view.dtype == np.int16 else 1)
  if view.ndim == 4 and not (low >= 0 and high <= 1):
    raise ValueError(
      f'path={path!r}: {key!r} lies in [{low}, {high}]; images [n, h, w, c] are uint8, or float in [0, 1]')
  return view


def _stem(file: str) -> str:
  return str(pathlib.PurePosixPath(file).with_suffix(''))
