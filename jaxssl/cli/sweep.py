"""jaxssl sweep: trains one run a combination of config values, each by the train command, and compares them."""

import functools
import json
import logging
import os
import re
import shlex
import signal
import sys
from collections.abc import Mapping, Sequence
from typing import Any

import jax
from absl import flags
from ml_collections import ConfigDict, config_flags

from jaxssl.build import load_source
from jaxssl.cli import evaluation_options, measure_audio, sweep_table, train, trials, workdir
from jaxssl.cli.children import Children
from jaxssl.cli.launch import launch, parsing
from jaxssl.cli.sweep_record import Record
from jaxssl.cli.sweep_table import Sweep
from jaxssl.cli.trials import Trial
from jaxssl.evaluation import plots_sweep, table

log = logging.getLogger(__name__)
USAGE = """Trains one run for each combination of config values, and compares them; the same command goes on.

  jaxssl sweep [--config FILE.py] --sweep.KEY=VALUES … [--config.KEY=VALUE …] --workdir DIR [--trials N] [--check]

VALUES: a list with commas, 0.1,0.2 or "(32,64),(64,128)" or "'a,b',c", where what stands within brackets or quotes is
one value; with --trials=N also a range of numbers, uniform:LOW:HIGH or log:LOW:HIGH, to draw from."""
PICTURE = 'sweep.png'


def main() -> None:
  """Parses the flags and runs."""
  command = [sys.executable, '-m', 'jaxssl', 'sweep', *sys.argv[1:]]
  with parsing():
    file = train.config_file()
    config = config_flags.DEFINE_config_dict('config', train.described(file), 'Overrides: --config.KEY=VALUE.')
  directory = flags.DEFINE_string('workdir', None, 'Work directory of the sweep.', required=True)
  draws = flags.DEFINE_integer(
      'trials', None, 'Draw so many combinations at random; default: all that there are.', lower_bound=1)
  seed = flags.DEFINE_integer('trials_seed', 0, 'Of the draws.')
  metric = flags.DEFINE_list(
      'metric', [], 'The figure to choose by, as FIELD=VALUE,… of a row in results.json; default: '
      + ','.join(f'{key}={value}' for key, value in sweep_table.DEFAULT.items()))
  minimize = flags.DEFINE_bool('minimize', False, 'Less of the metric is better.')
  check_only = flags.DEFINE_bool('check', False, 'Only check all trials and list them.')
  named = filter(None, (re.match(r'--?sweep\.([^=]+)', argument) for argument in sys.argv[1:]))
  swept = {key: flags.DEFINE_multi_string(f'sweep.{key}', None, f'Values of --config.{key}.')
           for key in dict.fromkeys(each[1] for each in named)}

  def run():
    if not swept:
      raise ValueError('--sweep.KEY=VALUES is missing: there is nothing to sweep over')
    path, base = os.path.abspath(directory.value), config_flags.get_override_values(flags.FLAGS['config'])
    with parsing():
      texts = {key: ','.join(flag.value) for key, flag in swept.items()}
      planned = trials.plan(file, base, texts, draws.value, seed.value)
    wanted = sweep_table.parse(metric.value)
    if check_only.value:
      check(planned, path, config.value)
      return
    jax.config.update('jax_platforms', 'cpu')  # The devices are for the trials.
    sweep(file, config.value, planned, path, wanted, minimize.value, [*command, '--check'])

  launch(run, USAGE)


def sweep(
    file: str, config: ConfigDict, planned: Sequence[Trial], path: str, metric: Mapping[str, str], minimize: bool,
    checking: Sequence[str],
) -> None:
  """Trains and evaluates the trials in sub-directories of `path`, one after another, and prints their table.

  `checking` is the command that checks them first, in a process of its own, which takes the devices with it.
  """
  known, measured = {*evaluation_options.PROTOCOLS, *measure_audio.PROTOCOLS}, config.evaluation.protocols
  if metric['protocol'] in known.difference(measured):
    raise ValueError(f'--metric=protocol={metric["protocol"]}: config.evaluation.protocols are {", ".join(measured)}')
  workdir.refuse_second(path)
  workdir.refuse_links(path)
  record = Record(path, config)
  waiting = [trial for trial in planned if not record.is_finished(trial)]
  with Children() as children:
    status = children.run(checking) if waiting else 0
    if status and not children.received:
      raise SystemExit(status if status > 0 else 128 - status)
    if not children.received:
      with workdir.locked(path):
        record.expect(planned)
        print(f'{len(planned)} trials, {len(planned) - len(waiting)} of them finished before, in {path}', flush=True)
        _train(waiting, file, path, record, metric, children)
        show(record, path, metric, minimize)
    if children.received:
      print('Stopped; the same command goes on from there.', flush=True)
      raise SystemExit(128 + children.received[-1] if len(children.received) > 1 else 0)
  if not any(record.is_finished(trial) for trial in planned):
    raise ValueError('no trial has finished')


def _train(
    waiting: Sequence[Trial], file: str, path: str, record: Record, metric: Mapping[str, str], children: Children,
) -> None:
  """Trains and evaluates the trials one after another, until there is a signal."""
  for i, trial in enumerate(waiting, 1):
    print(f'[{i}/{len(waiting)}] {trial.name} …', flush=True)
    row = attempt(trial, file, path, record, children)
    if children.received:
      return
    print(f'[{i}/{len(waiting)}] {_outcome(row, metric)}', flush=True)


def check(planned: Sequence[Trial], path: str, config: ConfigDict) -> None:
  """Raises ValueError, with the trial's name, if one that is not finished could not begin; lists all."""
  record = Record(path, config)

  @functools.lru_cache(maxsize=2)
  def opened(section: str, split: str):
    return load_source({'data': sections[section]}, split)

  def load(described: Mapping[str, Any], split: str):
    section = json.dumps(described['data'], sort_keys=True)
    sections[section] = described['data']
    return opened(section, split)

  sections: dict[str, Any] = {}
  for trial in planned:
    directory = os.path.join(path, record.directory(trial))
    if record.is_finished(trial):
      print(f'finished: {trial.name}', flush=True)
      continue
    try:
      workdir.refuse_second(directory)
    except ValueError as error:
      raise ValueError(f'trial {trial.name}: {error}; a sweep that was killed leaves its trial running: wait for its '
                       'end, or end it') from error
    try:
      train.prepare(trial.config, directory, load(trial.config.to_dict(), 'pretrain'), load)
    except (ValueError, OSError, ImportError) as error:
      raise ValueError(f'trial {trial.name}: {error}') from error
    print(f'checked: {trial.name}', flush=True)


def attempt(trial: Trial, file: str, path: str, record: Record, children: Children) -> dict[str, Any]:
  """Trains and evaluates a trial by the train command; returns its row."""
  directory = os.path.join(path, record.directory(trial))
  output = f'{directory}.log'
  start = os.path.getsize(output) if os.path.exists(output) else 0
  status = children.run(
      [sys.executable, '-m', 'jaxssl', 'train', '--config', file, *trial.overrides, '--workdir', directory], output)
  if children.received:
    return record.write(trial, 'stopped')
  if status:
    return record.write(trial, 'failed', _error(status, output, start))
  try:
    results = table.read(os.path.join(directory, 'results.json'))
  except FileNotFoundError:
    return record.write(trial, 'stopped')
  return record.write(trial, 'finished', results=results)


def _error(status: int, output: str, start: int) -> str:
  """Returns why a command ended: the error among what it printed to the file `output` after `start` bytes."""
  if status < 0:
    return f'ended by signal {-status} ({signal.strsignal(-status)})'
  with open(output, 'rb') as opened:
    opened.seek(start)
    lines = [line for line in opened.read().decode(errors='replace').splitlines() if line.strip()]
  errors = [line.removeprefix('error: ') for line in lines if line.startswith('error: ')]
  return [f'exit status {status}', *lines[-1:], *errors[-1:]][-1]


def _outcome(row: Mapping[str, Any], metric: Mapping[str, str]) -> str:
  if row['status'] != 'finished':
    return f'{row["status"]}: {row["error"]}'
  value = sweep_table.figures(row['results'], metric)[metric['features']]
  return f'{table.number(value, sweep_table.chosen(row["results"], metric))} after {row["seconds"]:,.0f} s of training'


def show(record: Record, path: str, metric: Mapping[str, str], minimize: bool) -> None:
  """Prints the table of all trials in the work directory, and draws the picture."""
  found = Sweep(record.config.to_dict(), list(record.rows.values()), metric, minimize)
  print('\n'.join([*table.aligned(found.grid()), *found.notes()]))
  best = found.best
  if best is not None:
    print(f'Best: {os.path.join(path, best["directory"])}\n  '
          + ' '.join(shlex.quote(f'--config.{key}={value}') for key, value in best['values'].items()))
    try:
      draw(found, os.path.join(path, PICTURE))
      print(f'Picture: {os.path.join(path, PICTURE)}')
    except OSError as error:  # The table is written.
      log.warning('%s cannot be written: %s', os.path.join(path, PICTURE), error.strerror or error)
  print(f'Table: {record.file}', flush=True)


def draw(found: Sweep, file: str) -> None:
  """Draws the figures of the finished trials, and where others failed, over each key."""
  rows = [row for row in found.rows if row['results'] or row['status'] == 'failed']
  figures = [sweep_table.figures(row['results'], found.metric)[found.metric['features']] if row['results'] else None
             for row in rows]
  settings = {key: [found.settings(row)[key] for row in rows] for key in found.keys}
  plots_sweep.over_keys(settings, figures, file, name=table.describe(found.row(rows[0])), best=0)
