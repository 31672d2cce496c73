"""Overrides of a config that cannot be: one line that names the key, the value, and what it may be."""

import os
import sys

import jax
import pytest
from absl import flags
from ml_collections import config_flags

sys.path.insert(0, os.path.dirname(__file__))
from tiny_config import get_config

from jaxssl.build import build, load_source
from jaxssl.cli import evaluation_options, launch
from jaxssl.cli.train import check
from jaxssl.training import mesh


def attempt(*arguments):
  """What the command does with its flags before it trains; returns the error as its user sees it, or None."""
  values, argv = flags.FlagValues(), ['train.py', *arguments]
  try:
    with launch.parsing():
      described = get_config()
      evaluation_options.complete(described.evaluation)
      config = config_flags.DEFINE_config_dict('config', described, flag_values=values, sys_argv=argv)
      values(argv)
    source = load_source(config.value.to_dict(), 'pretrain')
    experiment = build(config.value.to_dict(), len(source))
    check(config.value, experiment, source, mesh.make_mesh(1, 1, jax.devices()[:1]))
  except SystemExit as error:
    return str(error)
  except (ValueError, OSError) as error:
    return f'error: {error}'
  return None


@pytest.mark.parametrize('override, message', [
    ('steps=abc', 'flag --config.steps=abc: it must be a whole number'),
    ('steps=2.5', 'flag --config.steps=2.5: it must be a whole number'),
    ('steps=', 'flag --config.steps=: it must be a whole number'),
    ('steps=-3', 'config.steps must be at least 1, got -3'),
    ('steps=99999999999999', 'config.steps must be at most 2147483647, got 99999999999999'),
    ('seed=-1', 'config.seed must be at least 0, got -1'),
    ('seed=4294967296', 'config.seed must be at most 4294967295, got 4294967296'),
    ('batch_size=(1,2)', 'flag --config.batch_size=(1,2): it must be a whole number'),
    ('data=3', 'flag --config.data=3: it is a section, whose keys are set one by one'),
    ('data={}', 'config.data.source is missing'),
    ('data.source=', "config.data.source='' is unknown. The choices are 'bundled', 'tfds', 'folder', 'npz'"),
    ('data.source=ünï', "config.data.source='ünï' is unknown. The choices are"),
    ('data.name=None', "config.data.name='None' is unknown. The choices are 'omniglot'"),
    ('data.engine=gpu', "config.data.engine cannot be 'gpu'. The choices are: device, host, split"),
    ('data.recipe={}', 'config.data.recipe must be a section with a name, got {}. The choices are: audio, byol'),
    ('data.recipe.size=-1', 'config.data.recipe: size must be an integer of at least 1, got -1'),
    ('data.recipe.size=1000000000', 'config.data.recipe: a batch of its views takes 178,813,934,326.2 GiB, more than'),
    ('method.name=simclrr', "config.method.name cannot be 'simclrr'; did you mean 'simclr'?"),
    ('method.temperature=nan', 'config.method.temperature must be float, got nan'),
    ('method.temperature=-1', 'config.method: temperature must be positive and finite, got -1.0'),
    ('method.temperature=(1,2)', 'flag --config.method.temperature=(1,2): it must be a number'),
    ('method.encoder=resnet18', 'flag --config.method.encoder=resnet18: it is a section'),
    ('method.encoder={}', 'config.method.encoder must be a section with a name, got {}. The choices are: '),
    ("method.encoder.widths=('a',)", "config.method.encoder.widths must be tuple[int, ...], got ('a',)"),
    ('method.encoder.widths=(8,-8)', 'widths and width_multiplier must be positive, got (1,), (8, -8)'),
    ('method.encoder.widths=(8,', 'flag --config.method.encoder.widths=(8,: Error while parsing'),
    ('method.encoder.widths=(100000000000,)', 'config.method: its state takes '),
    ('method.encoder.widths[9]=3', 'no such config key: tuple index out of range'),
    ('method.optimizer.learning_rate=0.1', 'flag --config.method.optimizer.learning_rate=0.1: it is a section'),
    ('method.optimizer.learning_rate.base=inf', 'learning_rate: base must be finite and not negative: got inf'),
    ('checkpoint.every=0', 'config.checkpoint.every must be at least 1, got 0'),
    ('checkpoint.keep_last=-1', 'config.checkpoint.keep_last must be at least 1, got -1'),
    ('checkpoint.keep_every=5', '--config.checkpoint.keep_every cannot be set here, as it is None in the config file'),
    ("mesh={'data':1,'model':1,'third':1}", 'config.mesh.third does not exist; the keys are: data, model'),
    ('evaluation.protocols=3', 'config.evaluation.protocols must be tuple[str, ...], got (3,)'),
    ('evaluation.protocols=knn,linear', "config.evaluation.protocols must be among knn, linear, sgd, finetune, recons"),
    ('evaluation.fractions=nan', "config.evaluation.fractions must be tuple[float, ...], got ('nan',)"),
    ('evaluation.knn.temperature=nan', 'config.evaluation.knn.temperature must be float, got nan'),
    ('evaluation.online.evry=2', "no such config key: 'evry'"),
    ('evaluation.online.every=-1', 'config.evaluation.online.every must be at least 0, got -1'),
    ('evaluation.online.every=often', 'flag --config.evaluation.online.every=often: it must be a whole number'),
    ('evaluation.online.examples=2', 'config.evaluation.online.examples must be at least 4, got 2'),
    ("evaluation.online.protocols=('sgd',)", "config.evaluation.online.protocols must be one or more of 'knn', 'lin"),
    ("evaluation.online={'evry': 2}", 'config.evaluation.online.evry does not exist; the keys are: every, exampl'),
    ('evaluation.pictures=maybe', 'flag --config.evaluation.pictures=maybe: it must be true or false'),
    ('foo=1', "no such config key: 'foo'"),
    ('steps.x=1', "no such config key: Attribute <class 'int'>.x does not exist"),
    ('=1', 'Could not parse'),
])
def test_an_override_that_cannot_be_is_named(override, message):
  error = attempt(f'--config.{override}')
  assert error and error.startswith(f'error: {message}' if message.startswith(('flag', 'no such', '--')) else 'error: ')
  assert message in error and '\n' not in error


def test_what_can_be_is_taken():
  assert attempt('--config.steps=3',
                 "--config.method.encoder={'name':'resnet18'}", '--config.data.name=omniglot') is None


def test_sections_of_a_file_are_checked_too():
  config = get_config().to_dict()
  for key, value, message in (
      ('data', None, 'config.data must be a section of source, name, path, engine, recipe, got None'),
      ('method', 'simclr', "config.method must be a section, got 'simclr'"),
      ('method', {'name': ['simclr']}, r"config.method.name cannot be \['simclr'\]"),
      ('steps', True, 'config.steps must be int, got True')):
    with pytest.raises(ValueError, match=message):
      build({**config, key: value}, 100)
    del config[key]
    with pytest.raises(ValueError, match=f'config.{key} is missing'):
      build(config, 100)
    config = get_config().to_dict()
