"""Scalars as TensorBoard events."""

import os
import struct
import time
from collections.abc import Mapping
from typing import Any

from jaxssl.training import files


class Events:
  """A file of events, each of them in the file once it is written.

  tensorboardX's own writer is not used: after a disk was full once, it waits without end.
  """

  def __init__(self, directory: str, start: int):
    """Opens a new file in `directory`, which hides events after the step `start`; ImportError without tensorboardX."""
    from tensorboardX.proto import event_pb2, summary_pb2
    from tensorboardX.record_writer import masked_crc32c

    self._event, self._summary, self._crc = event_pb2.Event, summary_pb2.Summary, masked_crc32c
    os.makedirs(directory, exist_ok=True)
    self._path = os.path.join(directory, f'events.out.tfevents.{time.time_ns() // 1000}.{os.getpid()}')
    with files.writing(self._path):
      self._file = open(self._path, 'wb')  # noqa: SIM115
    begins = event_pb2.SessionLog(status=event_pb2.SessionLog.START)
    self._append({'file_version': 'brain.Event:2'}, {'step': start + 1, 'session_log': begins})

  def write(self, step: int, values: Mapping[str, float]) -> None:
    """Adds the scalars of a step."""
    scalars = [self._summary.Value(tag=name, simple_value=value) for name, value in values.items()]
    self._append({'step': step, 'summary': self._summary(value=scalars)})

  def close(self) -> None:
    """Closes the file."""
    with files.writing(self._path):
      self._file.close()  # Which tries once more to write what could not be written.

  def _append(self, *events: dict[str, Any]) -> None:
    records = [self._event(wall_time=time.time(), **event).SerializeToString() for event in events]
    with files.writing(self._path):
      self._file.write(b''.join(map(self._framed, records)))
      self._file.flush()

  def _framed(self, record: bytes) -> bytes:
    """Returns a record between its length and its checksum, each with their own, as in a TFRecord."""
    length = struct.pack('<Q', len(record))
    checksums = (struct.pack('<I', self._crc(each)) for each in (length, record))
    return length + next(checksums) + record + next(checksums)
