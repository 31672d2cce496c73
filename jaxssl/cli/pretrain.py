"""Pretraining: from the start or the last checkpoint, to the end or a signal."""

import contextlib
import os
import time
from collections.abc import Generator, Iterable
from typing import Any

import jax
from jax.sharding import Mesh
from ml_collections import ConfigDict

from jaxssl.build import Experiment, Source, stream
from jaxssl.cli import pictures_samples, runs
from jaxssl.cli.online import Online
from jaxssl.cli.record import Readable, Recorder, Timed
from jaxssl.evaluation import geometry
from jaxssl.training import hosts, loop, mesh
from jaxssl.training.checkpoints import Checkpoints
from jaxssl.training.interrupt import Interrupt
from jaxssl.training.logging import MetricLogger, progress


def pretrain(
    config: ConfigDict, path: str, experiment: Experiment, source: Source, description: dict[str, Any], devices: Mesh,
    interrupt: Interrupt, labelled: Source | None = None,
) -> tuple[runs.Run, int]:
  """Trains on from the last checkpoint, or from the start; returns the run and the number of steps taken now.

  `labelled` is what online evaluation draws from, if it is wanted.
  """
  interrupt.release('no step has been taken; the same command starts again.')
  make_initial = lambda: runs.initial_state(experiment, config, devices, runs.batch_like(description))
  meta = {'config': config.to_dict(), 'seed': config.seed, 'num_examples': len(source), 'seconds': 0.0,
          'batch': description, 'fingerprint': runs.fingerprint(source), 'mesh': dict(devices.shape)}
  run = runs.Run(config, experiment, make_initial(), None, meta)
  moved = ''
  with Checkpoints(os.path.join(path, 'checkpoints'), **config.checkpoint) as checkpoints:
    if checkpoints.latest_step() is not None:
      _refuse_other_data(checkpoints.meta(), meta)
      state, stored = checkpoints.restore(run.state)
      moved = _moved(stored.get('mesh', meta['mesh']), meta['mesh'], config.batch_size)
      run = run._replace(state=state, meta={**stored, 'mesh': meta['mesh']})
    elif config.init_from:
      run = run._replace(state=runs.start_from(run.state, config.init_from, run.experiment))
    start = int(run.state.step)
    if start:
      interrupt.release(f'step {start} is saved; the same command goes on from there.')
    if start < config.steps:
      online = Online(run, labelled, path, make_initial)
      _announce(run, path, source, moved)
      with contextlib.closing(batches(config, source, devices, start)) as examples:
        run = _iterate(run, path, devices, examples, checkpoints, interrupt, online)
  step = int(run.state.step)
  interrupt.release(f'training is complete and saved, at step {step}; the same command evaluates it.')
  return run._replace(initial=make_initial()), step - start


def batches(config: ConfigDict, source: Source, devices: Mesh, start: int = 0) -> Generator[runs.Batch, None, None]:
  """Returns this process's part of every batch from step `start` on, to be closed."""
  host, count = mesh.local_share(devices, config.batch_size)
  return stream(config.to_dict(), source, start, host=host, hosts=count)


def _moved(then: dict[str, int], now: dict[str, int], batch_size: int) -> str:
  """Returns what changes for a run that goes on with other devices than those of its checkpoint; '' if nothing."""
  if then == now:
    return ''
  words = [f'{each["data"] * each["model"]} device{"s" if each["data"] * each["model"] > 1 else ""}'
           + (f', {each["model"]} to each copy of the parameters' if each['model'] > 1 else '') for each in (then, now)]
  before, after = (batch_size // (each['data'] * each['model']) for each in (then, now))
  shares = f'{after} examples a device' if after == before else f'{after} examples a device instead of {before}'
  return f'The checkpoint is of {words[0]}; going on with {words[1]}: {shares}; the same up to rounding.'


def _announce(run: runs.Run, path: str, source: Source, moved: str) -> None:
  """Says what is about to happen, before the silence of the first compilation."""
  config, device, count = run.config, jax.devices()[0], jax.device_count()
  epochs = config.steps * config.batch_size / len(source)
  print(f'{config.method.name} on {source.name}: {len(source):,} {run.examples}, {config.steps:,} steps of '
        f'{config.batch_size} ({epochs:,.1f} epochs), on {count} {device.device_kind} device'
        f'{"s" if count > 1 else ""}, in {path}')
  if start := int(run.state.step):
    print(f'Resuming from step {start}.')
  elif config.init_from:
    print(f'The encoder starts from {config.init_from}.')
  if moved:
    print(moved)
  if not run.hears and run.channels == 3 and _compares(run.experiment) and not run.experiment.recipe.recolours:
    print('These images have colours and no view changes them: for photographs, the recipe of configs/simclr_folder.py '
          'teaches more.')
  print('Compiling the train step …', flush=True)


def _compares(experiment: Experiment) -> bool:
  """Whether views of an image are compared; what reconstructs, generates or predicts one view wants its colours."""
  if any(hasattr(experiment.method, name) for name in ('score', 'sample')):
    return False
  views, patches = (getattr(experiment.recipe, name, None) for name in ('views', 'patches'))
  return views is None or len(views) > 1 or patches is not None


def _refuse_other_data(stored: dict, present: dict) -> None:
  """Raises ValueError if the data set is no longer the one that the run began on."""
  then, now = ({'examples': meta['num_examples'], **meta['batch']} for meta in (stored, present))
  changes = [f'{key} were {then.get(key, "absent")} and are now {now.get(key, "absent")}'
             for key in then | now if then.get(key) != now.get(key)]
  if not changes and stored.get('fingerprint', present['fingerprint']) != present['fingerprint']:
    changes = ['there are as many examples, but not the same']
  if changes:
    raise ValueError(
        f'the data are not those that the run began with: {"; ".join(changes)}. Bring them back, or choose another '
        '--workdir')


def _iterate(
    run: runs.Run, path: str, devices: Mesh, examples: Iterable, checkpoints: Checkpoints, interrupt: Interrupt,
    online: Online,
) -> runs.Run:
  """The loop itself: log, save; stop on a signal, a loss that is not finite, or data that cannot be read."""
  config, experiment, state, step = run.config, run.experiment, run.state, int(run.state.step)
  key, start, began, spent = jax.random.key(config.seed), step, time.time(), run.meta['seconds']
  draw = pictures_samples.over_training(run, path)
  draw(start, state)  # Also where a run was killed after a save, before it had drawn.
  readable = Readable(examples)
  timed = Timed(mesh.shard_batch(devices, batch) for batch in readable)
  with (
      MetricLogger(path, start=start) as logger,
      progress(config.steps, start) as bar,
      hosts.Stop(lambda: interrupt.received is not None, start) as stop,
  ):
    recorder = Recorder(
        logger, bar, timed, config.batch_size, experiment.schedules, _health(experiment, key), online)

    def record(step: int, state: Any, batch: Any, save: bool, last: bool = False) -> None:
      with _naming_last_good(checkpoints):
        recorder.write(step, state, batch)
      if save:
        run.meta['seconds'] = spent + time.time() - began - online.seconds
        checkpoints.save(step, state, run.meta, force=last)
        draw(step, state)

    for step, state, metrics, batch in loop.train(
        experiment.method, experiment.prepare, state, timed, key, start, config.steps):
      interrupt.hold()
      recorder.add(metrics)
      last = step == config.steps or stop.after(step)
      save = last or step % config.checkpoint.every == 0
      if save or step % config.logging.every == 0 or step == 1 or online.due(step):
        record(step, state, batch, save, last)
      if last:
        break
    if readable.error is not None:
      if step > start and jax.process_count() == 1:  # Several processes save together or not at all.
        record(step, state, batch, save=True, last=True)
      readable.complain(checkpoints.latest_step())
  return run._replace(state=state)


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
  """Returns (state, batch, i) -> health of the embedding on step i's views; None for a method without `embed`.

  A method's own `health(state, batch)`, where it has one, adds what it alone has, such as a target network.
  """
  method = experiment.method
  if not hasattr(method, 'embed'):
    return None

  @jax.jit
  def health(state, batch, i):
    views = experiment.prepare(batch, loop.keys(key, i)[0])
    own = method.health(state, views) if hasattr(method, 'health') else {}
    return {**geometry.health(*method.embed(state, views)), **own}

  return health
