"""The work directory of a run: its config, where and with what it ran, and the refusal to mix two runs."""

import contextlib
import difflib
import fcntl
import glob
import importlib.machinery
import importlib.metadata
import json
import logging
import os
import platform
import time
import types
import uuid
from collections.abc import Iterator, Mapping
from typing import IO, Any

import jax
from ml_collections import ConfigDict

from jaxssl import schema
from jaxssl.training import files, hosts

log = logging.getLogger(__name__)
LOCK = '.lock'
# Sections that may differ when a run is resumed: they do not change what is learnt.
NOT_TRAINING = ('mesh', 'logging', 'evaluation', 'checkpoint')
PACKAGES = ('jaxssl', 'jax', 'jaxlib', 'flax', 'optax', 'orbax-checkpoint', 'numpy', 'tensorflow-cpu',
            'tensorflow-datasets')
SEEN_WITHIN = 60.0  # Seconds after which shared storage shows other hosts what one has written there.


def default_path(config_file: str) -> str:
  """Returns runs/<stem of the config file>."""
  return os.path.join('runs', os.path.splitext(os.path.basename(config_file))[0])


def enter(path: str, config: ConfigDict) -> bool:
  """Makes `path` the work directory of `config`; returns whether it is new or its evaluation section has changed.

  What is damaged there is set aside and written anew. Of several processes the first calls it.
  """
  stored, environment = (os.path.join(path, name) for name in ('config.json', 'environment.json'))
  before = salvage(stored, dict)
  write_json(stored, config.to_dict())
  write_json(environment, [*(salvage(environment, list) or []), describe_environment(config.seed)])
  return before is None or _of_results(before.get('evaluation')) != _of_results(config.evaluation)


def _of_results(evaluation: Any) -> Any:
  """Returns an evaluation section without what says how to evaluate during training."""
  section = tuples(evaluation)
  return {key: value for key, value in section.items() if key != 'online'} if isinstance(section, dict) else section


def salvage(path: str, kind: type) -> Any:
  """Returns what is in a JSON file; None where there is none, or where it is damaged: then it is set aside."""
  if not os.path.exists(path):
    return None
  try:
    return read_json(path, kind)
  except ValueError as error:
    log.warning('%s; it is set aside as %s and written anew', error, files.set_aside(path))
    return None


def refuse_links(path: str) -> None:
  """Raises ValueError where a symbolic link stands in the work directory `path`, which itself may be one.

  Through it a run would write elsewhere, and someone else may have put it there.
  """
  for directory, folders, others in os.walk(path):
    for name in (*folders, *others):
      if os.path.islink(file := os.path.join(directory, name)):
        raise ValueError(f'--workdir {path} holds the symbolic link {file!r}: a run would write where it leads')


def refuse_other(path: str, stored: Mapping[str, Any], config: ConfigDict) -> None:
  """Raises ValueError, with the keys, if a training key of `config` differs from the run's in `path`."""
  changes = list(differences(stored, config))
  if changes:
    raise ValueError(
        f'--workdir {path} holds a run of another config; choose another --workdir, or set back:\n  '
        + '\n  '.join(changes))


@contextlib.contextmanager
def locked(path: str) -> Iterator[None]:
  """Keeps a second trainer out of the work directory `path`; the lock goes with the process, however it ends.

  Raises ValueError, too, in a process that does not see there what process 0 writes.
  """
  file = os.path.join(path, LOCK)
  with contextlib.ExitStack() as held:

    def take() -> str:
      if os.path.exists(path) and not os.path.isdir(path):
        raise ValueError(f'--workdir {path} is a file')
      try:
        os.makedirs(path, exist_ok=True)
        lock = held.enter_context(open(file, 'a', encoding='utf-8'))
      except OSError as error:
        raise ValueError(f'--workdir {path} cannot be written: {error.strerror or error}') from error
      _take(lock, path)
      lock.truncate(0)
      print(token := uuid.uuid4().hex, file=lock, flush=True)
      return token

    token, end = hosts.first(take), time.monotonic() + SEEN_WITHIN
    while not _holds(file, token):
      if time.monotonic() > end:
        raise ValueError(f'--workdir {path}: process {jax.process_index()} does not see there what process 0 writes; '
                         'it must be a directory that all hosts share')
      time.sleep(0.1)
    hosts.meet()
    yield


def _holds(file: str, line: str) -> bool:
  """Returns whether there is such a file, of one line."""
  with contextlib.suppress(FileNotFoundError), open(file, encoding='utf-8') as opened:
    return opened.read() == line + '\n'
  return False


def refuse_second(path: str) -> None:
  """Raises ValueError if a trainer is at work in the work directory `path`; writes nothing."""
  if os.path.exists(file := os.path.join(path, LOCK)):
    with open(file, 'a', encoding='utf-8') as lock:  # Which leaves its time as it is.
      _take(lock, path, fcntl.LOCK_SH)  # Several processes of a run may look at once.


def refuse_name(path: str) -> None:
  """Raises ValueError for a work directory whose name Orbax cannot write."""
  try:
    path.encode()
  except UnicodeEncodeError:
    raise ValueError(f'--workdir {os.fsencode(path)!r} must be UTF-8: checkpoints cannot be written there') from None


def _take(lock: IO[str], path: str, kind: int = fcntl.LOCK_EX) -> None:
  """Locks a file as long as it is open; raises ValueError where another process has done so."""
  try:
    fcntl.flock(lock, kind | fcntl.LOCK_NB)
  except OSError as error:
    raise ValueError(f'--workdir {path}: another process is training there') from error


def describe_environment(seed: int) -> dict[str, Any]:
  """Returns what a start of the run should be reproducible from: seed, devices, versions."""
  device = jax.devices()[0]
  return {
      'seed': seed, 'devices': jax.device_count(), 'device_kind': device.device_kind, 'platform': device.platform,
      'processes': jax.process_count(), 'cpus': os.cpu_count(), 'python': platform.python_version(),
      'versions': describe_versions(),
  }


def describe_versions() -> dict[str, str]:
  """Returns the versions of those of PACKAGES that are installed."""
  versions = {}
  for name in PACKAGES:
    with contextlib.suppress(importlib.metadata.PackageNotFoundError):
      versions[name] = importlib.metadata.version(name)
  return versions


def facts(config: ConfigDict) -> dict[str, Any]:
  """Returns what all processes of a run must have in common, by name: the config and the versions."""
  versions = {f'the version of {name}': version for name, version in describe_versions().items()}
  return {f'config.{key}': value for key, value in _flatten(config)} | versions


def last_start(path: str) -> dict[str, Any]:
  """Returns how the run in the work directory `path` was started last; empty where that cannot be read."""
  try:
    return dict(read_json(os.path.join(path, 'environment.json'), list)[-1])
  except (OSError, ValueError, TypeError, IndexError):
    return {}


def load_config(file: str) -> ConfigDict:
  """Returns what `get_config()` of a config file returns; of FILE.py:ARGUMENT, `get_config(ARGUMENT)`."""
  path, colon, argument = file.partition(':')
  if not os.path.isfile(path):
    raise ValueError(f'--config={file}: there is no such file{_nearest(path)}')
  module = types.ModuleType('config')
  importlib.machinery.SourceFileLoader('config', path).exec_module(module)
  if not hasattr(module, 'get_config'):
    raise ValueError(f'--config={file}: a config file defines get_config(), which returns a ConfigDict')
  try:
    return module.get_config(*([argument] if colon else []))
  except (TypeError, ValueError) as error:
    raise ValueError(f'--config={file}: {error}') from error


def _nearest(path: str) -> str:
  """Names the config files that may have been meant by `path`: beside it, or in configs/."""
  folder = os.path.dirname(path) or '.'
  found = glob.glob(os.path.join(glob.escape(folder), '*.py')) + glob.glob(os.path.join('configs', '*.py'))
  by_name = {os.path.splitext(os.path.basename(file))[0]: os.path.normpath(file) for file in reversed(found)}
  stem = os.path.splitext(os.path.basename(path))[0]
  family = [name for name in sorted(by_name) if stem in name.split('_')]  # All of a method, or for the same data.
  names = difflib.get_close_matches(stem, by_name, n=3) or family[:6]
  return f'; did you mean {" or ".join(by_name[name] for name in names)}?' if names else ''


def read_config(path: str) -> ConfigDict:
  """Returns the config that the run in the work directory `path` was started with."""
  stored = os.path.join(path, 'config.json')
  if not os.path.exists(stored):
    raise ValueError(f'--workdir {path} holds no run: {stored} does not exist')
  try:
    values = tuples(read_json(stored, dict))
    schema.check(values)
    return ConfigDict(values)
  except (KeyError, RecursionError, TypeError, ValueError) as error:  # ConfigDict refuses some names.
    raise ValueError(f'{stored} does not hold the config of a run: {error}; the train command of this run writes it '
                     'anew') from error


def differences(old: Mapping[str, Any], new: Mapping[str, Any]) -> Iterator[str]:
  """Yields 'config.key = new value (the run has old value)' for every training key that differs."""
  old_flat, new_flat = dict(_flatten(old)), dict(_flatten(new))
  for key in sorted(old_flat.keys() | new_flat.keys()):
    if key.split('.')[0] not in NOT_TRAINING and old_flat.get(key, '(absent)') != new_flat.get(key, '(absent)'):
      yield f'config.{key} = {new_flat.get(key, "(absent)")!r} (the run has {old_flat.get(key, "(absent)")!r})'


def read_json(path: str, kind: type = object) -> Any:
  """Returns what is in a JSON file; raises ValueError if that is not JSON, or not of the `kind`, such as dict."""
  with open(path, encoding='utf-8') as file:
    try:
      value = json.load(file)
    except (ValueError, RecursionError) as error:
      raise ValueError(f'{path} is damaged: {error}') from error
  if not isinstance(value, kind):
    raise ValueError(f'{path} is damaged: it holds no {kind.__name__}')
  return value


def write_json(path: str, value: Any) -> None:
  """Writes JSON so that a reader sees the old file or the new one, never half of it."""
  files.replace(path, json.dumps(value, indent=2))


def _flatten(section: Mapping[str, Any], prefix: str = '') -> Iterator[tuple[str, Any]]:
  for key, value in section.items():
    if isinstance(value, Mapping | ConfigDict):
      yield from _flatten(value, f'{prefix}{key}.')
    else:
      yield f'{prefix}{key}', tuples(value)


def tuples(value: Any) -> Any:
  """Returns a value of JSON, which knows no tuples, with tuples for lists, also inside of one another."""
  if isinstance(value, Mapping | ConfigDict):
    return {key: tuples(item) for key, item in value.items()}
  return tuple(map(tuples, value)) if isinstance(value, list | tuple) else value
