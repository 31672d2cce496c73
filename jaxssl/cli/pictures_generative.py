"""The pictures of a generative method: what it makes of test examples and of its prior, and how it uses its code."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxssl import evaluation
from jaxssl.build import Source
from jaxssl.cli import measure_generative, pictures_samples, runs
from jaxssl.evaluation import features, plots, plots_generative, reconstruction
from jaxssl.evaluation.subsets import evenly_spread

EXAMPLES, STEPS = 12, 10  # Images drawn; between a pair of them.
DIMENSIONS, POINTS = 10, 2000  # Latent dimensions that are varied; examples that the statistics of the code are of.
DEVIATIONS = np.arange(-3, 4)

File = Callable[[str], str]
Found = dict[str, str]


def draw(run: runs.Run, test: Source, file: File) -> Found:
  """Draws whatever the method can: reconstructions, interpolation, samples, the latent space; the files by caption."""
  method = run.experiment.method
  found: Found = {}
  if not any(hasattr(method, name) for name in ('reconstruct', 'sample', 'decode', 'latent_kl', 'codes')):
    return found
  see = jax.jit(lambda images: measure_generative.adapter(run)(evaluation.to_float(images)))
  inputs = see(test.inputs[evenly_spread(len(test), EXAMPLES)])  # As the encoder sees them.
  examples = np.asarray(jax.tree.leaves(inputs)[0])
  if hasattr(method, 'reconstruct'):
    found |= _reconstructions(run, inputs, file('reconstructions.png'))
  if hasattr(method, 'sample') and examples.ndim == 4:
    pictures_samples.painter(run, examples.shape[1:])(run.state, file('samples.png'))
    found['Samples from the prior'] = file('samples.png')
    found |= pictures_samples.interpolations(run, examples.shape[1:], file('latents.png'))
  if measure_generative.decodes(method) and examples.ndim == 4:
    z, decode = _code(run, inputs)
    if len(z) > 1:
      found |= _interpolations(examples, z, decode, file('interpolations.png'))
    if not hasattr(method, 'codes'):  # Which are discrete.
      found |= _traversals(run, test, z[len(z) // 2], decode, file('traversals.png'))
  if measure_generative.sizes(run, test, method.representations[0]).code - _categories(method) == 2:
    found |= _code_map(run, test, file('codes.png'))
  if hasattr(method, 'latent_kl'):
    plots_generative.latent_kl(_latent_kl(run, test), file('latent_kl.png'))
    found[f'KL of each latent dimension, on test {run.examples}'] = file('latent_kl.png')
  if hasattr(method, 'codes') and hasattr(method, 'num_codes'):
    found |= _codebook(run, test, file('codebook.png'))
  return found


def _few(source: Source) -> Source:
  """Returns a source of at most so many examples as statistics need."""
  chosen = evenly_spread(len(source), POINTS)
  labels = None if source.labels is None else source.labels[chosen]
  return Source(source.name, features.Subset(source.inputs, chosen), labels)


def _reconstructions(run: runs.Run, inputs: Any, path: str) -> Found:
  method: Any = run.experiment.method
  made = jax.jit(method.reconstruct)(run.state, inputs, jax.random.key(run.config.seed))
  original = {'original': jax.tree.leaves(inputs)[0]}
  # What a method was given, where that is not the original, stands above what it made of it.
  rows = {name: np.asarray(x) for name, x in ({**original, **made} if len(made) == 1 else {**made, **original}).items()}
  if rows['original'].ndim == 4:
    plots_generative.sheet({name: list(images) for name, images in rows.items()}, path)
  else:
    plots_generative.curves(rows, path)
  return {f'Reconstructions of test {run.examples}': path}


def _code(run: runs.Run, inputs: Any) -> tuple[np.ndarray, Callable[[np.ndarray], np.ndarray]]:
  """Returns z [k, d] of inputs [k, ...], and a function of any z [n, d] that makes inputs [n, ...] of them."""
  method: Any = run.experiment.method
  shape = jax.tree.leaves(inputs)[0].shape[1:]
  z = jax.jit(lambda state, x: method.represent(state, x, 'z'))(run.state, inputs)
  decode = jax.jit(lambda state, z: method.decode(state, z, shape))
  return np.asarray(z), lambda z: np.asarray(decode(run.state, jnp.asarray(z, jnp.float32)))


def _interpolations(examples: np.ndarray, z: np.ndarray, decode: Callable, path: str) -> Found:
  half = len(z) // 2
  weight = np.linspace(0, 1, STEPS)[None, :, None]
  between = (1 - weight) * z[:half, None] + weight * z[half:2 * half, None]
  made = decode(between.reshape(-1, z.shape[1])).reshape(half, STEPS, *examples.shape[1:])
  rows = [[examples[i], *made[i], examples[half + i]] for i in range(half)]
  plots_generative.sheet(rows, path, heads=('test', *[''] * STEPS, 'test'), divided=(1, STEPS + 1))
  return {f'From one test image to another, along the line between their codes z ({STEPS} steps)': path}


def _traversals(run: runs.Run, test: Source, z: np.ndarray, decode: Callable, path: str) -> Found:
  method: Any = run.experiment.method
  every = measure_generative.encoded(run, _few(test), lambda x: method.represent(run.state, x, 'z'))
  every = every[:, :every.shape[1] - _categories(method)]
  deviation = every.std(axis=0)
  told = hasattr(method, 'latent_kl')
  information = _latent_kl(run, test) if told else deviation**2
  best = np.argsort(-information, kind='stable')[:DIMENSIONS]
  moved = np.tile(z, (len(best), len(DEVIATIONS), 1))
  for row, dimension in enumerate(best):
    moved[row, :, dimension] += DEVIATIONS * deviation[dimension]
  made = decode(moved.reshape(-1, len(z)))
  made = made.reshape(len(best), len(DEVIATIONS), *made.shape[1:])
  measure = 'KL' if told else 'variance'
  plots_generative.sheet(
      {f'z{dimension}: {measure} {information[dimension]:.2g}': made[row] for row, dimension in enumerate(best)},
      path, heads=[f'{each:+d} σ'.replace('-', '−') if each else 'as it is' for each in DEVIATIONS])
  kind = 'the largest KL' if told else 'most variance'
  return {f'A test image with one latent dimension varied; those of {kind}, σ over the test set': path}


def _categories(method: Any) -> int:
  """Returns how many of the last numbers of z are the probabilities of clusters, which do not vary one by one."""
  return getattr(method, 'categories', 0)


def _code_map(run: runs.Run, test: Source, path: str) -> Found:
  """Draws codes z of two dimensions of test examples where they are, coloured by class."""
  method: Any = run.experiment.method
  few = _few(test)
  z = measure_generative.encoded(run, few, lambda x: method.represent(run.state, x, 'z'))[:, :2]
  caption = f'Codes z of test {run.examples}, as they are'
  plots.embedding_map(z, few.labels, path, class_names=test.class_names, title=caption)
  return {caption: path}


def _latent_kl(run: runs.Run, test: Source) -> np.ndarray:
  """Returns the mean KL of each latent dimension, [d], in nats."""
  method: Any = run.experiment.method
  return measure_generative.encoded(run, _few(test), lambda x: method.latent_kl(run.state, x)).mean(axis=0)


def _codebook(run: runs.Run, test: Source, path: str) -> Found:
  counts = measure_generative.codebook(run, run.state, test)
  figures = reconstruction.of_codebook(counts)
  plots_generative.codebook(
      counts, path, f'{np.count_nonzero(counts):,} of {len(counts):,} entries used, perplexity '
      f'{figures["codebook_perplexity"]:.1f}')
  return {f'Use of the codebook, on test {run.examples}': path}
