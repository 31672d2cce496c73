"""Image data sets of TensorFlow Datasets, by name, in a fixed order and with random access."""

import contextlib
import dataclasses
import os
import re
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from jaxssl import extras
from jaxssl.data import encoded
from jaxssl.data._source import Source, check_choice, reason, split_off
from jaxssl.data._tensorflow import tensorflow

# A name, a config and a version: not a namespace, since of that TFDS fetches code and runs it.
NAME = re.compile(r'\w+(/[\w.+@-]+)*(:[\d.*]+)?')
TEST_SPLITS = ('test', 'validation')  # The first whose labels are known: ImageNet's are only for 'validation'.


def load(name: str | None, path: str | None, split: str, size: int | None = None) -> Source:
  """One split of a TFDS data set; `path` is TFDS's data directory (None: its default).

  'train' is TFDS's 'train', 'test' is 'test', or 'validation' where 'test' has no labels; 'pretrain' adds 'unlabelled'
  to 'train' where there is one beside a test split (STL-10). Without a test split a fifth of every class of 'train' is
  held out. A data set that is not prepared is downloaded.

  Up to `encoded.MEMORY` bytes the images stay in memory as arrays (where they have one size, or are given `size`), or
  as encoded bytes; beyond that they are read when used, which takes a copy prepared as ArrayRecord. Labels of such a
  copy are not read for 'pretrain'.

  Raises:
    ValueError: where the name is unknown, the data set has no images or no 'train' split, is damaged, or too large to
      be read without random access.
    FileNotFoundError: where it is not prepared and cannot be downloaded.
    ImportError: where TFDS is not installed.
  """
  tfds = module()
  dataset = _open(tfds, name, path)
  part, whole = _part(dataset, split)
  require_examples(dataset.builder, part)
  images, labels = _read(dataset, part, size, with_labels=not whole or split != 'pretrain')
  if labels is not None and labels.min(initial=0) < 0:
    labels = None
  if not whole:
    keep = split_off(split, len(images), labels)
    images = images[keep] if isinstance(images, np.ndarray) else images.take(keep)
    labels = None if labels is None else labels[keep]
  return Source(str(name), images, labels, () if labels is None else dataset.class_names)


def module() -> Any:
  """TensorFlow Datasets; raises ImportError, with the extra that brings it, where it is missing."""
  tensorflow()
  try:
    import tensorflow_datasets as tfds
  except ImportError as error:
    raise ImportError(f'this needs TensorFlow Datasets: {extras.command("data")} ({error})') from error
  return tfds


@dataclasses.dataclass(frozen=True)
class _Dataset:
  """A prepared TFDS data set, the keys of its image and label, and how to read it."""

  tfds: Any
  builder: Any
  image: str
  label: str | None

  @property
  def feature(self) -> Any:
    return self.builder.info.features[self.image]

  @property
  def class_names(self) -> tuple[str, ...]:
    return tuple(self.builder.info.features[self.label].names)

  @property
  def random_access(self) -> bool:
    return random_access(self.builder)

  def examples(self, part: str) -> Iterator[dict[str, Any]]:
    """The examples of a TFDS split in the order of its files, images as encoded bytes."""
    decoders = {self.image: self.tfds.decode.SkipDecoding()}
    return examples(self.tfds, self.builder, part, (self.image, self.label), decoders=decoders)

  def decoded(self, part: str) -> Iterator[dict[str, Any]]:
    """The examples of a TFDS split of images of one size, in the same order, decoded and in batches."""
    keys = self.image, self.label
    if self.random_access:
      return ({key: np.asarray(value)[None] for key, value in example.items()}
              for example in examples(self.tfds, self.builder, part, keys))
    return examples(self.tfds, self.builder, part, keys, batch_size=1000)


def random_access(builder: Any) -> bool:
  """Whether the examples of a prepared data set can be read in any order."""
  return builder.info.file_format.value == 'array_record'


def examples(
  tfds: Any, builder: Any, part: str, keys: tuple[str | None, ...], **arguments: Any
) -> Iterator[dict[str, Any]]:
  """The examples of a TFDS split in the order of its files; `arguments` are those of `as_dataset`.

  Raises:
    ValueError: where a file is damaged or missing, or an example has nothing under one of `keys`.
  """
  with reading(builder, part):
    if random_access(builder):
      records = builder.as_data_source(part, **arguments)
      found = (records[i] for i in range(len(records)))
    else:
      config = tfds.ReadConfig(try_autocache=False, interleave_cycle_length=1)
      dataset = builder.as_dataset(split=part, shuffle_files=False, read_config=config, **arguments)
      found = iter(tfds.as_numpy(dataset))
    for i, example in enumerate(found):
      if any(example[key] is None for key in keys if key):  # As of an ArrayRecord that is cut short.
        raise ValueError(f'example {i} is empty')
      yield example


@contextlib.contextmanager
def reading(builder: Any, part: str) -> Iterator[None]:
  """Raises ValueError, with the data set, where a file is damaged or missing: TFDS raises errors of many kinds."""
  try:
    yield
  except Exception as error:
    why = re.sub(r'{{.*?}} ?', '', f'{type(error).__name__}: {reason(error)}')  # Without TensorFlow's operations.
    raise ValueError(
      f'name={builder.info.full_name!r}: the split {part!r} in {builder.data_dir} cannot be read; prepare it again. '
      f'{why}') from error


def require_examples(builder: Any, part: str) -> None:
  """Raises ValueError where a TFDS split is empty."""
  if not builder.info.splits[part].num_examples:
    raise ValueError(f'name={builder.info.full_name!r}: the split {part!r} in {builder.data_dir} is empty')


def open_builder(tfds: Any, name: str | None, path: str | None) -> Any:
  """The builder of a data set, prepared; `load` has the errors."""
  if not name:
    raise ValueError(f"name={name!r}: source='tfds' needs the name of a data set, as 'cifar10'")
  if not NAME.fullmatch(name):
    raise ValueError(f"name={name!r} is not the name of a TFDS data set, such as 'cifar10' or 'cifar10:3.0.2'")
  if path and not os.path.isdir(path):
    raise FileNotFoundError(f'path={path!r}: there is no such directory of TFDS data sets')
  try:
    builder = tfds.builder(name, data_dir=path)
  except tfds.core.DatasetNotFoundError as error:
    check_choice('name', name.split(':')[0].split('/')[0], tfds.list_builders())
    raise ValueError(f'name={name!r}: {error}') from error
  except Exception as error:  # A damaged dataset_info.json or features.json, a version that is not there.
    raise ValueError(f'name={name!r} cannot be opened: {type(error).__name__}: {reason(error)}') from error
  if not builder.is_prepared():
    _prepare(builder, name)
  return builder


def _open(tfds: Any, name: str | None, path: str | None) -> _Dataset:
  builder = open_builder(tfds, name, path)
  features = builder.info.features
  images = [key for key, feature in features.items() if isinstance(feature, tfds.features.Image)]
  labels = [key for key, feature in features.items() if isinstance(feature, tfds.features.ClassLabel)]
  if not images or features[first(images, 'image')].np_dtype != np.uint8:
    raise ValueError(f'name={name!r} has no 8-bit images; its features are {", ".join(features)}')
  return _Dataset(tfds, builder, first(images, 'image'), first(labels, 'label') if labels else None)


def first(keys: list[str], preferred: str) -> str:
  """`preferred` where it is among `keys`, otherwise the first of them."""
  return preferred if preferred in keys else keys[0]


def _prepare(builder: Any, name: str) -> None:
  try:
    builder.download_and_prepare()
  except Exception as error:  # A failed download, a missing manual download, no space: TFDS raises many kinds.
    raise FileNotFoundError(
      f'name={name!r} is not prepared in {builder.data_dir} and could not be downloaded. Prepare it where there is a '
      f'network and copy the folder, or set data.path to the directory that holds it. {type(error).__name__}: '
      f'{reason(error)}'
    ) from error


def _part(dataset: _Dataset, split: str) -> tuple[str, bool]:
  """The TFDS split to read, and whether all of it belongs to `split`."""
  splits = dataset.builder.info.splits
  if 'train' not in splits:
    raise ValueError(f"{dataset.builder.info.full_name} has no split 'train', only {', '.join(map(repr, splits))}")
  test = next((each for each in TEST_SPLITS if each in splits and _labelled(dataset, each)), None)
  if split == 'test' and test is not None:
    return test, True
  if split == 'pretrain' and 'unlabelled' in splits and test is not None:
    return 'train+unlabelled', True
  return 'train', test is not None


def _labelled(dataset: _Dataset, part: str) -> bool:
  """Whether labels of a TFDS split are known: not -1. True of a set without labels, and of an empty split."""
  if dataset.label is None or not dataset.builder.info.splits[part].num_examples:
    return True
  return next(dataset.examples(f'{part}[:1]'))[dataset.label] >= 0


def _read(dataset: _Dataset, part: str, size: int | None, with_labels: bool) -> tuple[Any, np.ndarray | None]:
  """Images and labels of a TFDS split, in memory as far as they fit."""
  info = dataset.builder.info.splits[part]
  shape = dataset.feature.shape
  channels = shape[-1] or 3
  if info.num_bytes > encoded.MEMORY:
    return _stream(dataset, part, size, channels, with_labels)
  if None not in shape and info.num_examples * np.prod(shape) <= encoded.MEMORY:
    return _arrays(dataset, part)
  contents, labels = [], []
  for example in dataset.examples(part):
    contents.append(example[dataset.image])
    labels.append(example[dataset.label] if dataset.label else -1)
  images = _encoded(contents.__getitem__, len(contents), size, channels)
  known = np.array(labels, np.int64) if dataset.label else None
  with reading(dataset.builder, part):  # And decoding.
    return (images[:] if images.fits() else images), known


def _arrays(dataset: _Dataset, part: str) -> tuple[np.ndarray, np.ndarray | None]:
  """Images of one size, uint8 [n, h, w, c], and their labels."""
  images, labels = [], []
  for batch in dataset.decoded(part):
    images.append(batch[dataset.image])
    if dataset.label:
      labels.append(batch[dataset.label])
  return np.concatenate(images), np.concatenate(labels).astype(np.int64) if dataset.label else None


def too_large(builder: Any, part: str) -> str:
  """Says what to do about a TFDS split that neither fits in memory nor has random access."""
  info = builder.info
  return (
    f'{info.full_name} ({info.splits[part].num_bytes / 2**30:.0f} GiB) is too large to be held in memory, and '
    f'{builder.data_dir} ({info.file_format.value}) has no random access. Prepare it as ArrayRecord in '
    f'another directory, DIR, and set data.path=DIR: '
    f"tfds.builder({info.name!r}, data_dir=DIR, file_format='array_record').download_and_prepare()"
  )


def _stream(
  dataset: _Dataset, part: str, size: int | None, channels: int, with_labels: bool
) -> tuple[encoded.EncodedImages, np.ndarray | None]:
  """Images read from disk when used."""
  if not dataset.random_access:
    raise ValueError(too_large(dataset.builder, part))
  labels = None
  if with_labels and dataset.label:
    labels = np.array([example[dataset.label] for example in dataset.examples(part)], np.int64)
  decoders = {dataset.image: dataset.tfds.decode.SkipDecoding()}
  with reading(dataset.builder, part):
    records = dataset.builder.as_data_source(part, decoders=decoders)

  def read(i: int) -> bytes:
    with reading(dataset.builder, part):
      return records[i][dataset.image]

  return _encoded(read, len(records), size, channels), labels


def _encoded(read: Callable[[int], bytes], n: int, size: int | None, channels: int) -> encoded.EncodedImages:
  return encoded.EncodedImages(read, np.arange(n), size, channels, np.ones(n, bool))
