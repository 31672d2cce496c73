"""A source: images or waveforms that can be read in any order, with labels where known."""

import dataclasses
import difflib
import os
import stat
from collections.abc import Iterable
from typing import Any, Protocol

import numpy as np

SPLITS = ('pretrain', 'train', 'test')
TEST_FRACTION = 0.2  # Held out where the data have no test split of their own.


class Images(Protocol):
  """Random access to images: a NumPy array [n, h, w, c], or `encoded.EncodedImages`, which decodes on demand."""

  def __len__(self) -> int: ...

  def __getitem__(self, indices: Any, /) -> Any:
    """uint8 [k, h, w, c] for an integer array [k]."""


@dataclasses.dataclass(frozen=True, eq=False)
class Views:
  """Random access to n examples of several views each: indexing returns a tuple of arrays [k, ...], one a view."""

  arrays: tuple[Images, ...]

  def __len__(self) -> int:
    return len(self.arrays[0])

  def __getitem__(self, indices: Any) -> tuple[Any, ...]:
    return tuple(array[indices] for array in self.arrays)


@dataclasses.dataclass(frozen=True, eq=False)
class Source:
  """One split of a data set, its order fixed: an example's index is its position here.

  Attributes:
    name: What to call it in tables.
    inputs: `Images`, uint8 [n, h, w, c], `Views`, or `audio.Clips`; in memory or decoded on demand.
    labels: int64 [n] from 0, rows of `class_names`; None where unknown.
    class_names: One name a class; empty where labels are unknown.
    files: n paths relative to the data set's folder; None where the examples are no files.
    skipped: (file, reason) of every file that could not be read.
    groups: int64 [n] from 0, rows of `group_names`: whom or what an example is from (the speaker); None where unknown.
    group_names: One name a group; empty where groups are unknown.
  """

  name: str
  inputs: Any
  labels: np.ndarray | None = None
  class_names: tuple[str, ...] = ()
  files: tuple[str, ...] | None = None
  skipped: tuple[tuple[str, str], ...] = ()
  groups: np.ndarray | None = None
  group_names: tuple[str, ...] = ()

  def __len__(self) -> int:
    return len(self.inputs)


def check_choice(argument: str, value: object, choices: Iterable[str], others: str = '') -> None:
  """Raises ValueError unless `value` is one of `choices`; names the nearest, all where they are few, and `others`."""
  choices = tuple(choices)
  if value in choices:
    return
  nearest = difflib.get_close_matches(str(value), choices, n=3)
  hint = f'; did you mean {" or ".join(map(repr, nearest))}?' if nearest else '.'
  listed = ', '.join(map(repr, choices)) if len(choices) <= 20 else f'{len(choices)} names'
  raise ValueError(f'{argument}={value!r} is unknown{hint} The choices are {listed}{others}')


def require_file(path: str) -> int:
  """The bytes of a file; raises ValueError of what is none, such as a pipe, whose reader would wait for ever."""
  found = os.stat(path)
  if not stat.S_ISREG(found.st_mode):
    raise ValueError('is no regular file')
  return found.st_size


def require_memory(size: int) -> None:
  """Raises ValueError where `size` bytes, as a file says that it holds, are more than this machine has."""
  memory = os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES')
  if size > memory:
    raise ValueError(f'takes {size / 2**30:,.1f} GiB, more than the {memory / 2**30:,.1f} GiB of this machine')


def reason(error: Exception) -> str:
  """Why a file cannot be read, in one line that is never empty."""
  text = getattr(error, 'strerror', None) or str(error)  # Of the system: without the path, which is known.
  return legible(' '.join(text.split())) or type(error).__name__


def legible(text: str) -> str:
  """A text, such as the name of a file, as it can be printed: line ends and what no terminal shows are escaped."""
  return ''.join(each if each.isprintable() else repr(each)[1:-1] for each in text)


def hold_out(n: int, labels: np.ndarray | None) -> np.ndarray:
  """bool [n]: a fifth of every class (of all examples, without labels), the same in every run.

  A class of one example stays in the training part; a class of two or more gives at least one.
  """
  groups = np.zeros(n, np.int64) if labels is None else labels
  test = np.zeros(n, bool)
  for group in np.unique(groups):
    members = np.flatnonzero(groups == group)
    count = max(1, round(TEST_FRACTION * len(members))) if len(members) > 1 else 0
    order = np.random.Generator(np.random.Philox(key=int(group))).permutation(len(members))
    test[members[order[:count]]] = True
  return test


def split_off(split: str, n: int, labels: np.ndarray | None) -> np.ndarray:
  """int [k]: which of `n` examples without a test split of their own belong to `split`, in order."""
  test = hold_out(n, labels)
  return np.flatnonzero(test if split == 'test' else ~test)
