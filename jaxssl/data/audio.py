"""Clips: random access to mono waveforms of varying length at one rate, in memory or decoded on demand."""

import dataclasses
import importlib
import os
import re
import threading
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from jaxssl import extras
from jaxssl.data import encoded
from jaxssl.data._source import require_memory

SECONDS = 0.05  # Shorter recordings are left out of folders and TFDS sets: five frames of 10 ms say nothing.
RATIO = 100  # Largest between two rates: a minute at 1 Hz would be 16,000 at 16 kHz.
UNKNOWN = 0x7FFF0000  # Bytes: from here on, what programs write that do not know yet how long a recording will be.


@dataclasses.dataclass(frozen=True, eq=False)
class Clips:
  """Random access to n waveforms, as int16 or as float32 in [-1, 1].

  Attributes:
    read: Samples `start` to `stop` of recording i, `read(i, start, stop)`, int16 or float32 [stop - start].
    rows: int64 [n]: clip i of this split is recording `rows[i]`.
    lengths: int64 [n], in samples.
    rate: Samples a second.
    dtype: Of what `read` returns.
    decoded: Whether every read decodes a file, which is then done in threads.
  """

  read: Callable[[int, int, int], np.ndarray]
  rows: np.ndarray
  lengths: np.ndarray
  rate: int
  dtype: np.dtype
  decoded: bool = False

  def __len__(self) -> int:
    return len(self.rows)

  def wave(self, index: int) -> np.ndarray:
    """The whole of one clip, float32 [lengths[index]]."""
    return to_float(self.window(index, 0, int(self.lengths[index])))

  def window(self, index: int, start: int, length: int) -> np.ndarray:
    """[length] samples of one clip from `start` on, as they are stored; zeros beyond its end."""
    stop = min(start + length, int(self.lengths[index]))
    window = np.zeros(length, self.dtype)
    if stop > start:
      window[: stop - start] = self.read(int(self.rows[index]), start, stop)
    return window

  def windows(self, indices: Any, starts: Any, length: int) -> tuple[np.ndarray, np.ndarray]:
    """Windows of the clips `indices` [k] from `starts` [k] on.

    Returns:
      The samples, [k, length] as they are stored, and bool [k, length], True where there are any.
    """
    indices, starts = np.asarray(indices), np.asarray(starts)
    waves = np.empty((len(indices), length), self.dtype)

    def fill(slot: int) -> None:
      waves[slot] = self.window(int(indices[slot]), int(starts[slot]), length)

    if self.decoded:
      encoded.in_threads(fill, len(indices))
    else:
      for slot in range(len(indices)):
        fill(slot)
    return waves, np.arange(length) < (self.lengths[indices] - starts)[:, None]

  def take(self, keep: np.ndarray) -> 'Clips':
    """The clips `keep`, an integer array, in that order."""
    return dataclasses.replace(self, rows=self.rows[keep], lengths=self.lengths[keep])


def padded(clips: Clips, indices: Any, length: int) -> tuple[np.ndarray, np.ndarray]:
  """What evaluation sees of the clips `indices` [k]: their beginnings.

  Returns:
    float32 [k, length] in [-1, 1], longer clips cut, shorter ones ending in zeros; and the mask, bool [k, length],
    False at these zeros.
  """
  waves, mask = clips.windows(indices, np.zeros(len(indices), np.int64), length)
  return to_float(waves), mask


def in_memory(audio: np.ndarray, offsets: np.ndarray, rate: int) -> Clips:
  """Clips of one array [total], int16 or float32: clip i is `audio[offsets[i]:offsets[i + 1]]`."""

  def read(i: int, start: int, stop: int) -> np.ndarray:
    return audio[offsets[i] + start : offsets[i] + stop]

  return Clips(read, np.arange(len(offsets) - 1), np.diff(offsets), rate, audio.dtype)


def joined(waves: Sequence[np.ndarray], rate: int) -> Clips:
  """Clips of a list of waveforms of one dtype, which they share."""
  lengths = np.array([len(wave) for wave in waves], np.int64)
  return Clips(lambda i, start, stop: waves[i][start:stop], np.arange(len(waves)), lengths, rate, waves[0].dtype)


class Memory:
  """Keeps waveforms as long as all of them together take no more than `encoded.MEMORY` bytes."""

  def __init__(self, n: int):
    self.waves: list[Any] = [None] * n
    self._bytes = 0
    self._lock = threading.Lock()

  def keep(self, i: int, wave: np.ndarray) -> None:
    """Keeps one waveform; those of a set that has turned out too large are let go."""
    with self._lock:
      self._bytes += wave.nbytes
      if self.fits:
        self.waves[i] = wave
      else:
        self.waves.clear()

  @property
  def fits(self) -> bool:
    """Whether all waveforms so far are here."""
    return self._bytes <= encoded.MEMORY


def too_short(samples: int, rate: int) -> str:
  """Why a recording is left out for its length; empty where it is not."""
  return f'is too short: {samples / rate:.3f} s, less than {SECONDS} s' if samples < SECONDS * rate else ''


def to_float(wave: np.ndarray) -> np.ndarray:
  """int16 samples as float32 in [-1, 1); floats as they are."""
  return wave.astype(np.float32) / np.float32(32768) if wave.dtype == np.int16 else wave.astype(np.float32)


def to_int16(wave: np.ndarray) -> np.ndarray:
  """float samples in [-1, 1] as int16; what lies beyond is clipped."""
  return np.clip(np.round(wave * 32768.0), -32768, 32767).astype(np.int16)


def mono(wave: np.ndarray) -> np.ndarray:
  """[t] or [t, channels] -> [t], the mean of the channels."""
  return wave if wave.ndim == 1 else wave.mean(axis=1, dtype=np.float32)


def resample(wave: np.ndarray, rate: int, target: int) -> np.ndarray:
  """float32 [t] at `rate` as float32 [about t * target / rate] at `target`; one may be 100 times the other."""
  if rate == target:
    return wave
  if not target / RATIO <= rate <= target * RATIO:
    raise ValueError(f'a rate of {rate:,} Hz is too far from {target:,} Hz, to which it is to be resampled')
  return require('soxr').resample(wave, rate, target).astype(np.float32)


def decode(path: str, rate: int, start: int = 0, stop: int | None = None) -> np.ndarray:
  """int16 [t]: samples `start` to `stop` of a wav, flac, ogg or mp3 file, mono, at `rate`.

  Of a wav or flac file at that rate no more than these are decoded; else the file is decoded whole and then cut.

  Raises:
    RuntimeError, OSError: where the file is no sound, or broken.
    ValueError: where it holds NaN or infinite samples, is a wav file cut short, or says that it holds more than the
      memory does.
    ImportError: where soundfile, or soxr where it is needed, is not installed.
  """
  soundfile = require('soundfile')
  try:
    opened = soundfile.SoundFile(os.fsencode(path))
  except soundfile.LibsndfileError as error:
    raise OSError(error.error_string) from error  # Without the path, which the caller knows.
  with opened as file:
    _require_whole(file)
    seekable = file.samplerate == rate and file.format in ('WAV', 'FLAC')
    require_memory(4 * file.channels * (file.frames if stop is None or not seekable else stop - start))
    if seekable:
      file.seek(start)
    wave = mono(file.read((-1 if stop is None else stop - start) if seekable else -1, 'float32', always_2d=True))
    if not np.isfinite(wave).all():
      raise ValueError('holds NaN or infinite samples')
    whole = to_int16(resample(wave, file.samplerate, rate))
  return whole if seekable else whole[start:stop]


def _require_whole(file: Any) -> None:
  """Raises ValueError where a wav file has fewer bytes of samples than its header says, as libsndfile has noted."""
  noted = re.search(r'data : (\d+) \(should be (\d+)\)', file.extra_info)
  if noted and int(noted[2]) < int(noted[1]) < UNKNOWN:
    raise ValueError(f'is cut short: its header says {noted[1]} bytes of samples, there are {noted[2]}')


def require(name: str) -> Any:
  """The module `name`, soundfile or soxr; raises ImportError, with the extra that brings it, where it is missing."""
  try:
    return importlib.import_module(name)
  except (ImportError, OSError) as error:  # OSError: soundfile without its library.
    raise ImportError(f'sound files and resampling need {name}: {extras.command("audio")} ({error})') from error
