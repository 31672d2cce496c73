"""Metrics on disk, as JSON lines, CSV and TensorBoard events, and progress on the terminal."""

import csv
import io
import json
import logging
import math
import os
import sys
import time
from collections.abc import Mapping
from typing import Any, Protocol, TextIO

import jax
from tqdm import tqdm

from jaxssl.training import files
from jaxssl.training.tensorboard import Events

log = logging.getLogger(__name__)
Row = dict[str, Any]


class MetricLogger:
  """Writes a row of metrics at a time to metrics.jsonl and metrics.csv in a work directory.

  With tensorboardX installed, also to tensorboard/. JSON has no NaN and no infinity: they become null, and an empty
  cell of the CSV. In a run over several hosts only the first process writes.
  """

  def __init__(self, workdir: str | os.PathLike, start: int = 0):
    """Opens the files for a run that goes on from step `start`.

    Rows after `start`, which a run writes between its last checkpoint and its end by a kill, are dropped along with a
    last line cut short, so that every curve has one value a step. A file with other lines that cannot be read is set
    aside as it is.
    """
    self._active = jax.process_index() == 0
    if not self._active:
      return
    self._jsonl, self._csv = (os.path.join(workdir, name) for name in ('metrics.jsonl', 'metrics.csv'))
    os.makedirs(workdir, exist_ok=True)
    rows = _load(self._jsonl)
    if len(rows) < _count_lines(self._jsonl):
      log.warning('%s is damaged: set aside as %s, and the lines that can be read are kept',
                  self._jsonl, files.set_aside(self._jsonl))
    rows = [row for row in rows if row['step'] <= start]
    files.replace(self._jsonl, ''.join(map(_line, rows)))
    self._write_csv(rows)
    self._events = _tensorboard(os.path.join(workdir, 'tensorboard'), start)

  def write(self, step: int, metrics: Mapping[str, Any]) -> None:
    """Adds a row of scalars after `step` updates. Values still on the device are waited for, here and only here."""
    if not self._active:
      return
    values = {name: float(value) for name, value in metrics.items()}
    row: Row = {'step': int(step)}
    row |= {name: value if math.isfinite(value) else None for name, value in values.items()}
    files.append(self._jsonl, _line(row))
    if set(row) <= set(self._columns):
      files.append(self._csv, _table(self._columns, [row]))
    else:
      self._write_csv(_load(self._jsonl))
    if self._events is not None:
      self._events.write(step, values)

  def close(self) -> None:
    """Closes the file of TensorBoard events."""
    if self._active and self._events is not None:
      self._events.close()

  def __enter__(self) -> 'MetricLogger':
    return self

  def __exit__(self, *exception) -> None:
    self.close()

  def _write_csv(self, rows: list[Row]) -> None:
    """Writes the whole CSV, with the columns of all rows in the order in which they first appeared."""
    self._columns = list(dict.fromkeys(['step', *(name for row in rows for name in row)]))
    head = _table(self._columns, [dict(zip(self._columns, self._columns, strict=True))])
    files.replace(self._csv, head + _table(self._columns, rows))


def read(workdir: str | os.PathLike) -> list[Row]:
  """Returns the rows of a run, `step` and its metrics, also while it is still writing; NaN for what is not finite."""
  rows = _load(os.path.join(workdir, 'metrics.jsonl'))
  return [{name: math.nan if value is None else value for name, value in row.items()} for row in rows]


def _load(path: str) -> list[Row]:
  """Returns the rows of a file of JSON lines that are whole and as `MetricLogger` writes them."""
  if not os.path.exists(path):
    return []
  rows = []
  with open(path, encoding='utf-8', errors='replace') as file:
    for line in file:
      try:
        row = json.loads(line)
      except (ValueError, RecursionError):
        continue
      if line.endswith('\n') and _is_row(row):
        rows.append(row)
  return rows


def _is_row(row: Any) -> bool:
  """Whether it is a step and numbers, null where they were not finite, by names that can be printed."""
  if not isinstance(row, dict) or type(row.get('step')) is not int or row['step'] < 0:
    return False
  values = [value for value in row.values() if value is not None]
  numbers = all(type(value) in (int, float) and abs(value) <= sys.float_info.max for value in values)
  return numbers and all(map(str.isprintable, row))


def _line(row: Row) -> str:
  return json.dumps(row, allow_nan=False) + '\n'


def _table(columns: list[str], rows: list[Row]) -> str:
  """Returns rows as lines of CSV."""
  text = io.StringIO()
  csv.DictWriter(text, columns, lineterminator='\n').writerows(rows)
  return text.getvalue()


def _count_lines(path: str) -> int:
  """Returns how many lines of a file are ended."""
  if not os.path.exists(path):
    return 0
  with open(path, 'rb') as file:
    return sum(line.endswith(b'\n') for line in file)


def _tensorboard(directory: str, start: int) -> Events | None:
  """Returns where the events after `start` go, or None without tensorboardX."""
  try:
    return Events(directory, start)
  except ImportError:
    return None


class Progress(Protocol):
  """Shows how far a run is; a context manager."""

  def __enter__(self) -> 'Progress': ...

  def __exit__(self, *exception) -> None: ...

  def update(self, step: int, metrics: Mapping[str, float]) -> None:
    """Shows the step with its `loss`, `images_per_second` and the accuracies of online evaluation, where present."""

  def say(self, message: str) -> None:
    """Prints a line."""


def progress(total: int, start: int = 0, stream: TextIO | None = None, interval: float = 15.0) -> Progress:
  """Returns the progress of a run of `total` steps that goes on from `start`.

  Args:
    total: steps in the run.
    start: steps done before.
    stream: where to write, standard error by default: a bar on a terminal, lines in a file.
    interval: seconds between lines in a file.
  """
  stream = sys.stderr if stream is None else stream
  if jax.process_index() > 0:
    return Lines(total, stream, math.inf)
  return Bar(total, start, stream) if stream.isatty() else Lines(total, stream, interval)


class Bar:
  """A progress bar."""

  def __init__(self, total: int, start: int, stream: TextIO):
    self._bar = tqdm(total=total, initial=start, file=stream, unit='step', dynamic_ncols=True)

  def __enter__(self) -> 'Bar':
    return self

  def __exit__(self, *exception) -> None:
    self._bar.close()

  def update(self, step: int, metrics: Mapping[str, float]) -> None:
    self._bar.set_postfix_str(', '.join(_figures(metrics)), refresh=False)
    self._bar.update(step - self._bar.n)

  def say(self, message: str) -> None:
    self._bar.write(message, file=self._bar.fp)


class Lines:
  """A line at the first update, at most one every `interval` seconds, and one at the end."""

  def __init__(self, total: int, stream: TextIO, interval: float):
    self._total, self._stream, self._interval = total, stream, interval
    self._shown = -math.inf
    self._first: tuple[int, float] | None = None

  def __enter__(self) -> 'Lines':
    return self

  def __exit__(self, *exception) -> None:
    self._stream.flush()

  def update(self, step: int, metrics: Mapping[str, float]) -> None:
    now = time.monotonic()
    if math.isinf(self._interval) or (now - self._shown < self._interval and step < self._total):
      return
    self._shown = now
    self.say(', '.join([f'step {step}/{self._total}', *_figures(metrics), *self._left(step, now)]))

  def _left(self, step: int, now: float) -> list[str]:
    """Returns the time left, from the second line on: compilation came before the first."""
    if self._first is None:
      self._first = step, now
      return []
    first, began = self._first
    remaining = (self._total - step) * (now - began) / max(step - first, 1)
    return [f'{tqdm.format_interval(remaining)} left']

  def say(self, message: str) -> None:
    if not math.isinf(self._interval):
      print(message, file=self._stream, flush=True)


def _figures(metrics: Mapping[str, float]) -> list[str]:
  """Returns what to show of the metrics."""
  shown = (('loss', 'loss {:.4f}'), ('online_knn_accuracy', 'k-NN {:.3f}'), ('online_linear_accuracy', 'linear {:.3f}'),
           ('images_per_second', '{:,.0f} examples/s'))
  return [text.format(float(metrics[name])) for name, text in shown if name in metrics]
