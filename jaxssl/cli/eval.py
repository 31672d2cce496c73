"""jaxssl eval: evaluates a run from its checkpoint, on its own data or others, also while it is still training."""

import os

import jax
from absl import flags
from ml_collections import ConfigDict, config_flags

from jaxssl.build import Source, load_source
from jaxssl.cli import conclusion, evaluation_options, runs, workdir
from jaxssl.cli.launch import define_hosts, given, launch, parsing
from jaxssl.training import hosts, mesh
from jaxssl.training.interrupt import Interrupt

USAGE = """Evaluates a run from its checkpoint, on its own data or others; only data and evaluation keys may differ.

  eval.py --workdir DIR [--config.data.KEY=VALUE …] [--config.evaluation.KEY=VALUE …] [--step N] [--embed OUT.npz]

With --help and --workdir: all keys."""


def main() -> None:
  """Parses the flags and runs. The config is the run's own, so --workdir is read before the overrides are."""
  path = given('workdir')
  directory = flags.DEFINE_string('workdir', None, 'Work directory of the run to evaluate.', required=True)
  step = flags.DEFINE_integer('step', None, 'Checkpoint to evaluate; default: the last.')
  embed = flags.DEFINE_string('embed', None, 'Also write features, labels and file names to this .npz.')
  with parsing():
    stored = ConfigDict() if path is None else workdir.read_config(path)
    evaluation_options.complete(stored.get('evaluation', {}))
    config = config_flags.DEFINE_config_dict('config', stored, 'Overrides: --config.KEY=VALUE.')
  join = define_hosts()

  def run():
    with Interrupt('the same command evaluates again.', hosts.part), join():
      evaluate(config.value, os.path.abspath(directory.value), step.value, embed.value)

  launch(run, USAGE)


def evaluate(config: ConfigDict, path: str, step: int | None = None, embed: str | None = None) -> None:
  """Evaluates the run in `path` by the data and evaluation sections of `config`."""
  workdir.refuse_links(path)
  hosts.agree({**workdir.facts(config), '--step': step, '--embed': embed})
  devices = mesh.make_mesh(model=_model_axis(config))
  hosts.connect(devices)
  run = runs.restore(path, step, devices)
  hosts.agree({'the step of the checkpoint': int(run.state.step)})
  changes = [change for change in workdir.differences(run.config, config) if not change.startswith('config.data.')]
  if changes:
    raise ValueError('only config.data and config.evaluation can differ from the run: ' + '; '.join(changes))
  evaluation_options.check(config.evaluation, run.experiment)
  pretrain = hosts.in_turn(lambda: _pretraining_data(run))
  run = run._replace(config=config)
  with jax.set_mesh(devices):
    if embed:
      conclusion.write_features(run, embed)
    conclusion.conclude(run, path, pretrain)


def _model_axis(config: ConfigDict) -> int:
  """Returns config.mesh.model where that divides the devices, which need not be those of the run; else 1."""
  return config.mesh.model if jax.device_count() % config.mesh.model == 0 else 1


def _pretraining_data(run: runs.Run) -> Source | None:
  """Returns what the run pretrained on, or None where that is not on this machine."""
  try:
    return load_source(run.config.to_dict(), 'pretrain')
  except (ValueError, OSError, ImportError):
    return None
