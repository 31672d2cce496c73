"""config.evaluation: completed for the command line, read, and refused where no protocol can work with it."""

import dataclasses
import functools
from collections.abc import Mapping
from typing import Any

import jax
from ml_collections import ConfigDict
from ml_collections.config_dict import placeholder

from jaxssl import schema
from jaxssl.build import Experiment, Source
from jaxssl.cli import measure_audio, measure_generative, measure_samples
from jaxssl.cli.runs import representations
from jaxssl.evaluation import finetune, online, sequences, sgd_probe

PROTOCOLS = ('knn', 'linear', 'sgd', 'finetune', measure_generative.PROTOCOL, measure_samples.PROTOCOL)
RECIPES = {'sgd': sgd_probe.Recipe, 'finetune': finetune.Recipe}  # Protocols that train on images.


def complete(options: ConfigDict) -> None:
  """Adds to the sections of config.evaluation the keys that they leave out, so that the command line can set them."""
  if measure_samples.PROTOCOL in options.get('protocols', ()) and measure_samples.PROTOCOL not in options:
    options[measure_samples.PROTOCOL] = {}
  if 'online' not in options:
    options['online'] = {}
  for name, default in {**RECIPES, 'online': online.Recipe}.items():
    if isinstance(options.get(name), ConfigDict):  # Anything else `check` refuses.
      for key, value in vars(default()).items():
        if options[name].get(key) is None:
          options[name][key] = placeholder(float) if value is None else value  # None: a number, where it is set.
  if isinstance(options.get(measure_samples.PROTOCOL), ConfigDict):
    measure_samples.complete(options[measure_samples.PROTOCOL])


def check(options: ConfigDict, experiment: Experiment) -> None:
  """Raises ValueError for a value in config.evaluation that no protocol can work with."""
  schema.check({'evaluation': options}, 'evaluation')
  protocols = measure_audio.PROTOCOLS if experiment.hears else PROTOCOLS
  for protocol in options.protocols:
    if protocol not in protocols:
      raise ValueError(f'config.evaluation.protocols must be among {", ".join(protocols)}; got {protocol!r}')
  for each in (measure_generative, measure_samples):
    each.check(options, experiment)
  if not options.protocols:
    raise ValueError(f'config.evaluation.protocols must name at least one of {", ".join(protocols)}; got none')
  known, wanted = experiment.method.representations, representations(options)
  if experiment.hears:
    known = sequences.of_whole(known)
  if not {*wanted} <= {*known}:
    raise ValueError(f'config.evaluation.representation must be among {", ".join(known)}, or several of them with '
                     f'commas between them; got {options.representation!r}')
  if len(wanted) > 1 and hasattr(experiment.method, 'seen'):
    raise ValueError('config.evaluation.representation must be a single one where each is of other views, beside whose '
                     f'raw inputs it stands; got {options.representation!r}')
  _check_ranges(options)
  for protocol in RECIPES:
    if protocol in options.protocols:
      recipe(options, protocol)
  online_recipe(options)


def _check_ranges(options: ConfigDict) -> None:
  ranges = {
      'batch_size': options.batch_size >= 1,
      'knn.k': options.knn.k >= 1,
      'knn.temperature': options.knn.temperature > 0,
      'linear.grid': len(options.linear.grid) > 0 and all(l2 >= 0 for l2 in options.linear.grid),
      'linear.validation': 0 < options.linear.validation < 1,
      'fractions': all(0 < fraction <= 1 for fraction in options.fractions),
  }
  for key, in_range in ranges.items():
    if not in_range:
      value = functools.reduce(lambda section, name: section[name], key.split('.'), options)
      raise ValueError(f'config.evaluation.{key} is out of range: got {value!r}')


def recipe(options: ConfigDict, protocol: str) -> Any:
  """Returns what the section of 'sgd' or 'finetune' in config.evaluation describes."""
  return _made(protocol, options.get(protocol), RECIPES[protocol])


def online_recipe(options: ConfigDict) -> online.Recipe:
  """Returns what config.evaluation.online describes, or leaves out."""
  return _made('online', options.get('online', {}), online.Recipe)


def _made(name: str, section: Any, kind: Any) -> Any:
  """Returns the dataclass `kind` that a section of config.evaluation describes."""
  fields = {field.name: field.type for field in dataclasses.fields(kind)}
  schema.check_type(f'config.evaluation.{name}', section, Mapping)
  for key, value in section.items():
    if key not in fields:
      raise ValueError(f'config.evaluation.{name}.{key} does not exist; the keys are: {", ".join(fields)}')
    schema.check_type(f'config.evaluation.{name}.{key}', value, fields[key])
  try:
    return kind(**section)
  except ValueError as error:
    raise ValueError(f'config.evaluation.{name}.{error}') from error


def check_fine_tuning(options: ConfigDict, experiment: Experiment, state: Any, inputs: Any = None) -> None:
  """Raises ValueError if config.evaluation.finetune does not suit the encoder, or the inputs; all may be traced."""
  if 'finetune' not in options.protocols:
    return
  wanted = recipe(options, 'finetune')
  shapes = [list(x.shape) for x in jax.tree.leaves(inputs)]
  if wanted.cutmix and any(len(shape) != 4 or shape[1:3] != shapes[0][1:3] for shape in shapes):
    raise ValueError('config.evaluation.finetune.cutmix must be 0 for what is not images of one size, got '
                     f'{wanted.cutmix:g} for inputs {", ".join(map(str, shapes))}')
  for name in representations(options) or (None,):
    encoder, variables = experiment.method.backbone(state, name)
    try:
      finetune.check(encoder, variables['params'], wanted)
    except ValueError as error:
      raise ValueError(f'config.evaluation.finetune.{error}') from error


def check_size(options: ConfigDict, test: Source) -> None:
  """Raises ValueError if there are fewer test examples than a protocol needs."""
  least = measure_samples.LEAST['count']
  if measure_samples.PROTOCOL in options.protocols and len(test) < least:
    raise ValueError(f'config.evaluation.protocols: {measure_samples.PROTOCOL!r} needs at least {least} test examples; '
                     f'{test.name} has {len(test)}')
