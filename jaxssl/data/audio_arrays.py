"""Waveforms, labels and speakers from an .npz file."""

import pathlib

import numpy as np

from jaxssl.data import arrays, audio
from jaxssl.data._source import Source, split_off

LAYOUT = (
  "an .npz file of audio holds 'rate' in Hz and 'audio' [total] with 'offsets' [n + 1], clip i being "
  "audio[offsets[i]:offsets[i + 1]] (a fifth is held out for testing), or 'train_audio', 'train_offsets' and, where "
  "there is a test part, 'test_audio', 'test_offsets'; optionally 'labels' and 'speakers' [n], with the same prefixes"
)


def load(name: str | None, path: str | None, split: str, rate: int) -> Source:
  """One split of an .npz file, in memory; `name` is not read, nor are keys that are not named here.

  `audio` is int16, or float in [-1, 1]; `rate` a whole number, from which clips are resampled where it is not the one
  asked for; `labels` integers [n] from 0, gaps allowed; `speakers` strings or integers [n], which become the groups.
  Pickled objects are refused.
  """
  del name
  if path is None:
    raise ValueError(f"path={path!r}: source='npz' needs the path of a file; {LAYOUT}")
  with arrays.open_npz(path, LAYOUT) as opened:
    part, whole = arrays.prefix(path, split, tuple(opened.files), 'audio', LAYOUT)
    clips = _clips(path, opened, part, rate)
    labels, class_names = _numbered(path, opened, part, 'labels', len(clips))
    groups, group_names = _numbered(path, opened, part, 'speakers', len(clips))
  name = pathlib.Path(path).stem
  if whole:
    return Source(name, clips, labels, class_names, groups=groups, group_names=group_names)
  keep = split_off(split, len(clips), groups if labels is None else labels)
  labels, groups = (None if values is None else values[keep] for values in (labels, groups))
  return Source(name, clips.take(keep), labels, class_names, groups=groups, group_names=group_names)


def _clips(path: str, opened: np.lib.npyio.NpzFile, part: str, rate: int) -> audio.Clips:
  waves = _audio(path, f'{part}audio', arrays.read(path, opened, f'{part}audio'))
  offsets = _offsets(path, opened, f'{part}offsets', len(waves))
  stored = _rate(path, opened, part)
  clips = audio.in_memory(waves, offsets, stored)
  if stored == rate:
    return clips
  try:
    return audio.joined([audio.resample(clips.wave(i), stored, rate) for i in range(len(clips))], rate)
  except ValueError as error:
    raise ValueError(f'path={path!r}: {error}') from error


def _audio(path: str, key: str, waves: np.ndarray) -> np.ndarray:
  if waves.ndim != 1 or not waves.size:
    raise ValueError(f'path={path!r}: {key!r} has shape {waves.shape}; audio is [total], clips one after another, mono')
  if waves.dtype == np.int16:
    return waves
  if not np.issubdtype(waves.dtype, np.floating):
    raise ValueError(f'path={path!r}: {key!r} is {waves.dtype}; audio is int16, or float in [-1, 1]')
  low, high = float(waves.min()), float(waves.max())
  if not (low >= -1 and high <= 1):
    raise ValueError(f'path={path!r}: {key!r} is {waves.dtype} in [{low}, {high}]; float audio is in [-1, 1]')
  return waves.astype(np.float32)


def _offsets(path: str, opened: np.lib.npyio.NpzFile, key: str, total: int) -> np.ndarray:
  offsets = arrays.read(path, opened, key) if key in opened.files else np.zeros(0)
  if offsets.dtype.kind not in 'iu' or offsets.ndim != 1 or len(offsets) < 2:
    found = f'{offsets.dtype} of shape {offsets.shape}' if key in opened.files else 'missing'
    raise ValueError(f'path={path!r}: {key!r} is {found}; offsets are integers [n + 1]; {LAYOUT}')
  offsets = offsets.astype(np.int64)
  falls = np.flatnonzero(np.diff(offsets) < 0)
  if len(falls):
    i = falls[0]
    raise ValueError(f'path={path!r}: {key!r} falls from {offsets[i]} to {offsets[i + 1]} at clip {i}; offsets rise')
  if offsets[0] != 0 or offsets[-1] != total:
    raise ValueError(
      f'path={path!r}: {key!r} goes from {offsets[0]} to {offsets[-1]}; offsets rise from 0 to the {total} samples')
  empty = np.flatnonzero(np.diff(offsets) == 0)
  if len(empty):
    raise ValueError(f'path={path!r}: {key!r} makes {len(empty)} empty clips, the first of them clip {empty[0]}')
  return offsets


def _rate(path: str, opened: np.lib.npyio.NpzFile, part: str) -> int:
  key = f'{part}rate' if f'{part}rate' in opened.files else 'rate'
  if key not in opened.files:
    raise ValueError(f"path={path!r}: 'rate' is missing; {LAYOUT}")
  rate = arrays.read(path, opened, key)
  number = rate.dtype.kind in 'iuf' and rate.size == 1 and np.isfinite(rate.item())
  if not number or rate.item() < 1 or rate.item() != int(rate.item()):
    found = rate if rate.size == 1 else f'of shape {rate.shape}'
    raise ValueError(f'path={path!r}: {key!r} is {found}; a rate is a whole number of samples a second')
  return int(rate.item())


def _numbered(
  path: str, opened: np.lib.npyio.NpzFile, part: str, name: str, n: int
) -> tuple[np.ndarray | None, tuple[str, ...]]:
  """Values [n] as numbers from 0 and what each number stands for; numbers are the same in every split of the file."""
  keys = [key for key in (name, f'train_{name}', f'test_{name}') if key in opened.files]
  read_values = arrays.raw_labels if name == 'labels' else _speakers
  read = {key: read_values(path, opened, key) for key in keys}
  values = read.get(f'{part}{name}')
  if values is None:
    return None, ()
  if len(values) != n:
    raise ValueError(f'path={path!r}: {n} clips but {len(values)} {part}{name}')
  names = np.unique(np.concatenate(list(read.values())))
  return np.searchsorted(names, values).astype(np.int64), tuple(map(str, names))


def _speakers(path: str, opened: np.lib.npyio.NpzFile, key: str) -> np.ndarray:
  speakers = arrays.read(path, opened, key)
  if speakers.ndim != 1 or speakers.dtype.kind not in 'Uiu':
    found = f'{speakers.dtype} of shape {speakers.shape}'
    raise ValueError(f'path={path!r}: {key!r} is {found}; speakers are strings or integers [n]')
  return speakers
