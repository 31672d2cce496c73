"""Checkpoints: the whole state of a run and a JSON description of it, one directory a step, written by Orbax."""

import hashlib
import logging
import os
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
from orbax.checkpoint import checkpoint_managers

from jaxssl.training import mesh

CHECKSUM = 'sha256'  # Stored beside the caller's meta.


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
  name only when it is whole, and what a killed run left unfinished is removed by the next. Use as a context manager,
  or call `close`, so that the last save ends and its errors are raised. Several processes share one directory, and
  all of them make the same calls.
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
    self._manager = _quietly(lambda: ocp.CheckpointManager(self.directory, options=options))

  def save(self, step: int, state: Any, meta: dict[str, Any], force: bool = False) -> bool:
    """Starts to save `state` after `step` updates; returns whether it did.

    Args:
      step: saved at the multiples of `every`; a step at or before the latest one is not saved again.
      state: any pytree of arrays, typed PRNG keys included. It may be donated as soon as this returns.
      meta: what is needed beside the state, JSON only: configuration, seed, number of examples. Saved with the state's
        checksum, which `restore` compares.
      force: saves at any step.
    """
    if self._read_only:
      raise ValueError(f'{self.directory} was opened read-only')
    latest = self.latest_step()
    if (step % self._every and not force) or (latest is not None and step <= latest):
      return False
    noted = {**meta, CHECKSUM: checksum(state)}
    items = ocp.args.Composite(state=ocp.args.PyTreeSave(state), meta=ocp.args.JsonSave(noted))
    return self._manager.save(step, args=items, force=True)

  def restore(self, like: Any, step: int | None = None) -> tuple[Any, dict[str, Any]]:
    """Returns the state, bit for bit, and its meta.

    Args:
      like: a pytree of arrays or `jax.ShapeDtypeStruct` with the structure, shapes, dtypes and shardings to restore
        to, whatever the devices that saved it; a leaf without a sharding goes to the first device.
      step: by default the latest one.
    """
    targets = jax.tree.map(_target, like)
    item = ocp.args.PyTreeRestore(targets, restore_args=ocp.checkpoint_utils.construct_restore_args(targets))

    def read(step: int) -> Any:
      restored = self._manager.restore(step, args=ocp.args.Composite(state=item, meta=ocp.args.JsonRestore()))
      _check_dtypes(self._manager.item_metadata(step)['state'], targets)
      if restored.meta.pop(CHECKSUM, None) not in (None, checksum(restored.state)):
        raise ValueError('the arrays are not those that were saved: their checksum differs')
      return restored

    restored = self._read(step, read)
    return restored.state, restored.meta

  def meta(self, step: int | None = None) -> dict[str, Any]:
    """Returns the meta of a step, by default the latest."""
    args = ocp.args.Composite(meta=ocp.args.JsonRestore())
    stored = self._read(step, lambda step: self._manager.restore(step, args=args)).meta
    return {key: value for key, value in stored.items() if key != CHECKSUM}

  def latest_step(self) -> int | None:
    """Returns the latest step, or None; for a reader, of those on disk now."""
    return max(self.all_steps(), default=None)

  def all_steps(self) -> list[int]:
    """Returns all steps in order, the one being written included (not for a reader)."""
    if self._read_only:
      self._manager.reload()
    return sorted(self._manager.all_steps())

  def wait(self) -> None:
    """Waits until the last save is on disk, and raises its error if it failed."""
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

  def _read(self, step: int | None, read: Callable[[int], Any]) -> Any:
    """Returns `read(step)`; a reader of the latest step goes on to the next when the trainer deletes it meanwhile."""
    if not self._read_only:
      self.wait()
    chosen = self.latest_step() if step is None else step
    if chosen is None:
      raise FileNotFoundError(f'no checkpoint in {self.directory}')
    if step is not None and step not in self.all_steps():
      raise FileNotFoundError(f'no checkpoint of step {chosen} in {self.directory}: choose one of {self.all_steps()}')
    try:
      return read(chosen)
    except Exception as error:
      if step is None and self.latest_step() != chosen:
        return self._read(None, read)
      path = os.path.join(self.directory, str(chosen))
      raise ValueError(
          f'{path} cannot be restored: it was saved by another configuration, or its files are damaged (without that '
          f'directory the run goes on from the checkpoint before). {str(error)[:500]}') from error


def _target(leaf: Any) -> jax.ShapeDtypeStruct:
  """Returns what to restore a leaf to."""
  sharding = getattr(leaf, 'sharding', None) or jax.sharding.SingleDeviceSharding(jax.devices()[0])
  return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding)


def _check_dtypes(saved: Any, targets: Any) -> None:
  """Raises where Orbax would cast. `saved` is its description of the saved state; keys are saved as their words."""
  dtypes = {leaf.name: leaf.dtype for leaf in jax.tree.leaves(saved.tree)}
  for path, target in jax.tree_util.tree_leaves_with_path(targets):
    name = jax.tree_util.keystr(path, simple=True, separator='.')
    dtype = dtypes.get(name, target.dtype)
    if dtype != target.dtype and not jnp.issubdtype(target.dtype, jax.dtypes.prng_key):
      raise ValueError(f'{name} was saved as {dtype}, not {target.dtype}')


def _quietly(make: Callable[[], Any]) -> Any:
  """Returns `make()` without Orbax's warning that a read-only directory is read-only."""
  logger = logging.getLogger('absl')
  level = logger.level
  logger.setLevel(logging.ERROR)
  try:
    return make()
  finally:
    logger.setLevel(level)
