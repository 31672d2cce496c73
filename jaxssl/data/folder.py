"""A folder of images: unlabelled, or one subfolder a class."""

import dataclasses
import functools
import logging
import os
import pathlib
from typing import Any

import numpy as np

from jaxssl.data import encoded
from jaxssl.data._source import Images, Source, legible, reason, require_file, split_off

log = logging.getLogger(__name__)
EXTENSIONS = ('.jpg', '.jpeg', '.png', '.webp', '.bmp')
TEST_FOLDERS = ('test', 'val', 'validation')
LARGEST = 1 << 30  # Bytes of an image file: more than the largest that Pillow decodes takes when it is not compressed.


def load(name: str | None, path: str | None, split: str, size: int | None = None) -> Source:
  """One split of a folder of jpg, jpeg, png, webp and bmp files, at any depth, as RGB; `name` is not read.

  Where every image stands in one of two or more subfolders, these are the classes. Folders train/ and test/ (or val/,
  validation/) at the top are splits; without a test folder a fifth of every class is held out. Hidden files and
  __MACOSX are not looked at.

  Every file is decoded once at the start: what cannot be read is logged with its reason, counted and left out
  (`Source.skipped`). With `size`, images that fit in `encoded.MEMORY` stay in memory; otherwise they are decoded
  whenever they are used.

  Raises:
    FileNotFoundError: where there is no such folder.
    ValueError: where a split has no image, or none that can be read.
  """
  del name
  root = root_of(path)
  files, labels, names = find(root, split, EXTENSIONS, 'image', links=True)
  return read(root, files, labels, names, size, split)


def root_of(path: str | None) -> pathlib.Path:
  """The folder at `path`; raises ValueError without a path or for a file, FileNotFoundError where there is nothing."""
  if path is None:
    raise ValueError(f"path={path!r}: source='folder' needs the path of a folder")
  root = pathlib.Path(path)
  if root.is_file():
    hint = "; did you mean source='npz'?" if root.suffix == '.npz' else ''
    raise ValueError(f"path={path!r} is a file, and source='folder' reads a folder{hint}")
  if not root.is_dir():
    raise FileNotFoundError(f'path={path!r}: there is no such folder')
  return root


def find(
  root: pathlib.Path, split: str, extensions: tuple[str, ...], what: str, links: bool
) -> tuple[list[str], np.ndarray | None, tuple[str, ...]]:
  """Files of a split, relative to `root`, their labels and the names of the classes.

  `what` they are is for messages; `links` says whether links to directories are followed.
  """
  train = 'train' if (root / 'train').is_dir() else ''
  test = next((folder for folder in TEST_FOLDERS if (root / folder).is_dir()), None) if train else None
  parts = {folder: list_files(root / folder, extensions, links) for folder in (train, test) if folder is not None}
  classes = [_classes(files, what) for files in parts.values()]
  names = tuple(sorted(set().union(*classes))) if all(classes) else ()
  folder = test if test is not None and split == 'test' else train
  files = parts[folder]
  if not files:
    raise ValueError(f'path={str(root / folder)!r} holds no {what} ({", ".join(extensions)})')
  labels = np.array([names.index(_top(file)) for file in files], np.int64) if names else None
  if test is None:
    keep = split_off(split, len(files), labels)
    files, labels = [files[i] for i in keep], None if labels is None else labels[keep]
  if not files:
    raise ValueError(f'path={str(root)!r} has too few {what}s: none is left for the split {split!r}')
  return [f'{folder}/{file}' if folder else file for file in files], labels, names


def list_files(folder: pathlib.Path, extensions: tuple[str, ...], links: bool) -> list[str]:
  """Paths of the files under a folder, relative to it, in the order of their names; folders that cannot be are told."""
  found, seen = [], set()
  for directory, folders, files in os.walk(folder, onerror=_warn_of_unlisted, followlinks=links):
    if (real := os.path.realpath(directory)) in seen:
      folders[:] = []  # A link back: its files are listed already.
      continue
    seen.add(real)
    # Sorted, so that of two ways to one folder always the same is taken.
    folders[:] = sorted(each for each in folders if not each.startswith('.') and each != '__MACOSX')
    for file in files:
      if not file.startswith('.') and file.lower().endswith(extensions):
        found.append(pathlib.Path(directory, file).relative_to(folder).as_posix())
  return sorted(found)


def _warn_of_unlisted(error: OSError) -> None:
  warn_once(f'{legible(str(error.filename))} is left out, as it cannot be listed: {reason(error)}')


@functools.cache  # Not for every split.
def warn_once(message: str) -> None:
  """Logs what has not been logged before."""
  log.warning('%s', message)


def _top(file: str) -> str:
  return file.split('/')[0]


def _classes(files: list[str], what: str) -> set[str]:
  """The subfolders that are classes; none where a file stands outside them or there is only one."""
  inside = [file for file in files if '/' in file]
  folders = {_top(file) for file in inside}
  if len(folders) > 1 and len(inside) < len(files) < 2 * len(inside):
    first = next(file for file in files if '/' not in file)
    warn_once(
      f'No labels: subfolders are classes only where every {what} stands in one. Outside them: '
      f'{len(files) - len(inside)}, such as {legible(first)}. To have labels, move or remove what is outside.')
  return folders if len(folders) > 1 and len(inside) == len(files) else set()


def read(
  root: pathlib.Path, files: list[str], labels: np.ndarray | None, names: tuple[str, ...], size: int | None, split: str
) -> Source:
  """Decodes every file once, reports the unreadable, and keeps the images where they fit in memory."""
  paths = [str(root / file) for file in files]
  images = encoded.EncodedImages(
    lambda i: content(paths[i]), np.arange(len(files)), size, 3, np.zeros(len(files), bool),
    name=lambda i: legible(paths[i]))
  encoded.require_pillow()
  pixels = np.empty((len(files), size, size, 3), np.uint8) if size and images.fits() else None

  def check(i: int) -> tuple[str, bool]:
    try:
      content = images.content(i)
      image = encoded.decode(content, 3, size or 1)
      if pixels is not None:
        pixels[i] = image
      return '', encoded.is_plain(content)
    except Exception as error:  # Broken files make Pillow raise errors of many kinds.
      unknown = type(error).__name__ == 'UnidentifiedImageError'
      return 'is no image in a format that is read (JPEG, PNG, WebP, BMP)' if unknown else reason(error), False

  reasons, plain = zip(*encoded.in_threads(check, len(files)), strict=True)
  skipped = tuple((file, why) for file, why in zip(files, reasons, strict=True) if why)
  report(root, split, len(files), skipped, 'image')
  keep = np.flatnonzero([not why for why in reasons])
  kept: Images = pixels if pixels is not None else dataclasses.replace(images, plain=np.array(plain))
  kept = kept if len(keep) == len(files) else take(kept, keep)
  kept_files = tuple(files[i] for i in keep)
  return Source(root.resolve().name, kept, None if labels is None else labels[keep], names, kept_files, skipped)


def content(path: str) -> bytes:
  """The bytes of an image file; raises OSError, or ValueError of what is no file or too large to be an image."""
  size = require_file(path)
  if size > LARGEST:
    raise ValueError(f'is too large for an image: {size:,} bytes')
  return pathlib.Path(path).read_bytes()


def take(images: Any, keep: np.ndarray) -> Images:
  """The images `keep`, an integer array, in that order, of an array or of encoded images."""
  return images[keep] if isinstance(images, np.ndarray) else images.take(keep)


def shown(split: str) -> str:
  """The split for messages: in a folder the examples to pretrain on are those to train on."""
  return 'train' if split == 'pretrain' else split


def report(root: pathlib.Path, split: str, total: int, skipped: tuple[tuple[str, str], ...], what: str) -> None:
  """Logs the files that could not be read; raises ValueError where that is all of them."""
  if len(skipped) == total:
    first = f'{legible(skipped[0][0])}: {skipped[0][1]}'
    raise ValueError(f'path={str(root)!r}: none of {total} {what}s can be read; {first}')
  if skipped:
    lines = '\n'.join(f'  {legible(file)}: {why}' for file, why in skipped)
    warn_once(f'{root}: {len(skipped)} of the {total} {what}s of the split {shown(split)!r} left out:\n{lines}')
