"""A folder of recordings: unlabelled, or one subfolder a class."""

import numpy as np

from jaxssl.data import audio, encoded, folder
from jaxssl.data._source import Source, reason, require_file

EXTENSIONS = ('.wav', '.flac', '.ogg', '.mp3')


def load(name: str | None, path: str | None, split: str, rate: int) -> Source:
  """One split of a folder of wav, flac, ogg and mp3 files, at any depth, mono and at `rate`; `name` is not read.

  Where every file stands in one of two or more subfolders, these are the classes. Folders train/ and test/ (or val/,
  validation/) at the top are splits; without a test folder a fifth of every class is held out. Hidden files are not
  looked at, links to directories not followed.

  Every file is decoded once at the start: what cannot be read or is shorter than `audio.SECONDS` is logged with its
  reason, counted and left out (`Source.skipped`). Files that together take no more than `encoded.MEMORY` bytes, as
  int16, stay in memory; otherwise they are decoded whenever they are used, which is fast where they are wav or flac at
  `rate` already: of others every window takes the decoding of the whole file.

  Raises:
    FileNotFoundError: where there is no such folder.
    ValueError: where a split has no recording, or none that can be read.
    ImportError: where soundfile, or soxr where it is needed, is not installed.
  """
  del name
  root = folder.root_of(path)
  audio.require('soundfile')
  files, labels, names = folder.find(root, split, EXTENSIONS, 'recording', links=False)
  paths = [str(root / file) for file in files]
  clips, reasons = _read(paths, rate)
  skipped = tuple((file, why) for file, why in zip(files, reasons, strict=True) if why)
  folder.report(root, split, len(files), skipped, 'recording')
  keep = np.flatnonzero([not why for why in reasons])
  labels = None if labels is None else labels[keep]
  return Source(root.resolve().name, clips.take(keep), labels, names, tuple(files[i] for i in keep), skipped)


def _read(paths: list[str], rate: int) -> tuple[audio.Clips, list[str]]:
  """Decodes every file once: the clips, in memory where they fit, and for each file why it cannot be used, or ''."""
  memory = audio.Memory(len(paths))

  def check(i: int) -> tuple[int, str]:
    try:
      require_file(paths[i])
      wave = audio.decode(paths[i], rate)
    except ImportError:
      raise
    except Exception as error:  # Broken files make libsndfile and soxr raise errors of many kinds.
      return 0, reason(error)
    memory.keep(i, wave)
    return len(wave), audio.too_short(len(wave), rate)

  lengths, reasons = zip(*encoded.in_threads(check, len(paths)), strict=True)
  read = lambda i, start, stop: audio.decode(paths[i], rate, start, stop)
  if memory.fits:
    read = lambda i, start, stop: memory.waves[i][start:stop]
  clips = audio.Clips(
    read, np.arange(len(paths)), np.array(lengths, np.int64), rate, np.dtype(np.int16), decoded=not memory.fits)
  return clips, list(reasons)
