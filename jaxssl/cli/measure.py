"""Measures a run by the protocols of its config: the rows of results.json."""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxssl import evaluation
from jaxssl.build import Experiment, Source
from jaxssl.cli import evaluation_options, measure_audio, measure_generative, measure_samples
from jaxssl.cli.runs import Run
from jaxssl.evaluation import finetune, geometry, sgd_probe, subsets, supervised
from jaxssl.evaluation.table import Row

WORDS = {'sgd': 'SGD probe', 'finetune': 'Fine-tuning'}
Encode = Callable[[jax.Array], jax.Array]


def measure(
    run: Run, train: Source, test: Source, pretrain: Source | None = None, path: str | None = None) -> list[Row]:
  """Returns one row a figure, for all protocols of the config; of unlabelled data, the geometry of the features.

  With `pretrain`, the examples that the run pretrained on, each row also counts the test images among them. With
  `path`, the work directory, what is trained to judge samples is kept there.
  """
  options = run.config.evaluation
  evaluation_options.check(options, run.experiment)
  evaluation_options.check_fine_tuning(
      options, run.experiment, run.state, None if run.hears else test.inputs[np.arange(1)])
  evaluation_options.check_size(options, test)
  for source in (train, test):
    check_range(run.experiment, source)
  rows = measure_audio.measure(run, train, test) if run.hears else _of_inputs(run, train, test)
  if measure_samples.PROTOCOL in options.protocols:
    rows += measure_samples.measure(run, train, test, path)
  about = {'data': test.name, 'step': int(run.state.step)}
  seen = None if pretrain is None else subsets.count_shared(test.inputs, pretrain.inputs)
  if seen is not None:
    about['num_test_seen'] = seen
  return [{**row, **about} for row in rows]


def _of_inputs(run: Run, train: Source, test: Source) -> list[Row]:
  """Returns the rows of all protocols but those of audio; a method that reconstructs stands beside PCA too.

  Raw inputs and PCA, of as many dimensions as the first representation, are measured once.
  """
  protocols = run.config.evaluation.protocols
  labelled = _can_be_classified(train, test)
  generative = hasattr(run.experiment.method, 'score')
  basis: Any = None
  reconstructed = generative and measure_generative.PROTOCOL in protocols
  if reconstructed or (generative and labelled and {'knn', 'linear'} & {*protocols}):
    size = measure_generative.sizes(run, test, run.representations[0])
    basis = measure_generative.fit_pca(run, train, size)
  rows: list[Row] = []
  for name in run.representations:
    if len(run.representations) > 1:
      print(f'Evaluating {name} …', flush=True)
    compared = encoders(run, name)
    if rows:
      del compared['raw']
    elif labelled and basis is not None and basis.dimensions:  # None where all examples are the same.
      compared['pca'] = measure_generative.pca_encoder(run, basis.first(size.representation))
    rows += _labelled(run, train, test, name, compared) if labelled else _unlabelled(run, test, name, compared)
  if labelled and measure_generative.clusters(run.experiment.method):
    rows += measure_generative.clustering(run, train, test)
  for row in rows:
    if row['features'] == 'pca':
      row['dimensions'] = basis.first(size.representation).dimensions
  return rows + measure_generative.measure(run, test, basis, size) if reconstructed else rows


def _can_be_classified(train: Source, test: Source) -> bool:
  """Returns whether both splits have labels, of two classes or more; says so where all are of one."""
  if train.labels is None or test.labels is None:
    return False
  if len(np.unique(train.labels)) < 2:
    print(f'All labels of {train.name} are the same: there is nothing to classify.', flush=True)
    return False
  return True


def _labelled(run: Run, train: Source, test: Source, name: str, compared: dict[str, Encode]) -> list[Row]:
  """Returns the rows of the protocols that need labels, of the encoders `compared` of the representation `name`."""
  options, rows = run.config.evaluation, []
  if {'knn', 'linear'} & {*options.protocols}:
    rows += evaluation.evaluate(
        compared, train, test,
        knn=options.knn.to_dict() if 'knn' in options.protocols else None,
        linear=options.linear.to_dict() if 'linear' in options.protocols else None,
        fractions=options.fractions, batch_size=options.batch_size,
        representation=name, seed=run.config.seed)
  if 'sgd' in options.protocols:
    probes = {features: functools.partial(sgd_probe.accuracy, encode) for features, encode in compared.items()
              if features != 'pca'}
    rows += _trained(run, train, test, 'sgd', name, probes)
  if 'finetune' in options.protocols:
    rows += _trained(run, train, test, 'finetune', name, fine_tuned(run, name))
  return rows


def check_views(trained_on: Any, source: Source) -> None:
  """Raises ValueError unless paired views have the number and the shapes that the run trains on, `trained_on`.

  Images may have another size, since they are resized.
  """
  if not isinstance(trained_on, list):
    return
  kept = lambda shape: f'images of {shape[-1]} channels' if len(shape) == 4 else str(list(shape[1:]))
  expected, found = [kept(each['shape']) for each in trained_on], [kept(x.shape) for x in source.inputs[np.arange(1)]]
  if expected != found:
    raise ValueError(
        f'config.data.path: the views of {source.name} are {", ".join(found)}; the run trains on {", ".join(expected)}')


def check_range(experiment: Experiment, source: Source) -> None:
  """Raises ValueError where the method wants inputs in [0, 1] and the arrays of `source` are not; images always are."""
  if not getattr(experiment.method, 'unit_inputs', False):
    return
  for x in getattr(source.inputs, 'arrays', ()):  # Of paired views.
    if not isinstance(x, np.ndarray) or not np.issubdtype(x.dtype, np.floating):
      continue
    low, high = float(x.min()), float(x.max())
    if not (low >= 0 and high <= 1):
      raise ValueError(f"config.method.likelihood = 'bernoulli' is for inputs in [0, 1]; those of {source.name} lie in "
                       f"[{low:g}, {high:g}]: scale them, or choose 'gaussian'")


def encoders(run: Run, name: str | None = None) -> dict[str, Encode]:
  """Returns functions of images [b, h, w, c] of any size, or views: raw pixels, the random and the trained encoder."""
  see = represent(run, name)
  of = lambda state: jax.jit(lambda images: see(state, images))
  return {'raw': raw(run, name), 'random': of(run.initial), 'trained': of(run.state)}


def represent(run: Run, name: str | None = None) -> Callable[[Any, Any], jax.Array]:
  """Returns (state, images [b, h, w, c] of any size, or views) -> the representation, by default the first."""
  method, name = run.experiment.method, name or run.representations[0]
  adapt = functools.partial(evaluation.adapt, recipe=run.experiment.recipe, channels=run.channels)
  return lambda state, images: method.represent(state, adapt(images), name)


def raw(run: Run, name: str | None = None) -> Encode:
  """Returns the raw-pixel baseline of the representation: of several views those that it sees."""
  method = run.experiment.method
  which = method.seen(name or run.representations[0]) if hasattr(method, 'seen') else None  # Of several views.
  return jax.jit(lambda images: evaluation.pixels(images, run.experiment.recipe, run.channels, which))


def fine_tuned(run: Run, name: str) -> dict[str, Callable[..., float]]:
  """Returns fine-tuning of the random and of the trained encoder, up to the representation `name`."""
  method = run.experiment.method
  adapt = functools.partial(evaluation.adapt, recipe=run.experiment.recipe, channels=run.channels)
  classifiers: dict[str, Callable[..., float]] = {}
  for features, state in (('random', run.initial), ('trained', run.state)):
    encoder, variables = method.backbone(state, name)
    classifiers[features] = functools.partial(
        finetune.accuracy, encoder, variables,
        prepare=lambda images: adapt(evaluation.to_float(images)))
  return classifiers


def _trained(run: Run, train: Source, test: Source, protocol: str, name: str, classifiers) -> list[Row]:
  """Runs a protocol that trains on images; its section in the config gives the fields of the recipe."""
  options = run.config.evaluation
  wanted, default = vars(evaluation_options.recipe(options, protocol)), vars(evaluation_options.RECIPES[protocol]())
  always = ('epochs', 'batch_size', 'learning_rate')
  given = {key: value for key, value in wanted.items() if key in always or value != default[key]}
  telling = {features: _telling(protocol, f'{features} {name if features != "raw" else "inputs"}', classifier)
             for features, classifier in classifiers.items()}
  return evaluation.evaluate_trained(
      telling, train, test, protocol=protocol, fractions=options.fractions or (1.0,),
      representation=name, seed=run.config.seed,
      augment_fn=supervised.crops(run.experiment.recipe, run.channels), **given)


def _telling(protocol: str, what: str, classifier: Callable[..., float]) -> Callable[..., float]:
  """Says what is about to train, which may take minutes."""

  def train(*arguments, epochs: float, fraction: float, **options) -> float:
    print(f'{WORDS[protocol]} of {what} on {fraction:.3g} of the labels, {epochs:g} epochs …', flush=True)
    return classifier(*arguments, epochs=epochs, fraction=fraction, **options)

  return train


def _unlabelled(run: Run, source: Source, name: str, compared: dict[str, Encode]) -> list[Row]:
  """Returns what needs no labels, of at most `geometry.MOST` examples: effective rank and uniformity of `compared`.

  Of several views also how often z of a view finds z of its counterpart.
  """
  method, seed = run.experiment.method, run.config.seed
  images = evaluation.Subset(source.inputs, np.arange(min(geometry.MOST, len(source))))
  extract = functools.partial(evaluation.extract, images=images, batch_size=run.config.evaluation.batch_size)
  rows = []
  for features, encode in compared.items():
    rows += geometry.rows(jnp.asarray(extract(encode)), features, 'inputs' if features == 'raw' else name, seed)
  views = len(method.seen('z')) if hasattr(method, 'seen') else 1
  for features, encode in encoders(run, 'z').items() if views > 1 else ():
    if features != 'raw':
      z = jnp.asarray(extract(encode).reshape(len(images), views, -1))
      rows.append({**rows[0], 'protocol': 'retrieval', 'representation': name, 'features': features,
                   'metric': 'accuracy', 'value': float(geometry.retrieval(z))})
  return rows
