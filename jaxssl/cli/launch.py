"""Starts a command: flags, help, quiet libraries, and errors as one line."""

import contextlib
import io
import itertools
import logging as python_logging
import os
import re
import signal
import sys
from collections.abc import Callable, Iterator

import jax
from absl import app, flags, logging
from ml_collections import ConfigDict

from jaxssl.evaluation import report
from jaxssl.training import hosts, mesh

# What absl and ml_collections say of a value, and what a user may do about it.
WORDS = {
    r'invalid literal for int\(\).*': 'it must be a whole number',
    r'could not convert string to float.*': 'it must be a number',
    r'\(.Non-boolean argument.*': 'it must be true or false',
    r'flag --(\S+)=None: Flag --\S+ must have a value other than None': r'the flag --\1 is missing',
    r"Unknown command line flag '([^']+)'\.?$":
        r"unknown flag --\1; the keys of the config are set by --config.KEY=VALUE",
    r'Failed to parse .* as a ConfigDict.*': 'it is a section, whose keys are set one by one: --config.SECTION.KEY=…',
    r'Type .* of field (\S+) is not supported for overriding.*':
        r'--\1 cannot be set here, as it is None in the config file: change it in a copy of the file',
}
HELP = ('-h', '-help', '--help', '--helpshort', '--helpfull')


def launch(command: Callable[..., None], usage: str, positional: tuple[str, ...] = ()) -> None:
  """Parses the flags and runs `command`; bad input ends with one message and exit status 1.

  With --help, prints `usage`, the flags of the command and the keys of its config instead. `positional` names the
  arguments without a flag, all of them required, which `command` is called with.
  """
  app.run(lambda arguments: _run(lambda: command(*arguments[1:])),
          flags_parser=lambda arguments: _parse(arguments, usage, positional))


def define_hosts() -> Callable[[], contextlib.AbstractContextManager[None]]:
  """Defines the flags of a run on several hosts; returns what joins its processes, for as long as its context lasts."""
  coordinator = flags.DEFINE_string('coordinator', None, 'host:port of process 0, for a run on several hosts.')
  processes = flags.DEFINE_integer('num_processes', None, 'Number of processes of a run on several hosts.')
  process = flags.DEFINE_integer('process_id', None, 'Number of this process, from 0.')
  distributed = flags.DEFINE_bool(
      'distributed', None, 'Whether JAX is to find the processes of a run on several hosts; default: where Slurm, Open '
      'MPI, a TPU slice on GKE or an indexed Kubernetes Job started them.')

  def join():
    mesh.initialize_distributed(coordinator.value, processes.value, process.value, distributed.value)
    return hosts.together()

  return join


def given(name: str) -> str | None:
  """Returns the (last) value of the flag --`name` on the command line, before flags are parsed; None without it."""
  found = None
  for argument, following in itertools.pairwise([*sys.argv[1:], '']):
    flag, equals, value = argument.lstrip('-').partition('=')
    if argument.startswith('-') and flag == name:
      found = value if equals else following
  return found


def take(name: str) -> str | None:
  """As `given`, and takes the flag off the command line."""
  value, rest = given(name), iter(sys.argv)
  sys.argv = []
  for argument in rest:
    if not argument.startswith('-') or argument.lstrip('-').partition('=')[0] != name:
      sys.argv.append(argument)
    elif '=' not in argument:
      next(rest, None)
  return value


@contextlib.contextmanager
def parsing() -> Iterator[None]:
  """Ends the process with one line where a flag, or a key of the config, is wrong."""
  try:
    yield
  except (AttributeError, LookupError) as error:  # From ml_collections, with the nearest name.
    raise SystemExit(f'error: {_flag_of(text := _plain(error))}no such config key: {text}') from None
  except (flags.Error, TypeError, ValueError, OSError) as error:
    text = _plain(error).rstrip('.')
    raise SystemExit(f'error: {text}{"" if text.endswith("?") else "."} See --help') from None


def _parse(arguments: list[str], usage: str, positional: tuple[str, ...] = ()) -> list[str]:
  wanted = [argument for argument in arguments if argument not in HELP]
  if len(wanted) < len(arguments):
    with contextlib.suppress(Exception):  # Where the config cannot be read, its keys are left out.
      flags.FLAGS(wanted)
    print(_help(usage))
    raise SystemExit(0)
  with parsing():
    rest = flags.FLAGS(arguments)
  if len(rest) > 1 + len(positional):
    raise SystemExit(f'error: unknown argument {rest[1 + len(positional)]!r}: flags start with --. See --help')
  if len(rest) < 1 + len(positional):
    raise SystemExit(f'error: missing argument {positional[len(rest) - 1]}. See --help')
  return rest


def _help(usage: str) -> str:
  """Returns the usage, the command's own flags, and the keys of its config with their values."""
  ours = [flag for module, defined in flags.FLAGS.flags_by_module_dict().items() for flag in defined
          if module.startswith('jaxssl') and flag.name != 'config']
  lines = [usage, '', *(f'  --{flag.name}: {flag.help}{_default(flag)}' for flag in ours)]
  config = flags.FLAGS['config'].value if 'config' in flags.FLAGS else None
  if isinstance(config, ConfigDict) and config:
    lines += ['', 'Keys of this config, with their values:']
    lines += [f'  --config.{key}={value!r}' for key, value in report.flat(config.to_dict())]
  return '\n'.join(lines)


def _default(flag: flags.Flag) -> str:
  if flag.default is None or flag.default is False or flag.default == []:
    return ''
  return f' Default: {",".join(flag.default) if isinstance(flag.default, list) else flag.default}.'


def _flag_of(text: str) -> str:
  """Returns the flag in whose key is the name that `text` begins with, and ': '; '' where there is none."""
  name = text.split("'")[1] if text.startswith("'") else ''
  keys = (argument.partition('=')[0] for argument in sys.argv[1:] if argument.startswith(('--config.', '--sweep.')))
  return next((f'{key}: ' for key in keys if name in key.split('.')), '')


def _plain(error: Exception) -> str:
  """Returns the innermost message on one line."""
  while error.args and isinstance(error.args[0], Exception):
    error = error.args[0]
  text = ' '.join(str(error.args[0] if error.args else error).split())
  for theirs, ours in WORDS.items():
    text = re.sub(theirs, ours, text)
  return text.replace("' Did you mean", "'; did you mean")


def _run(command: Callable[[], None]) -> None:
  if not flags.FLAGS['verbosity'].present:
    logging.set_verbosity(logging.WARNING)  # Orbax tells of every file; --verbosity=0 shows it.
    # And beside the error that it raises, it shows those of its threads and of the reads that go on after a failed one.
    logging.get_absl_logger().addFilter(lambda record: 'orbax' not in record.pathname)
    python_logging.getLogger('asyncio').setLevel(python_logging.CRITICAL)
    sys.unraisablehook = lambda unraisable: None
  logging.get_absl_handler().setFormatter(python_logging.Formatter('%(levelname)s: %(message)s'))
  if isinstance(sys.stdout, io.TextIOWrapper):  # The names of files and folders need not be text.
    sys.stdout.reconfigure(errors='backslashreplace')
  try:
    command()
  except hosts.ERRORS as error:
    if flags.FLAGS['verbosity'].present:
      raise
    raise SystemExit(f'error: {hosts.told(error)}') from error
  except jax.errors.JaxRuntimeError as error:
    if flags.FLAGS['verbosity'].present or 'RESOURCE_EXHAUSTED' not in str(error):
      raise
    raise SystemExit(f'error: out of memory: {str(error).splitlines()[0]}. A smaller config.batch_size, or '
                     'config.evaluation.batch_size, takes less; so do method.chunks and, of a ViT, remat '
                     '(docs/scale.md)') from error
  except KeyboardInterrupt:
    print('interrupted', file=sys.stderr, flush=True)
    os._exit(128 + signal.SIGINT)  # A computation may still be running, and an ordinary exit would pull it down.
