"""jaxssl train: pretrains an encoder, resumes by itself, and ends with the evaluation's table."""

import contextlib
import os
from collections.abc import Callable
from typing import Any

import jax
from absl import flags
from jax.sharding import Mesh
from ml_collections import ConfigDict, config_flags

from jaxssl import schema
from jaxssl.build import Experiment, Source, build, load_source
from jaxssl.cli import (
  conclusion,
  evaluation_options,
  measure,
  measure_audio,
  measure_generative,
  online,
  pictures,
  runs,
  workdir,
)
from jaxssl.cli.launch import define_hosts, launch, parsing, take
from jaxssl.cli.pretrain import batches, pretrain
from jaxssl.training import files, hosts, mesh
from jaxssl.training.interrupt import Interrupt

USAGE = """Pretrains an encoder and evaluates it; the same command resumes a run.

  train.py [--config FILE.py] [--config.KEY=VALUE …] [--workdir DIR] [--preview]

Without --config, the bundled run."""
DEFAULT_CONFIG = os.path.join(os.path.dirname(__file__), 'default.py')


def main() -> None:
  """Parses the flags and runs."""
  with parsing():
    file = config_file()
    config = config_flags.DEFINE_config_dict('config', described(file), 'Overrides: --config.KEY=VALUE.')
  directory = flags.DEFINE_string('workdir', None, 'Work directory; default: runs/<stem of the config file>.')
  preview = flags.DEFINE_bool('preview', False, 'Only write a picture of examples and their views, and exit.')
  join = define_hosts()

  def run():
    if directory.value == '':
      raise ValueError('--workdir needs the path of a directory')
    path = os.path.abspath(directory.value or workdir.default_path(file.partition(':')[0]))
    with Interrupt('nothing has been written; the same command starts again.', hosts.part) as interrupt:
      if not preview.value:
        workdir.refuse_second(path)  # Before this process meets the others: it could meet those of the run there.
      with join():
        train(config.value, path, preview.value, interrupt)

  launch(run, USAGE)


def config_file() -> str:
  """Takes --config off the command line; returns its file, by default that of the bundled run."""
  file = take('config')
  if file == '' or (file or '').startswith('-'):
    raise ValueError('--config needs the path of a file')
  return DEFAULT_CONFIG if file is None else file


def described(file: str) -> ConfigDict:
  """Returns the config that a file describes, with all keys that the command line can set."""
  config = workdir.load_config(file)
  evaluation_options.complete(config.get('evaluation', {}))
  return config


def train(config: ConfigDict, path: str, preview: bool = False, interrupt: Interrupt | None = None) -> None:
  """Pretrains what `config` describes in the work directory `path`, then evaluates it there."""
  interrupt = interrupt or Interrupt()
  workdir.refuse_name(path)
  hosts.first(lambda: workdir.refuse_second(path))
  workdir.refuse_links(path)
  hosts.agree(workdir.facts(config))
  source = hosts.in_turn(lambda: load_source(config.to_dict(), 'pretrain'))
  if preview:
    print(hosts.first(lambda: pictures.preview(config, source, path)))
    return
  experiment, devices, description, labelled = prepare(config, path, source)
  with workdir.locked(path), jax.set_mesh(devices):
    measured = hosts.first(lambda: _enter(path, config, source.name))
    run, taken = pretrain(config, path, experiment, source, description, devices, interrupt, labelled)
    step = int(run.state.step)
    if step < config.steps:
      print(f'Stopped at step {step} of {config.steps}; the same command goes on from there.')
    elif hosts.anywhere(interrupt.received is not None):
      print(f'Training is complete and saved, at step {step}; the same command evaluates it.')
    else:
      _conclude(run, path, source, taken, measured)


def prepare(
    config: ConfigDict, path: str, source: Source, load: Callable[..., Source] = load_source,
) -> tuple[Experiment, Mesh, dict[str, Any], Source | None]:
  """Builds what trains on `source` in the work directory `path`; writes nothing there.

  Returns the experiment, the mesh, the description of a batch, and what online evaluation draws its examples from, if
  it is wanted. `load` opens the test set. Raises ValueError for what would fail later.
  """
  experiment = build(config.to_dict(), len(source))
  measure.check_range(experiment, source)
  devices = mesh.make_mesh(**config.mesh)
  hosts.connect(devices)
  resumes = hosts.first(lambda: os.path.isdir(os.path.join(path, 'checkpoints')))
  description = check(config, experiment, source, devices, begins=not resumes)
  # What is wrong with the data to evaluate by should not come out only after the training.
  test, labelled = load(config.to_dict(), 'test'), online.labelled(config)
  evaluation_options.check_size(config.evaluation, test)
  for each in (test, *([] if labelled is None else [labelled])):
    measure.check_views(description['inputs'], each)
    measure.check_range(experiment, each)
  hosts.agree({'examples': len(source), 'test examples': len(test), 'batch': description, **runs.prints(source, test),
               'labelled examples': 0 if labelled is None else len(labelled)})
  runs.refuse_other(path, config)
  return experiment, devices, description, labelled


def _enter(path: str, config: ConfigDict, name: str) -> bool:
  """Makes `path` the work directory of the run; returns whether all results of its end are there."""
  files.sweep(path)
  done = conclusion.is_done(path, name, config)
  return not workdir.enter(path, config) and done


def _conclude(run: runs.Run, path: str, source: Source, taken: int, measured: bool) -> None:
  """Evaluates a run that is complete, unless nothing was done now and it is `measured`; prints its table."""
  if taken == 0:
    print(f'This run is finished, at step {run.config.steps}.', flush=True)
  if taken == 0 and measured:
    conclusion.show(path)
  else:
    conclusion.conclude(run, path, source)


def check(
    config: ConfigDict, experiment: Experiment, source: Source, devices: Mesh, begins: bool = True) -> dict[str, Any]:
  """Raises ValueError for what would otherwise fail only later; returns the description of a batch.

  `begins` says that the run is new: then `config.init_from`, if any, is tried too.
  """
  schema.check(config)
  for section in ('logging', 'checkpoint'):
    for key, value in config[section].items():
      if value is not None and value < 1:
        raise ValueError(f'config.{section}.{key} must be at least 1, got {value}')
  evaluation_options.check(config.evaluation, experiment)
  with contextlib.closing(batches(config, source, devices)) as examples:
    description = runs.describe_batch(next(examples), config.batch_size)
  batch = runs.batch_like(description)
  key, seen = jax.random.key(0), None
  try:
    state = jax.eval_shape(runs.initializer(experiment), key, batch)
    jax.eval_shape(lambda *args: experiment.method.step(args[0], experiment.prepare(*args[1:]), key), state, batch, key)
    prepared = jax.eval_shape(experiment.prepare, batch, key)
    if not experiment.hears:
      seen = prepared['inputs']
      jax.eval_shape(experiment.method.represent, state, seen)
      measure_generative.trace(experiment, state, seen)
  except Exception as error:  # Flax and the method run with what the config holds, whatever that leads to.
    raise ValueError(f'config.method does not suit the data: {error}') from error
  _require_memory('config.method: its state', state)
  _require_memory('config.data.recipe: a batch of its views', prepared)
  if experiment.hears:
    measure_audio.check(experiment, state)
  evaluation_options.check_fine_tuning(config.evaluation, experiment, state, seen)
  if config.init_from and begins:
    runs.start_from(state, config.init_from, experiment)
  return description


def _require_memory(what: str, tree: Any) -> None:
  """Raises ValueError where arrays of these shapes are more than all devices hold, of which XLA would crash."""
  size = sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(tree))
  stats = jax.local_devices()[0].memory_stats()  # None on CPUs, which share the machine's memory.
  memory = stats['bytes_limit'] * jax.device_count() if stats else (
      os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES') * jax.process_count())
  if size > memory:
    raise ValueError(f'{what} takes {size / 2**30:,.1f} GiB, more than the {memory / 2**30:,.1f} GiB that there are')
