"""jaxssl eval: evaluates a run from its checkpoint, on its own data or others, also while it is still training."""

import os
import sys

import jax
from absl import flags
from ml_collections import ConfigDict, config_flags

from jaxssl.cli import conclusion, runs, workdir
from jaxssl.cli.launch import launch


def main() -> None:
  """Parses the flags and runs. The config is the run's own, so --workdir is read before the overrides are."""
  directory = flags.DEFINE_string('workdir', None, 'Work directory of the run to evaluate.', required=True)
  step = flags.DEFINE_integer('step', None, 'Checkpoint to evaluate; default: the last.')
  embed = flags.DEFINE_string('embed', None, 'Also write features, labels and file names to this .npz.')
  try:
    config = config_flags.DEFINE_config_dict('config', _stored_config(sys.argv), 'Overrides: --config.KEY=VALUE.')
  except ValueError as error:
    raise SystemExit(f'error: {error}') from error
  launch(lambda: evaluate(config.value, os.path.abspath(directory.value), step.value, embed.value))


def evaluate(config: ConfigDict, path: str, step: int | None = None, embed: str | None = None) -> None:
  """Evaluates the run in `path` by the data and evaluation sections of `config`."""
  run = runs.restore(path, step)
  changes = [change for change in workdir.differences(run.config, config) if not change.startswith('config.data.')]
  if changes:
    raise ValueError('only config.data and config.evaluation can differ from the run: ' + '; '.join(changes))
  run = run._replace(config=config)
  if embed:
    conclusion.write_features(run, embed)
  print(f'{path}, step {int(jax.device_get(run.state.step))}:')
  conclusion.conclude(run, path)


def _stored_config(arguments: list[str]) -> ConfigDict:
  """Returns the config of the run that --workdir names, or an empty one if it is not given."""
  for i, argument in enumerate(arguments):
    name, equals, value = argument.lstrip('-').partition('=')
    if argument.startswith('-') and name == 'workdir':
      path = value if equals else (arguments[i + 1] if i + 1 < len(arguments) else '')
      return workdir.read_config(path)
  return ConfigDict()
