"""Commands as processes of their own, one after another, which hear the signals that this process gets."""

import os
import signal
import subprocess
from collections.abc import Sequence
from typing import Any

from jaxssl.training.interrupt import SIGNALS


class Children:
  """Within its context, SIGTERM, SIGINT and SIGHUP are handed on to the command that runs, and only noted here.

  Each command has a process group of its own: a terminal sends Ctrl-C to the whole group, and a command that heard it
  there and from here would take it for two.
  """

  def __init__(self) -> None:
    self.received: list[int] = []  # Signals, in order.
    self._process: subprocess.Popen | None = None
    self._handed_on = 0
    self._previous: dict[int, Any] = {}

  def __enter__(self) -> 'Children':
    # Which `nohup` has it ignore.
    hangup = [] if signal.getsignal(signal.SIGHUP) == signal.SIG_IGN else [signal.SIGHUP]
    for number in (*SIGNALS, *hangup):
      self._previous[number] = signal.signal(number, self._hear)
    return self

  def __exit__(self, *exception) -> None:
    for number, handler in self._previous.items():
      signal.signal(number, handler)

  def run(self, command: Sequence[str], output: str | None = None) -> int:
    """Runs a command to its end; returns its exit status, or minus the number of the signal that ended it.

    What it prints is added to the file `output`; without, it goes where this process prints. After a signal nothing is
    started any more.
    """
    if self.received:
      return -self.received[0]
    written = None if output is None else os.open(output, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666)
    try:
      self._process = subprocess.Popen(
          command, stdin=subprocess.DEVNULL, stdout=written, stderr=None if written is None else subprocess.STDOUT,
          process_group=0)
      self._hand_on()  # What came in the meantime.
      return self._process.wait()
    finally:
      self._process = None
      if written is not None:
        os.close(written)

  def _hear(self, number: int, frame: Any) -> None:
    self.received.append(number)
    self._hand_on()

  def _hand_on(self) -> None:
    while self._process is not None and self._handed_on < len(self.received):
      self._handed_on += 1
      self._process.send_signal(self.received[self._handed_on - 1])
