"""Stopping a command cleanly on SIGTERM (a scheduler) or SIGINT (Ctrl-C), whatever it is doing."""

import os
import signal
import sys
import threading
from collections.abc import Callable
from typing import Any

SIGNALS = (signal.SIGTERM, signal.SIGINT)


class Interrupt:
  """Within its context, the first SIGTERM or SIGINT ends the process with exit status 0, and a second one at once.

  The first ends it at once too, and says what that means, `says`, unless the command is on `hold`, since it has
  something to save: then it only sets `received`. A thread hears the signals: Python's own handlers would wait until
  a compilation is over. Never entered, it does nothing.
  """

  def __init__(self, says: str = '', ending: Callable[[int, str], None] = lambda status, message: None) -> None:
    """Sets what a signal means at first: a sentence that ends the line, as 'the same command starts again.'

    `ending(status, message)` is called before the process ends, to tell the other processes of its run.
    """
    self.received: str | None = None  # The signal's name.
    self._says, self._held, self._ending = says, False, ending
    self._lock = threading.Lock()
    self._previous: dict[int, Any] = {}

  def __enter__(self) -> 'Interrupt':
    hears, self._told = os.pipe()
    os.set_blocking(self._told, False)
    self._wakeup = signal.set_wakeup_fd(self._told, warn_on_full_buffer=False)
    for number in SIGNALS:
      self._previous[number] = signal.signal(number, lambda number, frame: None)
    threading.Thread(target=self._listen, args=(hears,), name='jaxssl-interrupt', daemon=True).start()
    return self

  def __exit__(self, *exception) -> None:
    while self._previous:
      number, handler = self._previous.popitem()
      signal.signal(number, handler)
    signal.set_wakeup_fd(self._wakeup)
    os.close(self._told)  # Which ends the thread.

  def hold(self) -> None:
    """From now on there is something to save: the first signal only sets `received`."""
    with self._lock:
      self._held = True

  def release(self, says: str) -> None:
    """From now on all is saved, and the first signal ends the process; `says` what that means."""
    with self._lock:
      self._says, self._held = says, False

  def _listen(self, hears: int) -> None:
    while heard := os.read(hears, 1):
      if heard[0] in SIGNALS:
        self._receive(signal.Signals(heard[0]))
    os.close(hears)

  def _receive(self, number: signal.Signals) -> None:
    with self._lock:
      if self.received is not None:
        self._end(128 + number, f'{number.name}: stopped at once.')
      self.received = number.name
      if not self._held:
        self._end(0, f'{number.name}: {self._says}')
    _tell(f'{number.name}: stopping after this step, to save it; once more stops at once.')

  def _end(self, status: int, message: str) -> None:
    """Ends the process without its exit handlers: an ordinary exit would pull down a computation that is running."""
    _tell(message)
    sys.stdout.flush()
    self._ending(status, message)
    os._exit(status)


def _tell(message: str) -> None:
  print(f'\n{message}', file=sys.stderr, flush=True)
