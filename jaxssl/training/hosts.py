"""What the processes of a run on several hosts tell each other beside arrays; with a single process, nothing.

They talk through the key-value store of `jax.distributed`, which process 0 serves. As with collectives, all processes
make the same calls in the same order.
"""

import contextlib
import itertools
import json
import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NoReturn, TypeVar

import jax
import jax.numpy as jnp
from jax._src import distributed  # The client has no public name.
from jax.experimental import multihost_utils
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from jaxssl.training import mesh

T = TypeVar('T')
# Those that a user can mend, who is told the message alone.
ERRORS = (ValueError, OSError, ImportError, FloatingPointError, MemoryError)
LOST = ('Gloo', 'Connection reset', 'Connection closed', 'UNAVAILABLE', 'NCCL')  # In the errors of what met no answer.
POLL = 0.5  # Seconds between two looks at the store.
FAREWELL = 10.0  # Seconds that a process which ends waits, at most, for the others to have heard of it.
ENDED = 'jaxssl/ended'  # Holds the exit status and the message of the process that ended first.
_calls = itertools.count()
_leaving = threading.Lock()


def told(error: BaseException) -> str:
  """Returns what a user is told of `error`."""
  return f'out of memory: {error}' if isinstance(error, MemoryError) else str(error)


def first(compute: Callable[[], T]) -> T:
  """Returns on all processes what `compute()` returns on process 0, JSON; the others wait, however long it takes.

  `compute` has the devices of its own process alone. An error in it ends all processes: see `together`.
  """
  if jax.process_count() == 1:
    return compute()
  key = _next('first')
  if jax.process_index() > 0:
    return json.loads(_wait(key))
  with mesh.alone():
    found = compute()
  _client().key_value_set(key, json.dumps(found))
  return found


def in_turn(compute: Callable[[], T]) -> T:
  """Returns `compute()`, which process 0 has done before the others begin: it may prepare files that they read."""
  done = [compute()] if jax.process_index() == 0 else []
  first(lambda: None)
  return done[0] if done else compute()


def agree(facts: Mapping[str, Any]) -> None:
  """Raises ValueError, with the names, where the facts, JSON, are not those of process 0; waits for all processes."""
  if jax.process_count() == 1:
    return
  mine = json.loads(json.dumps(facts))
  theirs = first(lambda: mine)
  absent = '(absent)'
  if changes := [f'{name} is {mine.get(name, absent)!r}, not {theirs.get(name, absent)!r}'
                 for name in sorted(mine.keys() | theirs.keys()) if mine.get(name, absent) != theirs.get(name, absent)]:
    raise ValueError(f'process {jax.process_index()} differs from process 0: {"; ".join(changes)}')
  meet()


def meet() -> None:
  """Waits until all processes are here, however long that takes."""
  if jax.process_count() > 1:
    key = _next('meet')
    _client().key_value_set(f'{key}/{jax.process_index()}', 'yes')
    first(lambda: all(_wait(f'{key}/{i}') for i in range(jax.process_count())))


def anywhere(flag: bool) -> bool:
  """Returns on all processes whether the flag is set on any of them."""
  if jax.process_count() == 1:
    return flag
  key = _next('anywhere')
  _client().key_value_set(f'{key}/{jax.process_index()}', 'yes' if flag else 'no')
  return any(_wait(f'{key}/{i}') == 'yes' for i in range(jax.process_count()))


def part(status: int, message: str) -> None:
  """Tells the other processes that this one ends by a signal, so that they end with the same status.

  With status 0 it waits for them to have heard, for `FAREWELL` seconds at most; otherwise it is to end at once.
  """
  if mesh.joined():
    _leaving.acquire()
    _put(ENDED, json.dumps([status, f'process {jax.process_index()}: {message}']))
    if not status:
      _farewell()


def connect(devices: Mesh) -> None:
  """Lets all processes, and the devices that will sum and gather together, meet a first time.

  On CPUs a group of devices fails if one comes to its first meeting 30 seconds after another, as after a compilation
  that takes longer in one process; later meetings have no such limit (Gloo, seen with jaxlib 0.10.2).
  """
  if jax.process_count() == 1:
    return
  meet()
  multihost_utils.sync_global_devices('connect')
  ones = jax.jit(lambda: jnp.ones(devices.devices.shape), out_shardings=NamedSharding(devices, P('data', 'model')))()
  for axes in ('data', 'model', ('data', 'model')):
    total = jax.shard_map(lambda x, axes=axes: jax.lax.psum(x, axes), mesh=devices, in_specs=P('data', 'model'),
                          out_specs=P(*(None if name in axes else name for name in ('data', 'model'))))
    jax.block_until_ready(jax.jit(total)(ones))


@contextlib.contextmanager
def together() -> Iterator[None]:
  """The run of one process among several: only process 0 writes to standard output, and all of them end together.

  An error in one ends all with its message and exit status 1: those that compute hear of it within seconds. One that is
  killed can say nothing; the heartbeats of `jax.distributed` miss it within 100 seconds.
  """
  if jax.process_count() == 1:
    yield
    return
  over = threading.Event()
  watch = threading.Thread(target=_watch, args=(over,), daemon=True)
  watch.start()
  with contextlib.ExitStack() as stack:
    if jax.process_index() > 0:
      nowhere = stack.enter_context(open(os.devnull, 'w', encoding='utf-8'))
      stack.enter_context(contextlib.redirect_stdout(nowhere))
    try:
      yield
    except BaseException as error:
      _fail(error)
  over.set()
  watch.join()


class Stop:
  """Agrees on the step after which all processes stop, once one of them was told to; until then it costs no step.

  A thread looks at the store. When anyone was told, every process says which step it may have begun, and begins no
  further one until it knows the latest of these: that is the one to stop after. Use as a context manager.
  """

  def __init__(self, told: Callable[[], bool], start: int):
    """`told()` says whether this process was told to stop; `start` is the number of steps done before."""
    self._told, self._step = told, start
    self._asked = False
    self._last: int | None = None
    self._changed, self._over = threading.Condition(), threading.Event()
    self._name = _next('stop')

  def __enter__(self) -> 'Stop':
    if jax.process_count() > 1:
      threading.Thread(target=self._listen, daemon=True).start()
    return self

  def __exit__(self, *exception) -> None:
    self._over.set()

  def after(self, step: int) -> bool:
    """Returns whether to stop after `step` steps; to be asked after each step that another one may follow."""
    if jax.process_count() == 1:
      return self._told()
    with self._changed:
      self._step = step
      if self._asked:
        self._changed.wait_for(lambda: self._last is not None)
      return self._last is not None and step >= self._last

  def _listen(self) -> None:
    while not self._over.wait(POLL):
      if self._told():
        _put(f'{self._name}/asked', 'yes')
      if _look(f'{self._name}/asked') is not None:
        break
    else:
      return
    with self._changed:
      self._asked, begun = True, self._step + 1
    _put(f'{self._name}/{jax.process_index()}', str(begun))
    last = max(int(_wait(f'{self._name}/{i}')) for i in range(jax.process_count()))
    with self._changed:
      self._last = last
      self._changed.notify_all()


def _watch(over: threading.Event) -> None:
  """Ends this process when another one has failed."""
  while not over.wait(POLL):
    if (ended := _look(ENDED)) is not None:
      _leaving.acquire()
      status, message = json.loads(ended)
      _leave(message, status)


def _fail(error: BaseException) -> NoReturn:
  """Tells the other processes of an error in this one, and ends it."""
  interrupted, plain = isinstance(error, KeyboardInterrupt), isinstance(error, ERRORS)
  if not (interrupted or plain):
    time.sleep(3 * POLL)  # What fails where another process has gone: if that one said why, this one is told.
  _leaving.acquire()  # For good: nothing else ends the process now.
  what = 'interrupted' if interrupted else told(error)
  if isinstance(error, jax.errors.JaxRuntimeError) and any(word in what for word in LOST):
    what = ('another process of the run has ended, or can no longer be reached; the same command goes on from the last '
            f'checkpoint ({what.splitlines()[0]})')
  elif not (interrupted or plain):
    traceback.print_exception(error)
    what = f'{type(error).__name__}: {(what.splitlines() or [""])[0]}'
  status = 128 + signal.SIGINT if interrupted else 1
  _put(ENDED, json.dumps([status, f'{"" if interrupted else "error: "}process {jax.process_index()}: {what}']))
  _leave(what if interrupted else f'error: {what}', status)


def _leave(message: str, status: int) -> NoReturn:
  """Ends the process without the way out of JAX, on which it would wait for the others for minutes."""
  sys.stdout.flush()
  print(message, file=sys.stderr, flush=True)
  _farewell()
  os._exit(status)


def _farewell() -> None:
  """Waits until all processes know that the run ends, but not for long."""
  with contextlib.suppress(jax.errors.JaxRuntimeError):
    _client().wait_at_barrier('jaxssl/leave', int(1000 * FAREWELL))
  if jax.process_index() == 0:
    time.sleep(4 * POLL)  # Without its service the others, if still on their way out, would be aborted by JAX.


def _client() -> Any:
  return distributed.global_state.client


def _next(name: str) -> str:
  """Returns a key that no other call has, but the same call has on the other processes."""
  return f'jaxssl/{name}/{next(_calls)}'


def _put(key: str, value: str) -> None:
  """Sets a key unless it is set already."""
  with contextlib.suppress(jax.errors.JaxRuntimeError):
    _client().key_value_set(key, value)


def _look(key: str) -> str | None:
  """Returns the value of a key, or None where there is none yet."""
  try:
    return _client().key_value_try_get(key)
  except jax.errors.JaxRuntimeError:
    return None


def _wait(key: str) -> str:
  """Returns the value of a key as soon as there is one; a second at a time, so that signals are heard."""
  while True:
    try:
      return _client().blocking_key_value_get(key, 1000)
    except jax.errors.JaxRuntimeError as error:
      if 'DEADLINE_EXCEEDED' not in str(error):
        raise
