"""How well inputs are made again: figures of every example, averaged over a test set, beside what needs no learning."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxssl import losses
from jaxssl.evaluation.features import batches, extract, flatten, shared_size, to_float
from jaxssl.evaluation.pca import PCA
from jaxssl.evaluation.table import NONE, Row
from jaxssl.training import mesh

Score = Callable[[Any, Any, jax.Array], dict[str, jax.Array]]  # (state, inputs [b, ...], key) -> figures [b]
ACTIVE = 0.01  # Variance of a latent dimension's mean from which it is in use: Burda et al., section 5.2.


def per_example(score: Score) -> Score:
  """Returns `score` as a function of the state, inputs [b, ...] and keys [b], each of which is for one example alone.

  So a figure depends on the example and its key, and not on the batch that it happens to be in.
  """

  def one(state, example, key):
    figures = score(state, jax.tree.map(lambda x: x[None], example), key)
    for name, figure in figures.items():
      if figure.shape != (1,):
        raise ValueError(f'score must return [b] for b inputs, got {name} of shape {list(figure.shape)} for b = 1')
    return {name: figure[0].astype(jnp.float32) for name, figure in figures.items()}

  return jax.vmap(one, in_axes=(None, 0, 0))


def average(
    score: Callable[[Any, jax.Array], Mapping[str, jax.Array]], images: Any, *, seed: int = 0, batch_size: int = 256
) -> dict[str, float]:
  """Returns the mean over all `images` of each figure.

  Args:
    score: a function of images [b, ...] in [0, 1] and keys [b] that returns figures [b] by name; best jitted. The key
      of an example is that of its position.
    images: n images: an array, or anything with `len()` and `images[index array]`.
    seed: of the keys.
    batch_size: images per call, the last batch padded by repetition; it does not matter to the result.

  Raises:
    ValueError: if there are no images.
    FloatingPointError: if a figure is NaN or infinite.
  """
  if not len(images):
    raise ValueError('images is empty: there is nothing to reconstruct')
  sums: dict[str, float] = {}
  for batch, keys, count in _batches(images, seed, batch_size):
    for name, figure in score(to_float(batch), keys).items():
      sums[name] = sums.get(name, 0.0) + float(np.sum(mesh.to_host(figure)[:count], dtype=np.float64))
  broken = [name for name, value in sums.items() if not np.isfinite(value)]
  if broken:
    raise FloatingPointError(f'{", ".join(broken)} of the test set is not finite')
  return {name: value / len(images) for name, value in sums.items()}


def _batches(images: Any, seed: int, batch_size: int) -> Iterator[tuple[Any, jax.Array, int]]:
  """Yields images, their keys and how many of them are not there already."""
  key_of = jax.jit(jax.vmap(jax.random.fold_in, in_axes=(None, 0)))
  key = jax.random.key(seed)
  done = 0
  for batch, positions in batches(images, batch_size):
    yield batch, key_of(key, positions), min(shared_size(batch_size), len(images) - done)
    done += shared_size(batch_size)


def squared_error(reconstruct: Callable[[jax.Array], jax.Array], adapt: Callable[[Any], Any]):
  """Returns what `average` takes for a function of x [b, p]: the squared error, averaged over the p values."""

  @jax.jit
  def score(images, keys):
    del keys
    x = flatten(adapt(images))
    return {'squared_error': jnp.mean(jnp.square(reconstruct(x) - x), axis=1)}

  return score


def baselines(pca: PCA) -> dict[str, Callable[[jax.Array], jax.Array]]:
  """Returns reconstructions of x [b, p] that need no learning: the mean of the training set, and PCA's."""
  return {
      'mean': lambda x: jnp.broadcast_to(pca.mean[None], x.shape),
      'pca': lambda x: pca.decode(pca.encode(x)),
  }


def usage(codes: Callable[[Any], jax.Array], images: Any, size: int, batch_size: int = 256) -> np.ndarray:
  """Returns how often each of a codebook's `size` entries stands for something in `images`, int64 [size].

  `codes` is a function of images [b, ...] in [0, 1] that returns indices, int32 [b, ...].
  """
  encode = lambda batch: (lambda found: found.reshape(found.shape[0], -1))(codes(batch))
  found = extract(encode, images, batch_size=batch_size)  # float32 holds integers up to 2**24.
  return np.bincount(found.astype(np.int64).ravel(), minlength=size)


def of_codebook(counts: np.ndarray) -> dict[str, float]:
  """Returns the share of a codebook's entries that are used at all, and the perplexity of their use, in [1, size]."""
  return {'codebook_use': float(np.mean(counts > 0)),
          'codebook_perplexity': float(losses.codebook_perplexity(jnp.asarray(counts, jnp.float32)))}


def active_units(means: np.ndarray) -> np.ndarray:
  """Returns which latent dimensions are in use, bool [d]: the posterior's means [n, d] vary by more than 0.01.

  Burda, Grosse, Salakhutdinov 2015, https://arxiv.org/abs/1509.00519, section 5.2: the variance, over x, of
  E[z | x].
  """
  return np.var(means, axis=0, dtype=np.float64) > ACTIVE


def rows(figures: Mapping[str, float], features: str, **common: Any) -> list[Row]:
  """Returns a row a figure; 'error_of_mean_patch' is that of the baseline 'mean_patch', in a row with 'error'."""
  found = []
  for name, value in figures.items():
    metric, _, baseline = name.partition('_of_')
    found.append({'protocol': 'reconstruction', 'label': NONE, 'split': 'test', 'representation': NONE,
                  'features': baseline or features, 'metric': metric, 'value': value, **common})
  return found
