"""Audio data sets of TensorFlow Datasets, by name, in a fixed order and with random access."""

import dataclasses
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from jaxssl.data import audio, tfds_source
from jaxssl.data._source import Source, split_off

SPEAKERS = ('speaker_id', 'speaker')  # Features that say who speaks: LibriSpeech's is the first.


def load(name: str | None, path: str | None, split: str, rate: int) -> Source:
  """One split of a TFDS audio data set, mono and at `rate`; `path` is TFDS's data directory (None: its default).

  'pretrain' and 'train' are TFDS's 'train', or its first split of such a name (LibriSpeech's 'train_clean100'); 'test'
  is 'test' or 'validation'. Without either a fifth of every class is held out, of every speaker where there are no
  classes. 'spoken_digit' has no test split: its speakers' takes 0 to 4 of every digit are the customary one.

  Speakers, where the data set tells them, are the groups. Recordings shorter than `audio.SECONDS` are counted and left
  out (`Source.skipped`). Up to `encoded.MEMORY` bytes, as int16, they stay in memory; beyond that they are read when
  used, which takes a copy prepared as ArrayRecord. A data set that is not prepared is downloaded.

  Raises:
    ValueError: where the name is unknown, the data set has no audio or no split for training, is damaged, or too
      large to be read without random access.
    FileNotFoundError: where it is not prepared and cannot be downloaded.
    ImportError: where TFDS is not installed, or soxr where it is needed.
  """
  tfds = tfds_source.module()
  dataset = _open(tfds, name, tfds_source.open_builder(tfds, name, path), rate)
  part, test = _part(dataset, split)
  tfds_source.require_examples(dataset.builder, part)
  clips, columns = _read(dataset, part)
  reasons = [audio.too_short(int(length), rate) for length in clips.lengths]
  keep = np.flatnonzero([not reason for reason in reasons])
  labels, class_names = _labels(dataset, columns['label'])
  groups, group_names = _numbered(columns['speaker'])
  if dataset.takes:
    keep = keep[(np.array(columns['take'])[keep] < 5) == (split == 'test')]
  elif not test:
    strata = groups if labels is None else labels
    keep = keep[split_off(split, len(keep), None if strata is None else strata[keep])]
  return Source(
    str(name), clips.take(keep), None if labels is None else labels[keep], class_names,
    skipped=tuple((f'example {i}', reason) for i, reason in enumerate(reasons) if reason),
    groups=None if groups is None else groups[keep], group_names=group_names)


@dataclasses.dataclass(frozen=True)
class _Dataset:
  """A prepared TFDS data set, the keys of its audio, label and speaker, and how to read it."""

  tfds: Any
  builder: Any
  rate: int  # Asked for.
  audio: str
  label: str | None
  speaker: str | None
  takes: bool  # Whether the file's name tells speaker and take: {digit}_{speaker}_{take}.wav.

  def examples(self, part: str) -> Iterator[dict[str, Any]]:
    """The examples of a TFDS split in the order of its files."""
    return tfds_source.examples(self.tfds, self.builder, part, (self.audio, self.label, self.speaker))

  def wave(self, example: dict[str, Any]) -> np.ndarray:
    """int16 [t]: the waveform of an example, mono, at `rate`."""
    wave, stored = np.asarray(example[self.audio]), self.builder.info.features[self.audio].sample_rate
    if np.issubdtype(wave.dtype, np.integer):
      if wave.size and (wave.min() < -32768 or wave.max() > 32767):
        raise ValueError(f'{self.builder.info.full_name}: samples from {wave.min()} to {wave.max()} are not 16-bit')
      wave = wave.astype(np.int16)
    if stored == self.rate and wave.ndim == 1 and wave.dtype == np.int16:
      return wave
    return audio.to_int16(audio.resample(audio.mono(audio.to_float(wave)), stored, self.rate))

  def about(self, example: dict[str, Any]) -> dict[str, Any]:
    """Label, speaker and take of an example, None where unknown."""
    label = example[self.label] if self.label else None
    if self.takes:
      _, speaker, take = example['audio/filename'].decode().removesuffix('.wav').split('_')
      return {'label': label, 'speaker': speaker, 'take': int(take)}
    speaker = example[self.speaker] if self.speaker else None
    return {'label': label, 'speaker': speaker.decode() if isinstance(speaker, bytes) else speaker, 'take': None}


def _open(tfds: Any, name: str | None, builder: Any, rate: int) -> _Dataset:
  features = builder.info.features
  waves = [key for key, feature in features.items() if isinstance(feature, tfds.features.Audio)]
  labels = [key for key, feature in features.items() if isinstance(feature, tfds.features.ClassLabel)]
  if not waves:
    raise ValueError(f'name={name!r} has no audio; its features are {", ".join(features)}')
  chosen = tfds_source.first(waves, 'audio')
  if not features[chosen].sample_rate:
    raise ValueError(f'name={name!r} does not tell the sample rate of its audio; write it to an .npz file')
  return _Dataset(
    tfds, builder, rate, chosen, tfds_source.first(labels, 'label') if labels else None,
    next((key for key in SPEAKERS if key in features), None), builder.name == 'spoken_digit')


def _part(dataset: _Dataset, split: str) -> tuple[str, bool]:
  """The TFDS split to read, and whether all of it belongs to `split`."""
  splits = list(dataset.builder.info.splits)
  train = next((each for each in ('train', *sorted(splits)) if each in splits and each.startswith('train')), None)
  if train is None:
    full_name = dataset.builder.info.full_name
    raise ValueError(f"{full_name} has no split 'train', only {', '.join(map(repr, splits))}")
  test = next((each for each in tfds_source.TEST_SPLITS if each in splits), None)
  return (test or train) if split == 'test' else train, test is not None


def _read(dataset: _Dataset, part: str) -> tuple[audio.Clips, dict[str, list[Any]]]:
  """The clips of a TFDS split, in memory if they fit, and what is known of them, a list for each of `about`'s keys."""
  n = dataset.builder.info.splits[part].num_examples
  memory, lengths, about = audio.Memory(n), [], []
  for i, example in enumerate(dataset.examples(part)):
    wave = dataset.wave(example)
    memory.keep(i, wave)
    lengths.append(len(wave))
    about.append(dataset.about(example))
    if not memory.fits and not tfds_source.random_access(dataset.builder):
      raise ValueError(tfds_source.too_large(dataset.builder, part))
  read = (lambda i, start, stop: memory.waves[i][start:stop]) if memory.fits else _reader(dataset, part)
  clips = audio.Clips(
    read, np.arange(n), np.array(lengths, np.int64), dataset.rate, np.dtype(np.int16), decoded=not memory.fits)
  return clips, {key: [each[key] for each in about] for key in ('label', 'speaker', 'take')}


def _reader(dataset: _Dataset, part: str) -> Callable[[int, int, int], np.ndarray]:
  """What reads a part of a recording from disk."""
  with tfds_source.reading(dataset.builder, part):
    records = dataset.builder.as_data_source(part)

  def read(i: int, start: int, stop: int) -> np.ndarray:
    with tfds_source.reading(dataset.builder, part):
      return dataset.wave(records[i])[start:stop]

  return read


def _labels(dataset: _Dataset, values: list[Any]) -> tuple[np.ndarray | None, tuple[str, ...]]:
  """int64 [n] and the classes' names; none where a label is missing, which TFDS writes as -1."""
  if dataset.label is None or min(values, default=0) < 0:
    return None, ()
  return np.array(values, np.int64), tuple(dataset.builder.info.features[dataset.label].names)


def _numbered(speakers: list[Any]) -> tuple[np.ndarray | None, tuple[str, ...]]:
  """Speakers as numbers from 0, and their names."""
  if None in speakers or not speakers:
    return None, ()
  names, numbers = np.unique(np.array(speakers), return_inverse=True)
  return numbers.astype(np.int64), tuple(map(str, names))
