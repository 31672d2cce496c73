"""What a run says while it trains: metrics, health, speed, and the stop at a loss that is not finite."""

import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import jax
import numpy as np

from jaxssl.evaluation import geometry
from jaxssl.training.logging import MetricLogger, Progress

PATIENCE = 10  # Unhealthy records in a row before a warning.


class Timed:
  """Passes an iterable on and adds up the seconds spent waiting for it."""

  def __init__(self, iterable: Iterable[Any]):
    self.iterable, self.seconds = iterable, 0.0

  def __iter__(self) -> Iterator[Any]:
    iterator = iter(self.iterable)
    while True:
      began = time.perf_counter()
      try:
        item = next(iterator)
      except StopIteration:
        return
      finally:
        self.seconds += time.perf_counter() - began
      yield item


class Readable:
  """Passes examples on and ends at the first error, which it keeps: what has been learnt until then can be saved."""

  def __init__(self, examples: Iterable):
    self.examples = examples
    self.error: Exception | None = None

  def __iter__(self) -> Iterator[Any]:
    try:
      yield from self.examples
    except Exception as error:  # Of many kinds: of the file system, Pillow, TensorFlow.
      self.error = error

  def complain(self, saved: int | None) -> None:
    """Raises OSError with that error, where `saved` is the last step that is."""
    kept = 'no step is saved' if saved is None else f'step {saved} is saved, and the same command goes on from there'
    reason = str(self.error).partition('\n')[0] or type(self.error).__name__
    raise OSError(f'the data can no longer be read: {reason}; {kept}') from self.error


class Recorder:
  """Collects metrics on the device and reads them once an interval, so that no step waits for the host."""

  def __init__(
      self, logger: MetricLogger, bar: Progress, batches: Timed, batch_size: int, schedules: Mapping[str, Callable],
      health: Callable | None, online: Callable | None = None):
    """Says what is recorded, and where.

    Args:
      logger: writes the rows.
      bar: shows them.
      batches: what the loop reads; knows how long it has waited.
      batch_size: examples a step.
      schedules: name -> function of the step.
      health: (state, batch, step) -> figures of the embedding by name; None without any.
      online: (step, state) -> figures of online evaluation by name; None without any.
    """
    self.logger, self.bar, self.batches, self.batch_size = logger, bar, batches, batch_size
    self.schedules, self.health, self.online = schedules, health, online
    self._shown: dict[str, float] = {}  # The last values of online evaluation.
    self._pending: list[dict[str, jax.Array]] = []
    self._began, self._waited = time.perf_counter(), batches.seconds
    self._bad = 0  # Records in a row with an unhealthy embedding.

  def add(self, metrics: dict[str, jax.Array]) -> None:
    """Takes the metrics of one step, still on the device."""
    self._pending.append(metrics)

  def write(self, step: int, state: Any, batch: Any) -> None:
    """Logs the means since the last call, the schedules, the speed, and the health of the state after `step` steps.

    Where online evaluation is due, its figures too. Neither it nor the health counts as time of training.
    """
    if not self._pending:
      return
    rows = jax.device_get(self._pending)
    check_finite(step, state, rows)
    now = time.perf_counter()
    seconds, waited = now - self._began, self.batches.seconds - self._waited
    record = {name: float(np.mean([row[name] for row in rows])) for name in rows[0]}
    record |= {name: float(schedule(step - 1)) for name, schedule in self.schedules.items()}
    record |= {'images_per_second': len(rows) * self.batch_size / seconds, 'data_wait_fraction': waited / seconds}
    if self.health is not None:
      record |= {name: float(value) for name, value in self.health(state, batch, step - 1).items()}
      self._warn(step, geometry.warning(record))
    if self.online is not None:
      self._shown |= (evaluated := self.online(step, state))
      record |= evaluated
    self.logger.write(step, record)
    self.bar.update(step, {**self._shown, **record})
    self._pending = []
    self._began, self._waited = time.perf_counter(), self.batches.seconds

  def _warn(self, step: int, message: str | None) -> None:
    """Prints a warning of collapse once it has lasted, since every run starts near one, and again when it is over."""
    if message and self._bad + 1 == PATIENCE:
      self.bar.say(f'step {step}: {message}')
    elif not message and self._bad >= PATIENCE:
      self.bar.say(f'step {step}: the embedding has recovered')
    self._bad = self._bad + 1 if message else 0


def check_finite(step: int, state: Any, rows: list[dict[str, Any]]) -> None:
  """Raises FloatingPointError if the state stopped at a loss that was not finite; `rows` are the last metrics."""
  failed = int(state.failed_step)
  if failed < 0:
    return
  row = rows[failed - step] if step - len(rows) <= failed else {}
  values = {name: float(row.get(name, np.nan)) for name in ('loss', 'gradient_norm')}
  # Of a method with several updates, another's may be the one.
  values |= {name: float(value) for name, value in row.items() if np.ndim(value) == 0 and not np.isfinite(value)}
  found = ', '.join(f'{name.replace("_", " ")} = {value}' for name, value in values.items())
  if all(map(np.isfinite, values.values())):  # Of a critic's updates the metrics are the last's.
    found = f'in an earlier update of the step than that with {found}'
  raise FloatingPointError(f'the loss or its gradient was not finite at step {failed + 1}: {found}')
