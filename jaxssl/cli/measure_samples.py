"""Measures how good a generator's samples are: the rows of the protocol 'samples', of methods that have `sample`."""

import functools
import logging
import os
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict
from ml_collections.config_dict import placeholder

from jaxssl import evaluation, schema
from jaxssl.build import Experiment, Source
from jaxssl.cli import measure_generative
from jaxssl.cli.runs import Run
from jaxssl.evaluation import feature_network, fidelity, supervised
from jaxssl.evaluation.subsets import evenly_spread
from jaxssl.evaluation.table import Row
from jaxssl.training import hosts, mesh

log = logging.getLogger(__name__)
PROTOCOL = 'samples'
FILE = 'fidelity.npz'  # In the work directory: the network that judges.
MOST = 10_000  # Samples, unless told, and test examples that they stand beside.
LEAST = {'count': fidelity.K + 1, 'steps': 1}  # Of each key of the section.
DRAWS = 1 << 30  # Apart from the numbers of the steps, in the keys.


def check(options: ConfigDict, experiment: Experiment) -> None:
  """Raises ValueError if the protocol is asked of a method without samples, or its options are out of range.

  Where its section is absent there are no options.
  """
  if PROTOCOL in options.protocols and not hasattr(experiment.method, 'sample'):
    raise ValueError(f'config.evaluation.protocols: {PROTOCOL!r} is for methods that generate; '
                     f'{type(experiment.method).__name__} does not')
  section = options.get(PROTOCOL, {})
  if not schema.is_section(section):
    raise ValueError(f'config.evaluation.{PROTOCOL} must be a section of {" and ".join(LEAST)}, got {section!r}')
  if unknown := set(section) - set(LEAST):
    raise ValueError(f'config.evaluation.{PROTOCOL} has {" and ".join(LEAST)} alone; got '
                     f'{", ".join(map(repr, sorted(unknown)))}')
  for key, value in section.items():
    if (value is not None or key != 'count') and (type(value) is not int or value < LEAST[key]):
      raise ValueError(
          f'config.evaluation.{PROTOCOL}.{key} must be an integer from {LEAST[key]} on, got {value!r}')


def complete(section: ConfigDict) -> None:
  """Adds the keys that the section leaves out, so that the command line can set them."""
  for key, value in (('count', placeholder(int)), ('steps', feature_network.STEPS)):
    if section.get(key) is None:
      section[key] = value


def key_of(run: Run) -> jax.Array:
  """Returns the key of all samples of a run, which training has no use for."""
  return jax.random.fold_in(jax.random.key(run.config.seed), DRAWS)


def measure(run: Run, train: Source, test: Source, path: str | None = None) -> list[Row]:
  """Returns the rows of the protocol: of samples before and after training, and of training examples.

  All stand beside the test examples. The network that judges is read from the work directory `path`, or trained and
  stored there; without one, it is not stored.
  """
  method: Any = run.experiment.method
  options = run.config.evaluation
  count = options.get(PROTOCOL, {}).get('count') or min(len(test), MOST)
  see = lambda images: jax.tree.leaves(measure_generative.adapter(run)(images))[0]  # As the method saw them.
  shape = jax.eval_shape(lambda images: see(evaluation.to_float(images)), test.inputs[np.arange(1)]).shape[1:]
  judge = _judge(run, train, shape, path)
  features = functools.partial(evaluation.extract, batch_size=options.batch_size)
  encode = feature_network.encoder_of(judge)
  of_images = jax.jit(lambda images: encode(see(images)))
  of_samples = jax.jit(_sampler(method.sample, encode, key_of(run), shape))
  chosen = evenly_spread(len(test), MOST)
  real = features(of_images, evaluation.Subset(test.inputs, chosen))
  common: Row = {'seed': run.config.seed, 'num_test': len(real), 'network': judge.kind}
  if judge.kind == 'classifier' and test.labels is not None:
    labels = test.labels[chosen]
    common |= {'network_accuracy': judge.accuracy(real, labels),
               'network_chance': float(np.unique(labels, return_counts=True)[1].max() / len(labels))}
  rows = fidelity.rows(
      real, features(of_images, evaluation.Subset(train.inputs, evenly_spread(len(train), count))), 'train', **common)
  for name, state in (('random', run.initial), ('trained', run.state)):
    made = features(functools.partial(of_samples, state), np.arange(count), prepare=jnp.asarray)
    rows += fidelity.rows(real, made, name, **common)
  return rows


def _sampler(sample: Callable, encode: Callable[[jax.Array], jax.Array], key: jax.Array, shape: tuple[int, ...]):
  """Returns (state, numbers [b]) -> the features of the samples of these numbers, however they are batched."""
  one = lambda state, number: sample(state, jax.random.fold_in(key, number), 1, shape)[0]
  return lambda state, numbers: encode(jax.vmap(one, in_axes=(None, 0))(state, numbers))


def _judge(run: Run, train: Source, shape: tuple[int, ...], path: str | None) -> feature_network.FeatureNetwork:
  """Returns the stored network, if it is of these data, or a new one, which it stores; without labels, a random one."""
  if train.labels is None:
    return feature_network.untrained(shape)
  steps = run.config.evaluation.get(PROTOCOL, {}).get('steps', feature_network.STEPS)
  recipe = run.experiment.recipe
  mark = feature_network.fingerprint(shape, train.inputs, train.labels, recipe, steps)
  crops = supervised.crops(recipe, run.channels)
  make = lambda: feature_network.train(
      shape, train.inputs, train.labels, steps=steps,
      augment_fn=lambda keys, images: jax.tree.leaves(crops(keys, images))[0])
  if path is None:
    with mesh.alone():
      return make()
  file = os.path.join(path, FILE)

  def store() -> bool:
    why = ''
    if os.path.exists(file):
      try:
        feature_network.load(file, shape, mark)
        return True
      except ValueError as error:
        why = f'{error}. '
    print(f'{why}Training the classifier whose features judge samples, {steps:,} steps …', flush=True)
    made.append(make())
    try:
      feature_network.save(made[0], file, mark)
    except OSError as error:  # It has been trained, and can judge.
      log.warning('%s cannot be written, so that the next evaluation trains it again: %s', file, error)
      return False
    return True

  made: list[Any] = []
  stored = hosts.first(store)
  if stored:
    return feature_network.load(file, shape, mark)
  with mesh.alone():
    return made[0] if made else make()
