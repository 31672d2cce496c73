"""Data sets by name: the bundled drawings, TFDS, a folder of images or recordings, an .npz file."""

from collections.abc import Callable

from jaxssl.data import _source, arrays, audio_arrays, audio_folder, audio_tfds, bundled, folder, paired, tfds_source
from jaxssl.data._source import SPLITS, Source

__all__ = ['AUDIO_SOURCES', 'PAIRED_SOURCES', 'SOURCES', 'SPLITS', 'Source', 'load', 'load_audio', 'load_paired']

SOURCES: dict[str, Callable[[str | None, str | None, str, int | None], Source]] = {
  'bundled': bundled.load,
  'tfds': tfds_source.load,
  'folder': folder.load,
  'npz': arrays.load,
}

PAIRED_SOURCES: dict[str, Callable[[str | None, str | None, str, int | None], Source]] = {
  'npz': paired.load_npz,
  'folder': paired.load_folder,
}

AUDIO_SOURCES: dict[str, Callable[[str | None, str | None, str, int], Source]] = {
  'tfds': audio_tfds.load,
  'folder': audio_folder.load,
  'npz': audio_arrays.load,
}


def load(source: str, name: str | None, path: str | None, split: str, size: int | None = None) -> Source:
  """Opens one split of a data set.

  Where a data set has no test split, a fifth of every class is held out, the same in every run; neither 'pretrain' nor
  'train' ever sees it.

  Args:
    source: 'bundled', 'tfds', 'folder' or 'npz'.
    name: The data set: one of `bundled.NAMES`, or TFDS's name; not read for 'folder' and 'npz'.
    path: The folder, the .npz file, or TFDS's data directory (None: its default).
    split: 'pretrain' (what pretraining sees; labels are not needed), 'train' (labelled, the support set of an
      evaluation) or 'test'.
    size: Images of many sizes are resized, short side to `size` pixels, and their centre cut out; None leaves them as
      they are, for the engines 'host' and 'split'. Images that all have one size are never resized here.

  Raises:
    ValueError: for a wrong argument, with the choices, or data in the wrong form.
    FileNotFoundError: where there is nothing at `path`.
    ImportError: where an optional dependency is missing, with the extra that brings it.
  """
  _source.check_choice('source', source, SOURCES)
  _source.check_choice('split', split, SPLITS)
  if size is not None and size < 1:
    raise ValueError(f'size={size} must be at least 1')
  return _filled(SOURCES[source](name, path or None, split, size), split)


def load_paired(source: str, name: str | None, path: str | None, split: str, size: int | None = None) -> Source:
  """Opens one split of a data set of paired views, whose `inputs` are `Views`.

  Args:
    source: 'npz' or 'folder'.
    name: Not read.
    path: The .npz file with view_0, view_1, …, or the folder with subfolders of these names.
    split: 'pretrain', 'train' or 'test', as for `load`.
    size: Side in pixels to which images in folders are resized and cut.

  Raises:
    ValueError: for a wrong argument, with the choices, or data in the wrong form.
    FileNotFoundError: where there is nothing at `path`.
  """
  _source.check_choice('source', source, PAIRED_SOURCES)
  _source.check_choice('split', split, SPLITS)
  return _filled(PAIRED_SOURCES[source](name, path or None, split, size), split)


def load_audio(source: str, name: str | None, path: str | None, split: str, rate: int) -> Source:
  """Opens one split of an audio data set, whose `inputs` are `audio.Clips`: mono, at `rate`.

  Where a data set has no test split, a fifth is held out, the same in every run; neither 'pretrain' nor 'train' ever
  sees it.

  Args:
    source: 'tfds', 'folder' or 'npz'.
    name: The data set's name in TFDS; not read for 'folder' and 'npz'.
    path: The folder, the .npz file, or TFDS's data directory (None: its default).
    split: 'pretrain', 'train' or 'test', as for `load`.
    rate: Samples a second; recordings at another rate are resampled.

  Raises:
    ValueError: for a wrong argument, with the choices, or data in the wrong form.
    FileNotFoundError: where there is nothing at `path`.
    ImportError: where an optional dependency is missing, with the extra that brings it.
  """
  _source.check_choice('source', source, AUDIO_SOURCES)
  _source.check_choice('split', split, SPLITS)
  if rate < 1:
    raise ValueError(f'rate={rate} must be at least 1')
  return _filled(AUDIO_SOURCES[source](name, path or None, split, rate), split)


def _filled(source: Source, split: str) -> Source:
  """The source; raises ValueError where holding out a fifth has left a split without an example."""
  if not len(source):
    raise ValueError(f'{source.name} has too few examples: none is left for the split {split!r}')
  return source
