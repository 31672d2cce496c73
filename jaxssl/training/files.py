"""Files of a run: written whole or not at all; what is damaged is set aside, never deleted."""

import contextlib
import itertools
import os
from collections.abc import Iterator


@contextlib.contextmanager
def writing(path: str) -> Iterator[None]:
  """Names the file, or the directory, that cannot be written: the error of a full disk alone does not."""
  try:
    yield
  except OSError as error:
    raise OSError(f'{path} cannot be written: {error.strerror or error}') from error


@contextlib.contextmanager
def replacing(path: str | os.PathLike) -> Iterator[str]:
  """Yields the name of a file to write, which then takes the place of `path`: a reader sees the old one or the new one.

  The name is this process's own. Where an error comes up, `path` stays as it was.
  """
  temporary = f'{os.fspath(path)}.{os.getpid()}.tmp'
  try:
    yield temporary
    os.replace(temporary, path)
  except BaseException:
    with contextlib.suppress(OSError):
      os.remove(temporary)
    raise


def replace(path: str, text: str) -> None:
  """Writes a text file so that a reader sees the old one or the new one."""
  with writing(path), replacing(path) as temporary, open(temporary, 'w', encoding='utf-8') as file:
    file.write(text)


def append(path: str, text: str) -> None:
  """Adds lines to a file, on a line of their own also where the last one was cut short."""
  with writing(path), open(path, 'ab+') as file:
    if file.tell():
      file.seek(-1, os.SEEK_END)
      text = text if file.read(1) == b'\n' else '\n' + text
    file.write(text.encode())


def set_aside(path: str) -> str:
  """Renames a damaged file or directory to the first name of PATH.damaged, PATH.damaged.1, … that is free."""
  names = itertools.chain([f'{path}.damaged'], (f'{path}.damaged.{i}' for i in itertools.count(1)))
  free = next(name for name in names if not os.path.lexists(name))
  os.rename(path, free)
  return free


def sweep(directory: str) -> None:
  """Removes the NAME.tmp and NAME.PID.tmp that killed processes left; what a live process writes stays."""
  for name in os.listdir(directory):
    writer = name.removesuffix('.tmp').rpartition('.')[2]
    if name.endswith('.tmp') and not (writer.isdigit() and _alive(int(writer))):
      with contextlib.suppress(FileNotFoundError):
        os.remove(os.path.join(directory, name))


def _alive(process: int) -> bool:
  try:
    os.kill(process, 0)
  except ProcessLookupError:
    return False
  except PermissionError:
    pass  # Another user's.
  return True
