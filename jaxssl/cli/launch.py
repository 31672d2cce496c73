"""Starts a command: flags, quiet libraries, and errors as one line."""

from collections.abc import Callable

from absl import app, flags, logging


def launch(command: Callable[[], None]) -> None:
  """Parses the flags and runs `command`; bad input ends with one message and exit status 1."""
  app.run(lambda _: _run(command), flags_parser=_parse)


def _parse(arguments: list[str]) -> list[str]:
  try:
    rest = flags.FLAGS(arguments)
  except (AttributeError, KeyError) as error:  # From ml_collections, with the nearest name.
    raise SystemExit(f'error: no such config key: {_plain(error)}') from None
  except (flags.Error, TypeError, ValueError, OSError) as error:
    raise SystemExit(f'error: {_plain(error).rstrip(".")}. See --help') from None
  if len(rest) > 1:
    raise SystemExit(f'error: unknown argument {rest[1]!r}: flags start with --. See --help')
  return rest


def _plain(error: Exception) -> str:
  """Returns the innermost message on one line."""
  while error.args and isinstance(error.args[0], Exception):
    error = error.args[0]
  return ' '.join(str(error.args[0] if error.args else error).split())


def _run(command: Callable[[], None]) -> None:
  if not flags.FLAGS['verbosity'].present:
    logging.set_verbosity(logging.WARNING)  # Orbax tells of every file; --verbosity=0 shows it.
  try:
    command()
  except (ValueError, OSError, ImportError, FloatingPointError) as error:
    if flags.FLAGS['verbosity'].present:
      raise
    raise SystemExit(f'error: {error}') from error
