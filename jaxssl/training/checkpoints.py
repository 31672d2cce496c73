"""Checkpoints: the whole state of a run and a JSON description of it, one directory a step, written by Orbax."""

import contextlib
import errno
import hashlib
import json
import logging
import os
import re
from collections.abc import Callable, Iterator
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp
from orbax.checkpoint import checkpoint_managers

from jaxssl.training import files, mesh

# Stored beside the caller's meta: of the arrays, their names, shapes and dtypes, the step, and of all of the meta.
CHECKSUM, STRUCTURE, STEP, SEAL = 'sha256', 'structure', 'saved_step', 'seal'
# Not the fault of the files that are read.
ELSEWHERE = (MemoryError, jax.errors.JaxRuntimeError)
ELSEWHERE_CODES = (errno.EACCES, errno.EPERM, errno.EMFILE, errno.ENFILE, errno.ENOMEM)

log = logging.getLogger(__name__)


class Damaged(ValueError):
  """The files of a checkpoint are not those that were saved."""


class OtherState(ValueError):
  """A checkpoint is whole, but of a state of another structure, as another configuration has."""


def checksum(state: Any) -> str:
  """Returns the SHA-256 of all arrays of a state, in hexadecimal: equal for two states that are equal bit for bit.

  However they are laid out. Where other processes hold a part of them, all have to call it.
  """
  digest = hashlib.sha256()
  for leaf in jax.tree.leaves(state):
    digest.update(np.ascontiguousarray(mesh.to_host(leaf)).tobytes())
  return digest.hexdigest()


class Checkpoints:
  """The checkpoints of one run.

  Saving is asynchronous and atomic: training goes on while the files are written, a checkpoint appears under its final
  name only when it is whole, and what a killed run left unfinished is removed by the next. Each holds checksums of what
  was saved, which reading compares. Use as a context manager, or call `close`, so that the last save ends and its
  errors are raised. Several processes share one directory, and all of them make the same calls.
  """

  def __init__(
      self,
      directory: str | os.PathLike,
      *,
      every: int = 1,
      keep_last: int | None = None,
      keep_every: int | None = None,
      read_only: bool = False,
  ):
    """Opens a directory of checkpoints.

    Args:
      directory: where they are; made if needed, unless `read_only`.
      every: `save` acts at the multiples of this many steps.
      keep_last: how many of the latest to keep; None keeps all.
      keep_every: the multiples of this many steps are kept for good as well.
      read_only: for a reader beside a running trainer: sees what the trainer adds and never writes or deletes.
    """
    for name, value in (('every', every), ('keep_last', keep_last), ('keep_every', keep_every)):
      if value is not None and value < 1:
        raise ValueError(f'{name} must be positive: got {value}')
    self.directory = os.path.abspath(directory)
    self._every = every
    self._read_only = read_only
    if read_only and not os.path.isdir(self.directory):
      raise FileNotFoundError(f'no checkpoints: {self.directory} is not a directory')
    kept: list[checkpoint_managers.PreservationPolicy] = [checkpoint_managers.LatestN(keep_last)]
    if keep_every is not None:
      kept.append(checkpoint_managers.EveryNSteps(keep_every))
    options = ocp.CheckpointManagerOptions(
        save_interval_steps=0 if read_only else 1,
        preservation_policy=checkpoint_managers.AnyPreservationPolicy(kept),
        cleanup_tmp_directories=not read_only,
        create=not read_only,
        read_only=read_only,
    )
    self._manager = _quietly(lambda: _settled(lambda: ocp.CheckpointManager(self.directory, options=options)))

  def save(self, step: int, state: Any, meta: dict[str, Any], force: bool = False) -> bool:
    """Starts to save `state` after `step` updates; returns whether it did.

    Args:
      step: saved at the multiples of `every`; a step at or before the latest one is not saved again.
      state: any pytree of arrays, typed PRNG keys included. It may be donated as soon as this returns.
      meta: what is needed beside the state, JSON only: configuration, seed, number of examples.
      force: saves at any step.

    Raises OSError where this or the save before could not be written.
    """
    if self._read_only:
      raise ValueError(f'{self.directory} was opened read-only')
    latest = self.latest_step()
    if (step % self._every and not force) or (latest is not None and step <= latest):
      return False
    noted = {**meta, CHECKSUM: checksum(state), STRUCTURE: _structure(state), STEP: step}
    noted = json.loads(json.dumps(noted))  # As it will be read.
    items = ocp.args.Composite(
        state=ocp.args.PyTreeSave(state), meta=ocp.args.JsonSave({**noted, SEAL: _seal(noted)}))
    with self._saving():
      return self._manager.save(step, args=items, force=True)

  def restore(self, like: Any, step: int | None = None) -> tuple[Any, dict[str, Any]]:
    """Returns the state, bit for bit, and its meta.

    Where files of the latest step are damaged, the newest step that is whole is used, and a warning says so; the
    damaged ones are renamed, so that they can be saved again, but by a reader. Several processes do not look further.

    Args:
      like: a pytree of arrays or `jax.ShapeDtypeStruct` with the structure, shapes, dtypes and shardings to restore
        to, whatever the devices that saved it; a leaf without a sharding goes to the first device.
      step: by default the latest one; one that is given has to be whole.

    Raises:
      Damaged: where no step, or not the one that is given, is whole; nothing is renamed then.
      OtherState: where the state is not like `like`.
      FileNotFoundError: where there is no checkpoint.
    """
    targets = jax.tree.map(_target, like)
    item = ocp.args.PyTreeRestore(targets, restore_args=ocp.checkpoint_utils.construct_restore_args(targets))

    def read(step: int) -> tuple[Any, dict[str, Any]]:
      meta = self._meta(step)
      self._refuse_other(step, meta.pop(STRUCTURE, None), targets)
      state = self._manager.restore(step, args=ocp.args.Composite(state=item)).state
      if meta.pop(CHECKSUM, None) not in (None, checksum(state)):
        raise ValueError('the arrays are not those that were saved: their checksum differs')
      if _structure(state) != _structure(targets):  # Keys whose description is lost come back as their words.
        raise ValueError('the arrays are not of the types that were saved')
      return state, meta

    restored, used, damaged = self._read(step, read)
    for number, error in damaged.items():
      aside = '' if self._read_only else f'set aside as {files.set_aside(self._path(number))}, and '
      log.warning('%s; %sstep %d is used instead', error, aside, used)
    if damaged and not self._read_only:
      self._manager.reload()
    return restored

  def meta(self, step: int | None = None) -> dict[str, Any]:
    """Returns the meta of a step, by default the latest whose meta is whole."""
    stored = self._read(step, self._meta)[0]
    return {key: value for key, value in stored.items() if key not in (CHECKSUM, STRUCTURE)}

  def latest_step(self) -> int | None:
    """Returns the latest step, or None; for a reader, of those on disk now."""
    return max(self.all_steps(), default=None)

  def all_steps(self) -> list[int]:
    """Returns all steps in order, the one being written included (not for a reader)."""
    if self._read_only:
      _settled(self._manager.reload)
    return sorted(self._manager.all_steps())

  def wait(self) -> None:
    """Waits until the last save is on disk, and raises OSError if it failed."""
    with self._saving():
      self._manager.wait_until_finished()
      self._manager.check_for_errors()

  def close(self) -> None:
    """Waits for the last save and lets go of the directory."""
    try:
      self.wait()
    finally:
      self._manager.close()

  def __enter__(self) -> 'Checkpoints':
    return self

  def __exit__(self, *exception) -> None:
    self.close()

  def _path(self, step: int) -> str:
    return os.path.join(self.directory, str(step))

  @contextlib.contextmanager
  def _saving(self) -> Iterator[None]:
    """Makes one error of the many that Orbax raises where it cannot write."""
    try:
      yield
    except Exception as error:
      self._manager.reload()  # What was to make room for the new one is still there.
      latest = self.latest_step()
      good = 'there is no checkpoint yet' if latest is None else f'the last good checkpoint is {latest}'
      raise OSError(f'{self.directory}: a checkpoint could not be saved: {_reason(error)}; {good}') from error

  def _meta(self, step: int) -> dict[str, Any]:
    """Returns the meta of a step with what `save` added, but the seal, which it checks."""
    stored = self._manager.restore(step, args=ocp.args.Composite(meta=ocp.args.JsonRestore())).meta
    if stored.pop(SEAL, None) not in (None, _seal(stored)):
      raise ValueError('its meta is not what was saved')
    if (saved := stored.pop(STEP, step)) != step:  # Of older checkpoints unknown.
      raise ValueError(f'it is that of step {saved}, renamed or copied')
    return stored

  def _refuse_other(self, step: int, saved: dict[str, Any] | None, targets: Any) -> None:
    """Raises OtherState if the leaves of `targets` are not those that were saved; unknown of older checkpoints."""
    wanted = _structure(targets)
    saved = wanted if saved is None else saved
    for name in saved | wanted:
      then, now = saved.get(name), wanted.get(name)
      if then != now:
        raise OtherState(f'{self._path(step)} cannot be restored: it was saved by another configuration. '
                         f'{_difference(name, then, now)}')

  def _read(self, step: int | None, read: Callable[[int], Any]) -> tuple[Any, int, dict[int, Damaged]]:
    """Returns `read(step)`, by default of the newest that is whole, its step, and the errors of those after it."""
    if not self._read_only:
      self.wait()
    steps, damaged = self.all_steps(), dict[int, Damaged]()
    if step is not None and step not in steps:
      raise FileNotFoundError(f'no checkpoint of step {step} in {self.directory}: choose one of {steps}')
    for chosen in reversed(steps) if step is None else [step]:
      try:
        return self._attempt(chosen, read), chosen, damaged
      except Damaged as error:
        if step is None and self.all_steps() != steps:  # The trainer has gone on, and deleted what the reader read.
          return self._read(None, read)
        if step is not None or jax.process_count() > 1:
          raise
        damaged[chosen] = error
    if not damaged:
      raise FileNotFoundError(f'no checkpoint in {self.directory}')
    raise Damaged(
        f'no checkpoint in {self.directory} is whole, and nothing was changed there; to start over, move that '
        f'directory away. {"; ".join(map(str, damaged.values()))}') from damaged[chosen]

  def _attempt(self, step: int, read: Callable[[int], Any]) -> Any:
    """Returns `read(step)`, or raises Damaged unless the error has another cause than the files."""
    try:
      return read(step)
    except OtherState:
      raise
    except Exception as error:
      if isinstance(error, ELSEWHERE) or _system_error(error) in ELSEWHERE_CODES:
        raise OSError(f'{self._path(step)} cannot be read: {_reason(error)}') from error
      raise Damaged(f'{self._path(step)} is damaged: {_reason(error)}') from error


def _target(leaf: Any) -> jax.ShapeDtypeStruct:
  """Returns what to restore a leaf to."""
  sharding = getattr(leaf, 'sharding', None) or jax.sharding.SingleDeviceSharding(jax.devices()[0])
  return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding)


def _structure(tree: Any) -> dict[str, Any]:
  """Returns the dtype and the shape of every leaf by its name, as JSON."""
  return {jax.tree_util.keystr(path, simple=True, separator='.'): [str(leaf.dtype), list(leaf.shape)]
          for path, leaf in jax.tree_util.tree_leaves_with_path(tree)}


def _difference(name: str, then: Any, now: Any) -> str:
  """Says how a leaf differs from what was saved."""
  if then is None or now is None:
    return f'{name} is {"not in it" if then is None else "in it alone"}'
  if then[0] != now[0]:
    return f'{name} was saved as {then[0]}, not {now[0]}'
  return f'{name} was saved in shape {tuple(then[1])}, not {tuple(now[1])}'


def _seal(meta: dict[str, Any]) -> str:
  """Returns the SHA-256 of a meta as it is read back, in hexadecimal."""
  return hashlib.sha256(json.dumps(meta, sort_keys=True).encode()).hexdigest()


def _reason(error: Exception) -> str:
  """Returns what the system says of an error, or its first line, without the layers that TensorStore adds."""
  if code := _system_error(error):
    return os.strerror(code)
  error = _cause(error)
  text = (str(error) or type(error).__name__).splitlines()[0].partition(' [')[0]
  return re.sub(r'Error opening "\w+" driver: ', '', text)[:300]


def _system_error(error: Exception) -> int | None:
  """Returns the errno of what caused an error, if it was the operating system; TensorStore writes it in its text."""
  error = _cause(error)
  code = getattr(error, 'errno', None) or re.search(r"os_error_code='(\d+)'", str(error))
  return int(code[1]) if isinstance(code, re.Match) else code


def _cause(error: Any) -> Any:
  """Returns the first of the errors that led to one another."""
  while error.__cause__ is not None:
    error = error.__cause__
  return error


def _settled(list_steps: Callable[[], Any]) -> Any:
  """Returns `list_steps()`, again where the trainer deleted a step between the two looks that Orbax takes at each."""
  for _ in range(9):
    try:
      return list_steps()
    except FileNotFoundError:
      continue
  return list_steps()


def _quietly(make: Callable[[], Any]) -> Any:
  """Returns `make()` without Orbax's warning that a read-only directory is read-only."""
  logger = logging.getLogger('absl')
  level = logger.level
  logger.setLevel(logging.ERROR)
  try:
    return make()
  finally:
    logger.setLevel(level)
