"""jaxssl train: pretrains an encoder, resumes by itself, and ends with the evaluation's table."""

import contextlib
import os
from typing import Any

import jax
from absl import flags
from flax.errors import FlaxError
from ml_collections import ConfigDict, config_flags

from jaxssl.build import Experiment, Source, build, load_source
from jaxssl.cli import conclusion, measure, measure_audio, measure_generative, pictures, runs, workdir
from jaxssl.cli.launch import launch, parsing, take
from jaxssl.cli.pretrain import batches, pretrain
from jaxssl.training import files, mesh
from jaxssl.training.interrupt import Interrupt

USAGE = """Pretrains an encoder and evaluates it; the same command resumes a run.

  train.py [--config FILE.py] [--config.KEY=VALUE …] [--workdir DIR] [--preview]

Without --config, the bundled run."""
DEFAULT_CONFIG = os.path.join(os.path.dirname(__file__), 'default.py')


def main() -> None:
  """Parses the flags and runs."""
  file = take('config')
  file = DEFAULT_CONFIG if file is None else file
  with parsing():
    if file == '' or file.startswith('-'):
      raise ValueError('--config needs the path of a file')
    described = workdir.load_config(file)
    measure.complete(described.get('evaluation', {}))
    config = config_flags.DEFINE_config_dict('config', described, 'Overrides: --config.KEY=VALUE.')
  directory = flags.DEFINE_string('workdir', None, 'Work directory; default: runs/<stem of the config file>.')
  preview = flags.DEFINE_bool('preview', False, 'Only write a picture of examples and their views, and exit.')
  coordinator = flags.DEFINE_string('coordinator', None, 'host:port of process 0, for a run over several hosts.')
  processes = flags.DEFINE_integer('num_processes', None, 'Number of processes of a run over several hosts.')
  process = flags.DEFINE_integer('process_id', None, 'Number of this process.')

  def run():
    mesh.initialize_distributed(coordinator.value, processes.value, process.value)
    path = os.path.abspath(directory.value or workdir.default_path(file.partition(':')[0]))
    with Interrupt('nothing has been written; the same command starts again.') as interrupt:
      train(config.value, path, preview.value, interrupt)

  launch(run, USAGE)


def train(config: ConfigDict, path: str, preview: bool = False, interrupt: Interrupt | None = None) -> None:
  """Pretrains what `config` describes in the work directory `path`, then evaluates it there."""
  interrupt = interrupt or Interrupt()
  workdir.refuse_second(path)
  source = load_source(config.to_dict(), 'pretrain')
  if preview:
    print(pictures.preview(config, source, path))
    return
  experiment = build(config.to_dict(), len(source))
  measure.check_range(experiment, source)
  description = check(config, experiment, source, begins=not os.path.isdir(os.path.join(path, 'checkpoints')))
  # What is wrong with the test set should not come out only after the training.
  test = load_source(config.to_dict(), 'test')
  measure.check_views(description['inputs'], test)
  measure.check_size(config.evaluation, test)
  measure.check_range(experiment, test)
  devices = mesh.make_mesh(**config.mesh)
  mesh.local_rows(devices, config.batch_size)  # Refuses a batch that the devices do not divide.
  runs.refuse_other(path, config)
  with workdir.locked(path), jax.set_mesh(devices):
    if jax.process_index() == 0:
      files.sweep(path)
    done = conclusion.is_done(path, source.name, config)
    measured = not workdir.enter(path, config) and done
    run, taken = pretrain(config, path, experiment, source, description, devices, interrupt)
    step = int(run.state.step)
    if step < config.steps:
      print(f'Stopped at step {step} of {config.steps}; the same command goes on from there.')
    elif interrupt.received:
      print(f'Training is complete and saved, at step {step}; the same command evaluates it.')
    else:
      _conclude(run, path, source, taken, measured)


def _conclude(run: runs.Run, path: str, source: Source, taken: int, measured: bool) -> None:
  """Evaluates a run that is complete, unless nothing was done now and it is `measured`; prints its table."""
  if taken == 0:
    print(f'This run is finished, at step {run.config.steps}.', flush=True)
  if taken == 0 and measured:
    conclusion.show(path)
  else:
    conclusion.conclude(run, path, source)


def check(config: ConfigDict, experiment: Experiment, source: Source, begins: bool = True) -> dict[str, Any]:
  """Raises ValueError for what would otherwise fail only later; returns the description of a batch.

  `begins` says that the run is new: then `config.init_from`, if any, is tried too.
  """
  for section in ('logging', 'checkpoint'):
    if config[section].every < 1:
      raise ValueError(f'config.{section}.every must be at least 1, got {config[section].every}')
  measure.check(config.evaluation, experiment)
  with contextlib.closing(batches(config, source)) as examples:
    batch = next(examples)
  key, seen = jax.random.key(0), None
  try:
    state = jax.eval_shape(runs.initializer(experiment), key, batch)
    jax.eval_shape(lambda *args: experiment.method.step(args[0], experiment.prepare(*args[1:]), key), state, batch, key)
    if not experiment.hears:
      seen = jax.eval_shape(experiment.prepare, batch, key)['inputs']
      jax.eval_shape(experiment.method.represent, state, seen)
      measure_generative.trace(experiment, state, seen)
  except (AttributeError, FlaxError, TypeError, ValueError, ZeroDivisionError) as error:
    raise ValueError(f'config.method does not suit the data: {error}') from error
  if experiment.hears:
    measure_audio.check(experiment, state)
  measure.check_fine_tuning(config.evaluation, experiment, state, seen)
  if config.init_from and begins:
    runs.start_from(state, config.init_from)
  return runs.describe_batch(batch)
