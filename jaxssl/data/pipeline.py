"""Batches as a pure function of (seed, step, slot): there is no iterator state, so a resume at any step is exact."""

import collections
import concurrent.futures
import functools
import itertools
from collections.abc import Callable, Generator

import jax
import numpy as np

from jaxssl.data._source import Source, Views, check_choice
from jaxssl.data.audio import Clips
from jaxssl.recipes import ENGINES, Audio, Paired, Recipe

PREFETCH = 2  # Batches made ahead of the one in use.

Batch = dict[str, np.ndarray | tuple[np.ndarray, ...]]
Seed = int | tuple[int, int] | jax.Array


def batches(
  source: Source,
  recipe: Recipe | Audio | Paired,
  *,
  engine: str,
  seed: Seed,
  batch_size: int,
  start: int = 0,
  host: int = 0,
  hosts: int = 1,
  parallelism: int | None = None,
) -> Generator[Batch, None, None]:
  """This host's part of every batch from step `start` on, without end; close the iterator when done.

  Whatever `parallelism`, `start` and `hosts`, the stream is the same: the hosts' parts, concatenated, are the batch of
  one host.

  Args:
    source: Images, for the engines 'host' and 'split' of any sizes; audio, with a recipe for audio at its rate; or
      paired views, with a recipe for them.
    recipe: The views to make.
    engine: 'device': no views, only `inputs`, for `jaxssl.augment` to make them; needs NumPy alone. 'host': finished
      `views` from tf.data. 'split': `views` cropped and flipped by tf.data, still to be recoloured on the device.
    seed: An integer, a typed JAX key, or the key's two words.
    batch_size: Examples of the global batch.
    start: The first step.
    host: This host's number, from 0.
    hosts: How many hosts share a batch.
    parallelism: Images that tf.data works on at once; None lets it choose.

  Returns:
    An iterator of dicts: `index` int32 [b], b = batch_size / hosts; `label` and `group` int32 [b] where known; `inputs`
    uint8 [b, h, w, c]; and with the engines 'host' and 'split' `views`, a tuple of uint8 [b, size, size, c]. Of audio,
    `inputs` int16 or float32 [b, recipe.span] from a random start in each clip, and `mask`, bool of the same shape:
    False where the clip is over and samples are zeros. Of paired views, `inputs` is a tuple of arrays [b, ...].

  Raises:
    ValueError: where the examples are fewer than the batch (one would be its own negative), the hosts do not divide
      it, or source and recipe do not fit; ImportError where tf.data is asked for and TensorFlow is missing.
  """
  check_choice('engine', engine, ENGINES)
  key_words = words(seed)
  positions(start, batch_size, host, hosts)
  if batch_size > len(source):
    raise ValueError(f'batch_size={batch_size} is more than the {len(source)} examples of {source.name!r}')
  if isinstance(recipe, Audio) or isinstance(source.inputs, Clips):
    recipe = _check_audio(source, recipe, engine)
    return _prefetch(functools.partial(_windows, source, recipe, key_words, batch_size, host=host, hosts=hosts), start)
  if isinstance(source.inputs, Views) and not isinstance(recipe, Paired):
    raise ValueError(f"recipe: {source.name!r} holds paired views, which need the recipe 'paired'")
  if isinstance(recipe, Paired) and not isinstance(source.inputs, Views):
    raise ValueError(f"recipe: 'paired' is for paired views, which {source.name!r} does not hold")
  if engine == 'device':
    make = functools.partial(_device_batch, source, key_words, batch_size, host=host, hosts=hosts)
    return _prefetch(make, start)
  if not isinstance(recipe, Recipe):
    raise ValueError(f"engine={engine!r} makes views of single images; the one for paired views is 'device'")
  from jaxssl.data import tf_pipeline

  stream = tf_pipeline.stream(source, recipe, engine, key_words, batch_size, start, host, hosts, parallelism)
  return (_with_labels(source, batch) for batch in stream)


def indices(seed: Seed, step: int, batch_size: int, num_examples: int, host: int = 0, hosts: int = 1) -> np.ndarray:
  """int64 [batch_size / hosts]: the examples of this host's part of the batch of `step`.

  The stream is one permutation of the examples after another; a batch may lie across two of them.
  """
  place = positions(step, batch_size, host, hosts)
  epochs, offsets = np.divmod(place, num_examples)
  key_words = words(seed)
  chosen = np.empty_like(place)
  for epoch in np.unique(epochs):
    here = epochs == epoch
    chosen[here] = _permutation(key_words, num_examples, int(epoch))[offsets[here]]
  return chosen


def positions(step: int, batch_size: int, host: int = 0, hosts: int = 1) -> np.ndarray:
  """int64 [batch_size / hosts]: where this host's part of the batch of `step` stands in the stream."""
  if batch_size < 1:
    raise ValueError(f'batch_size={batch_size} must be at least 1')
  if step < 0:
    raise ValueError(f'step={step} must be at least 0')
  if hosts < 1 or not 0 <= host < hosts:
    raise ValueError(f'host={host} must be from 0 to hosts - 1, with hosts={hosts}')
  if batch_size % hosts:
    raise ValueError(f'batch_size={batch_size} is not divisible by hosts={hosts}')
  local = batch_size // hosts
  return np.arange(local, dtype=np.int64) + (step * batch_size + host * local)


def jitter_orders(seed: Seed, step: int, views: int) -> np.ndarray:
  """int32 [views, 4]: for each view of the batch of `step`, the order of the colour jitter's four changes."""
  generator = _generator(words(seed), stream=1, counter=step)
  return np.stack([generator.permutation(4) for _ in range(views)]).astype(np.int32)


def window_starts(
  seed: Seed, step: int, batch_size: int, room: np.ndarray, host: int = 0, hosts: int = 1
) -> np.ndarray:
  """int64 [batch_size / hosts]: where the windows of this host's part of the batch of `step` start.

  Each is uniform from 0 to `room` [batch_size / hosts], both included: the samples by which a clip is longer than its
  window, 0 where it is not.
  """
  local = len(positions(step, batch_size, host, hosts))
  u = _generator(words(seed), stream=2, counter=step).random(batch_size)[host * local : (host + 1) * local]
  return np.floor(u * (room + 1)).astype(np.int64)


def words(seed: Seed) -> tuple[int, int]:
  """The two 32-bit words of a seed: an integer, or a (typed) JAX key; `jax.random.key(n)` is the seed n."""
  if isinstance(seed, tuple):
    return seed
  if isinstance(seed, int | np.integer):
    if not 0 <= seed < 2**63:
      raise ValueError(f'seed={seed} must be from 0 to 2**63 - 1')
    return int(seed) >> 32, int(seed) & 0xFFFFFFFF
  data = np.asarray(jax.random.key_data(seed) if jax.dtypes.issubdtype(seed.dtype, jax.dtypes.prng_key) else seed)
  if data.shape != (2,):
    raise ValueError(f'seed must be an integer or one threefry key of two words, got key data of shape {data.shape}')
  return int(data[0]), int(data[1])


@functools.lru_cache(maxsize=2)
def _permutation(key_words: tuple[int, int], num_examples: int, epoch: int) -> np.ndarray:
  """int64 [num_examples]: the order of one epoch."""
  order = _generator(key_words, stream=0, counter=epoch).permutation(num_examples)
  order.flags.writeable = False
  return order


def _generator(key_words: tuple[int, int], stream: int, counter: int) -> np.random.Generator:
  """A counter-based generator of its own for every (key, stream, counter)."""
  key, start = np.array(key_words, np.uint64), np.array([0, 0, stream, counter], np.uint64)
  return np.random.Generator(np.random.Philox(key=key, counter=start))


def _device_batch(
  source: Source, key_words: tuple[int, int], batch_size: int, step: int, *, host: int, hosts: int
) -> Batch:
  index = indices(key_words, step, batch_size, len(source), host, hosts)
  return _with_labels(source, {'index': index.astype(np.int32), 'inputs': source.inputs[index]})


def _check_audio(source: Source, recipe: Recipe | Audio | Paired, engine: str) -> Audio:
  """The recipe, where it fits the source."""
  if not isinstance(recipe, Audio):
    raise ValueError(f'recipe: {source.name!r} is audio, which needs a recipe for audio, got one for images')
  if not isinstance(source.inputs, Clips):
    raise ValueError(f'recipe: {source.name!r} holds images, which need a recipe for images, got one for audio')
  if source.inputs.rate != recipe.rate:
    raise ValueError(f'recipe: its rate is {recipe.rate}, that of {source.name!r} {source.inputs.rate}')
  if engine != 'device':
    raise ValueError(f"engine={engine!r} makes views of images; the one for audio is 'device'")
  return recipe


def _windows(
  source: Source, recipe: Audio, key_words: tuple[int, int], batch_size: int, step: int, *, host: int, hosts: int
) -> Batch:
  index = indices(key_words, step, batch_size, len(source), host, hosts)
  room = np.maximum(source.inputs.lengths[index] - recipe.window, 0)
  starts = window_starts(key_words, step, batch_size, room, host, hosts)
  inputs, mask = source.inputs.windows(index, starts, recipe.span)
  return _with_labels(source, {'index': index.astype(np.int32), 'inputs': inputs, 'mask': mask})


def _with_labels(source: Source, batch: Batch) -> Batch:
  known = {'label': source.labels, 'group': source.groups}
  index = batch['index']
  return {**batch, **{key: values[index].astype(np.int32) for key, values in known.items() if values is not None}}


def _prefetch(make: Callable[[int], Batch], start: int) -> Generator[Batch, None, None]:
  """`make(step)` from `start` on, made ahead in a thread that ends with the iterator."""
  pool = concurrent.futures.ThreadPoolExecutor(1, thread_name_prefix='jaxssl-prefetch')
  try:
    ahead = collections.deque(pool.submit(make, step) for step in range(start, start + PREFETCH))
    for step in itertools.count(start + PREFETCH):
      batch = ahead.popleft().result()
      ahead.append(pool.submit(make, step))
      yield batch
  finally:
    pool.shutdown(wait=True, cancel_futures=True)
