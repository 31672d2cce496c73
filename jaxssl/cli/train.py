"""jaxssl train: pretrains an encoder, resumes by itself, and ends with the evaluation's table."""

import contextlib
import functools
import os
import sys
import time
from typing import Any

import jax
from absl import flags
from jax.sharding import Mesh
from ml_collections import ConfigDict, config_flags

from jaxssl.build import Experiment, Source, build, load_source, stream
from jaxssl.cli import conclusion, measure, pictures, runs, workdir
from jaxssl.cli.launch import launch
from jaxssl.cli.record import Recorder, Timed
from jaxssl.evaluation import geometry
from jaxssl.training import loop, mesh
from jaxssl.training.checkpoints import Checkpoints
from jaxssl.training.interrupt import Interrupt
from jaxssl.training.logging import MetricLogger, progress

DEFAULT_CONFIG = os.path.join(os.path.dirname(__file__), 'default.py')


def main() -> None:
  """Parses the flags and runs."""
  config = config_flags.DEFINE_config_file(
      'config', None, 'Config file, by default the bundled run; --config.KEY=VALUE overrides a key.')
  directory = flags.DEFINE_string('workdir', None, 'Work directory; default: runs/<stem of the config file>.')
  preview = flags.DEFINE_bool('preview', False, 'Only write a picture of images and their views, and exit.')
  coordinator = flags.DEFINE_string('coordinator', None, 'host:port of process 0, for a run over several hosts.')
  processes = flags.DEFINE_integer('num_processes', None, 'Number of processes of a run over several hosts.')
  process = flags.DEFINE_integer('process_id', None, 'Number of this process.')

  def run():
    mesh.initialize_distributed(coordinator.value, processes.value, process.value)
    file = config_flags.get_config_filename(flags.FLAGS['config'])
    if not os.path.exists(file):
      raise ValueError(f'--config={file}: there is no such file')
    path = directory.value or workdir.default_path(file)
    train(config.value, os.path.abspath(path), preview.value)

  if not any(argument.lstrip('-').partition('=')[0] == 'config' for argument in sys.argv[1:]):
    sys.argv.insert(1, f'--config={DEFAULT_CONFIG}')  # As a flag's default it would take other files' overrides.
  launch(run)


def train(config: ConfigDict, path: str, preview: bool = False) -> None:
  """Pretrains what `config` describes in the work directory `path`, then evaluates it there."""
  source = load_source(config.to_dict(), 'pretrain')
  experiment = build(config.to_dict(), len(source))
  if preview:
    print(pictures.preview(config, experiment, source, path))
    return
  check(config, experiment)
  devices = mesh.make_mesh(**config.mesh)
  mesh.local_rows(devices, config.batch_size)  # Refuses a batch that the devices do not divide.
  runs.refuse_other(path, config)
  measured = not workdir.enter(path, config) and os.path.exists(os.path.join(path, 'results.json'))
  with workdir.locked(path), jax.set_mesh(devices):
    run, taken = pretrain(config, path, experiment, source, devices)
    if int(run.state.step) < config.steps:
      print(f'Stopped at step {int(run.state.step)} of {config.steps}; the same command goes on from there.')
    elif taken == 0 and measured:
      print(f'This run is finished, at step {config.steps}.\n')
      conclusion.show(path)
    else:
      conclusion.conclude(run, path)


def check(config: ConfigDict, experiment: Experiment) -> None:
  """Raises ValueError for what would otherwise fail only after the training, or in its middle."""
  for section in ('logging', 'checkpoint'):
    if config[section].every < 1:
      raise ValueError(f'config.{section}.every must be at least 1, got {config[section].every}')
  measure.check(config.evaluation, experiment.method.representations)


def pretrain(
    config: ConfigDict, path: str, experiment: Experiment, source: Source, devices: Mesh) -> tuple[runs.Run, int]:
  """Trains on from the last checkpoint, or from the start; returns the run and the number of steps taken now."""
  batches = functools.partial(
      stream, config.to_dict(), source, host=jax.process_index(), hosts=jax.process_count())
  with contextlib.closing(batches()) as examples:
    description = runs.describe_batch(next(examples))
  make_initial = lambda: runs.initial_state(experiment, config, devices, runs.batch_like(description))
  meta = {'config': config.to_dict(), 'seed': config.seed, 'num_examples': len(source), 'seconds': 0.0,
          'batch': description}
  state = make_initial()
  with Checkpoints(os.path.join(path, 'checkpoints'), **config.checkpoint) as checkpoints:
    if checkpoints.latest_step() is not None:
      _refuse_other_data(checkpoints.meta(), meta)
      state, meta = checkpoints.restore(state)
    elif config.init_from:
      state = runs.start_from(state, config.init_from)
    start = int(state.step)
    if start < config.steps:
      with contextlib.closing(batches(start=start)) as examples:
        state, meta = _iterate(config, path, experiment, state, examples, devices, checkpoints, meta)
  return runs.Run(config, experiment, state, make_initial(), meta), int(state.step) - start


def _refuse_other_data(stored: dict, present: dict) -> None:
  """Raises ValueError if the data set is no longer the one that the run began on."""
  for key, what in (('num_examples', 'examples'), ('batch', 'batches')):
    if stored[key] != present[key]:
      raise ValueError(
          f'config.data has changed since the run began: its {what} were {stored[key]} and are now {present[key]}; '
          'bring the data back, or choose another --workdir')


def _iterate(config, path, experiment, state, examples, devices, checkpoints, meta) -> tuple[Any, dict]:
  """The loop itself: log, save, stop on a signal or a loss that is not finite."""
  key, start, began = jax.random.key(config.seed), int(state.step), time.time()
  timed = Timed(mesh.shard_batch(devices, batch) for batch in examples)
  with (
      MetricLogger(path, start=start) as logger,
      progress(config.steps, start) as bar,
      Interrupt() as interrupt,
  ):
    recorder = Recorder(
        logger, bar, timed, config.batch_size, experiment.schedules, _health(experiment, key))
    for step, state, metrics, batch in loop.train(
        experiment.method, experiment.prepare, state, timed, key, start, config.steps):
      recorder.add(metrics)
      last = step == config.steps or interrupt.received is not None or checkpoints.preempted(step)
      save = last or step % config.checkpoint.every == 0
      if save or step % config.logging.every == 0 or step == 1:
        with _naming_last_good(checkpoints):
          recorder.write(step, state, batch)
      if save:
        meta = {**meta, 'seconds': meta['seconds'] + time.time() - began}
        began = time.time()
        checkpoints.save(step, state, meta, force=last)
      if last:
        break
  return state, meta


@contextlib.contextmanager
def _naming_last_good(checkpoints: Checkpoints):
  """Adds the last good checkpoint to the error of a run that is no longer finite."""
  try:
    yield
  except FloatingPointError as error:
    checkpoints.wait()
    latest = checkpoints.latest_step()
    good = 'there is no checkpoint yet' if latest is None else f'the last good checkpoint is {latest}'
    raise FloatingPointError(f'{error}; {good}, in {checkpoints.directory}') from error


def _health(experiment: Experiment, key: jax.Array):
  """Returns (state, batch, i) -> health of the embedding on step i's views; None for a method without `embed`."""
  if not hasattr(experiment.method, 'embed'):
    return None

  @jax.jit
  def health(state, batch, i):
    views = experiment.prepare(batch, loop.keys(key, i)[0])
    return geometry.health(*experiment.method.embed(state, views))

  return health
