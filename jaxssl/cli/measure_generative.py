"""Measures what a generative method makes of inputs, and of its code: the rows of the protocol 'reconstruction'.

Such a method has `score`; what else it has (`decode`, `latent_kl`, `codes`) decides what else is measured. One with
`clusters` also has rows of the protocol 'clustering', where there are labels.
"""

import functools
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from jaxssl import evaluation, schema
from jaxssl.build import Experiment, Source
from jaxssl.cli.runs import Run
from jaxssl.evaluation import pca, reconstruction
from jaxssl.evaluation.clustering import clustering_accuracy
from jaxssl.evaluation.subsets import evenly_spread
from jaxssl.evaluation.table import NONE, Row

PROTOCOL = 'reconstruction'


class Sizes(NamedTuple):
  """How many numbers an input, a representation and a code have."""

  inputs: int  # Of a flat input.
  representation: int  # Of the one that is evaluated.
  code: int  # Of z, which is decoded; 0 without one, and where it is of discrete entries of a codebook.


def check(options: ConfigDict, experiment: Experiment) -> None:
  """Raises ValueError if the protocol is asked of a method that does not reconstruct, or its options are out of range.

  Where its section is absent there are no options.
  """
  if PROTOCOL in options.protocols and not hasattr(experiment.method, 'score'):
    raise ValueError(f'config.evaluation.protocols: {PROTOCOL!r} is for methods that reconstruct their inputs; '
                     f'{type(experiment.method).__name__} does not')
  section = options.get(PROTOCOL, {})
  schema.check_type(f'config.evaluation.{PROTOCOL}', section, Mapping)
  if unknown := set(section) - {'samples'}:
    raise ValueError(f'config.evaluation.{PROTOCOL} has samples alone; got {", ".join(map(repr, sorted(unknown)))}')
  samples = section.get('samples', 1)
  if type(samples) is not int or samples < 1:
    raise ValueError(f'config.evaluation.{PROTOCOL}.samples must be an integer from 1 on, got {samples!r}')


def trace(experiment: Experiment, state: Any, inputs: Any) -> None:
  """Traces what a method can do with `inputs`, shapes or arrays, so that an error shows before training."""
  method: Any = experiment.method
  key = jax.random.key(0)
  keys = jax.random.split(key, jax.tree.leaves(inputs)[0].shape[0])
  if hasattr(method, 'score'):
    jax.eval_shape(reconstruction.per_example(method.score), state, inputs, keys)
  if hasattr(method, 'reconstruct'):
    jax.eval_shape(method.reconstruct, state, inputs, key)
  for name in ('latent_kl', 'codes', *(['clusters'] if clusters(method) else [])):
    if hasattr(method, name):
      jax.eval_shape(getattr(method, name), state, inputs)
  if decodes(method):
    shape = jax.tree.leaves(inputs)[0].shape
    made = jax.eval_shape(lambda state, x: method.decode(state, method.represent(state, x, 'z'), shape[1:]),
                          state, inputs)
    if made.shape != shape:
      raise ValueError(f'decode must return inputs, {list(shape)}, got shape {list(made.shape)}')
  if hasattr(method, 'sample'):
    _trace_samples(method, state, jax.tree.leaves(inputs)[0].shape[1:])


def _trace_samples(method: Any, state: Any, shape: tuple[int, ...]) -> None:
  makers = {'sample': lambda state: method.sample(state, jax.random.key(0), 2, shape)}
  if generates(method):
    makers['generate'] = lambda state: method.generate(state, method.latents(jax.random.key(0), 2), shape)
  for name, make in makers.items():
    made = jax.eval_shape(make, state)
    if made.shape != (2, *shape):
      raise ValueError(f'{name} must return inputs, {[2, *shape]}, got shape {list(made.shape)}')


def generates(method: Any) -> bool:
  """Whether a method makes inputs of draws of z, and shows these."""
  return hasattr(method, 'generate') and hasattr(method, 'latents')


def decodes(method: Any) -> bool:
  """Whether a method makes inputs of a code z."""
  return hasattr(method, 'decode') and 'z' in method.representations


def clusters(method: Any) -> bool:
  """Whether a method sorts inputs into clusters."""
  return hasattr(method, 'clusters') and method.categories > 0


def adapter(run: Run) -> Callable[[Any], Any]:
  """Returns what brings images [b, h, w, c] in [0, 1], or a tuple of views, to what the encoder was trained on."""
  return functools.partial(evaluation.adapt, recipe=run.experiment.recipe, channels=run.channels)


def sizes(run: Run, source: Source, name: str) -> Sizes:
  """Returns the sizes that PCA has to match; `name` is the representation that is evaluated."""
  method, adapt = run.experiment.method, adapter(run)
  seen = jax.eval_shape(lambda images: adapt(evaluation.to_float(images)), source.inputs[np.arange(1)])
  size = lambda of: jax.eval_shape(of, run.state, seen).shape[1]
  continuous = decodes(method) and not hasattr(method, 'codes')
  return Sizes(
      size(lambda _, x: evaluation.flatten(x)),
      size(lambda state, x: method.represent(state, x, name)),
      size(lambda state, x: method.represent(state, x, 'z')) if continuous else 0)


def fit_pca(run: Run, train: Source, size: Sizes) -> pca.PCA:
  """Fits PCA on training inputs, as the encoder sees them, for the larger of the representation and the code."""
  chosen = evenly_spread(len(train), min(pca.LIMIT, max(pca.MOST_VALUES // size.inputs, 1)))
  adapt = adapter(run)
  x = evaluation.extract(
      jax.jit(lambda images: evaluation.flatten(adapt(images))), evaluation.Subset(train.inputs, chosen),
      batch_size=run.config.evaluation.batch_size)
  return pca.fit(x, max(size.representation, size.code))


def pca_encoder(run: Run, basis: pca.PCA) -> Callable[[Any], jax.Array]:
  """Returns a function of images [b, h, w, c] of any size, or views: their principal components."""
  adapt = adapter(run)
  return jax.jit(lambda images: basis.encode(evaluation.flatten(adapt(images))))


def measure(run: Run, test: Source, basis: pca.PCA, size: Sizes) -> list[Row]:
  """Returns the rows of the protocol: of the random and the trained state, of PCA and of the training mean."""
  method: Any = run.experiment.method
  options = run.config.evaluation
  samples = options.get(PROTOCOL, {}).get('samples', 1)
  common = {'seed': run.config.seed, 'num_test': len(test), 'samples': samples}
  adapt = adapter(run)
  per_example = reconstruction.per_example(functools.partial(method.score, samples=samples))
  score = jax.jit(lambda state, images, keys: per_example(state, adapt(images), keys))
  average = functools.partial(
      reconstruction.average, images=test.inputs, seed=run.config.seed,
      batch_size=max(1, options.batch_size // samples))
  found: dict[str, list[Row]] = {}
  for features, state in (('random', run.initial), ('trained', run.state)):
    figures = average(functools.partial(score, state)) | _of_code(run, state, test)
    for row in reconstruction.rows(figures, features, **common):
      found.setdefault(row['metric'], []).append(row)
  if 'squared_error' in found:
    found['squared_error'] += _baselines(average, basis, size, adapt, common)
  # A baseline of the method's own is the same with either state.
  return [row for each in found.values() for row in {row['features']: row for row in each}.values()]


def clustering(run: Run, train: Source, test: Source) -> list[Row]:
  """Returns a row for the random and the trained state: what the cluster of an example tells of its label."""
  method: Any = run.experiment.method
  labels, test_labels = np.asarray(train.labels), np.asarray(test.labels)
  rows = []
  for features, state in (('random', run.initial), ('trained', run.state)):
    assign = lambda inputs, state=state: method.clusters(state, inputs)[:, None]
    found = {source: encoded(run, each, assign)[:, 0].astype(np.int64) for source, each in
             (('train', train), ('test', test))}
    rows.append({
        'protocol': 'clustering', 'label': 'class', 'split': 'test', 'representation': NONE, 'features': features,
        'seed': run.config.seed, 'metric': 'accuracy',
        'value': clustering_accuracy(found['train'], labels, found['test'], test_labels),
        'num_train': len(train), 'num_test': len(test), 'num_classes': len(np.unique(labels)),
        'clusters': method.categories})
  return rows


def _baselines(average: Callable, basis: pca.PCA, size: Sizes, adapt: Callable, common: Row) -> list[Row]:
  basis = basis.first(size.code)
  kinds = {'mean', 'pca'} if 0 < size.code < size.inputs else {'mean'}
  found = []
  for features, reconstruct in reconstruction.baselines(basis).items():
    if features in kinds:
      figures = average(reconstruction.squared_error(reconstruct, adapt))
      own = {'dimensions': basis.dimensions} if features == 'pca' else {}
      found += reconstruction.rows(figures, features, **common, **own)
  return found


def _of_code(run: Run, state: Any, test: Source) -> dict[str, float]:
  """Returns how much of the code is in use: entries of a codebook, or latent dimensions."""
  method: Any = run.experiment.method
  found: dict[str, float] = {}
  if hasattr(method, 'codes') and hasattr(method, 'num_codes'):
    found |= reconstruction.of_codebook(codebook(run, state, test))
  if hasattr(method, 'latent_kl') and 'z' in method.representations:
    z = encoded(run, test, lambda inputs: method.represent(state, inputs, 'z'))
    found['active_units'] = float(reconstruction.active_units(z).sum())
  return found


def codebook(run: Run, state: Any, source: Source) -> np.ndarray:
  """Returns how often each entry of the codebook stands for something in the examples of `source`, [num_codes]."""
  method: Any = run.experiment.method
  adapt = adapter(run)
  return reconstruction.usage(
      jax.jit(lambda images: jnp.asarray(method.codes(state, adapt(images)))), source.inputs, method.num_codes,
      run.config.evaluation.batch_size)


def encoded(run: Run, source: Source, encode: Callable[[Any], jax.Array]) -> np.ndarray:
  """Returns what `encode`, a function of inputs as the encoder sees them, makes of `source`, [n, d]."""
  adapt = adapter(run)
  return evaluation.extract(
      jax.jit(lambda images: encode(adapt(images))), source.inputs, batch_size=run.config.evaluation.batch_size)
