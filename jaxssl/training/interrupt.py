"""Stopping a run cleanly on SIGTERM (a scheduler) or SIGINT (Ctrl-C)."""

import signal
import sys
from typing import Any


class Interrupt:
  """Within its context, the first SIGTERM or SIGINT only sets `received`; a second one stops the process at once."""

  def __init__(self) -> None:
    self.received: str | None = None  # The signal's name.
    self._previous: dict[int, Any] = {}

  def __enter__(self) -> 'Interrupt':
    for number in (signal.SIGTERM, signal.SIGINT):
      self._previous[number] = signal.signal(number, self._receive)
    return self

  def __exit__(self, *exception) -> None:
    self._restore()

  def _receive(self, number: int, frame: object) -> None:
    del frame
    self.received = signal.Signals(number).name
    message = f'\n{self.received}: stopping after this step, to save it; once more stops at once.'
    print(message, file=sys.stderr, flush=True)
    self._restore()

  def _restore(self) -> None:
    while self._previous:
      number, handler = self._previous.popitem()
      signal.signal(number, handler)
