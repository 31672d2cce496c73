"""jaxssl sweep as its user meets it: trials that finish, fail, are killed and go on; one table of all."""

import json
import os
import pathlib
import re
import shutil
import signal
import subprocess
import sys

import pytest

sys.path.insert(0, os.path.dirname(__file__))
from processes import finish, read_until, rows_of, saved, wait_for

from jaxssl.cli import sweep, sweep_table, trials, workdir

CONFIG = pathlib.Path(__file__).with_name('tiny_config.py')
ROOT = CONFIG.parents[2]
TEMPERATURES = {'method.temperature': '0.1,0.2'}


def command(path, *arguments):
  environment = {**os.environ, 'XLA_FLAGS': os.environ['QUICK_XLA_FLAGS'], 'JAX_PLATFORMS': 'cpu',
                 'PYTHONPATH': str(ROOT)}
  return subprocess.Popen(
      [sys.executable, '-m', 'jaxssl', 'sweep', '--config', CONFIG, '--workdir', path, *arguments], env=environment,
      text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)


def rows(path):
  return {row['directory'].rpartition('-')[0]: row for row in json.loads((path / 'sweep.json').read_text())['rows']}


class Pretended:
  """In the place of `Children`: a train command whose accuracy is its temperature, and which fails below zero."""

  def __init__(self):
    self.ran, self.received, self.signal_after = [], [], None

  def __enter__(self):
    return self

  def __exit__(self, *exception):
    pass

  def run(self, arguments, output=None):
    if output is None:
      return 0
    self.ran.append(os.path.basename(arguments[-1]).rpartition('-')[0])
    if len(self.ran) == self.signal_after:
      self.received = [signal.SIGTERM]
      return 0
    temperature = float(next(each for each in arguments if 'temperature' in each).partition('=')[2])
    if temperature < 0:
      pathlib.Path(output).write_text('error: earlier\nwarning\nerror: it is negative\n\nDone.\n')
      return 1
    os.makedirs(arguments[-1], exist_ok=True)
    row = {'protocol': 'knn', 'k': 5, 'temperature': 0.1, 'label': 'class', 'representation': 'h', 'metric': 'accuracy',
           'data': 'pretended', 'step': 12}
    workdir.write_json(os.path.join(arguments[-1], 'results.json'), {
        'rows': [{**row, 'features': 'raw', 'value': 0.0}, {**row, 'features': 'trained', 'value': temperature}],
        'seconds': 1.0, 'images_per_second': 1.0})
    return 0


@pytest.fixture
def run(tmp_path, monkeypatch):
  """Runs a sweep of pretended trials in the test's directory; returns what it trained."""

  def run(swept, base=(), signal_after=None, **options):
    children = Pretended()
    children.signal_after = signal_after
    monkeypatch.setattr(sweep, 'Children', lambda: children)
    base = dict(base)
    settings = {'metric': sweep_table.DEFAULT, 'minimize': False, 'checking': [], **options}
    sweep.sweep(str(CONFIG), trials.configure(str(CONFIG), base), trials.plan(str(CONFIG), base, swept),
                str(tmp_path), **settings)
    return children.ran

  return run


def test_what_is_finished_is_not_done_again_and_more_values_extend_it(run, tmp_path, capsys):
  assert run(TEMPERATURES) == ['method.temperature=0.1', 'method.temperature=0.2']
  assert (tmp_path / 'sweep.png').stat().st_size > 5000
  assert run(TEMPERATURES) == []
  assert '2 trials, 2 of them finished before' in capsys.readouterr().out
  assert run({'method.temperature': '0.2,0.3', 'seed': '1,2'}) == [
      f'method.temperature={temperature},seed={seed}' for temperature, seed in (
          (0.2, 2), (0.3, 1), (0.3, 2))], 'the tiny config has seed 1'
  out = capsys.readouterr().out
  lines = [line.split() for line in out.splitlines() if line.endswith('finished')]
  assert [line[1:3] for line in lines] == [['0.3', '1'], ['0.3', '2'], ['0.2', '1'], ['0.2', '2'], ['0.1', '1']]
  assert re.search(r'Best: .*=0.3,seed=1-\w+\n  --config.method.temperature=0.3 --config.seed=1\n', out)
  shutil.rmtree(tmp_path / rows(tmp_path)['method.temperature=0.1']['directory'])
  assert run(TEMPERATURES) == ['method.temperature=0.1'], 'whose directory was removed'


def test_a_trial_that_fails_is_recorded_and_tried_again(run, tmp_path, capsys):
  swept = {'method.temperature': '0.1,-1.0,0.2'}
  assert len(run(swept)) == 3
  assert {name: (row['status'], row['error']) for name, row in rows(tmp_path).items()} == {
      'method.temperature=0.1': ('finished', ''), 'method.temperature=-1.0': ('failed', 'it is negative'),
      'method.temperature=0.2': ('finished', '')}
  out = capsys.readouterr().out
  assert 'failed: it is negative' in out and 'CAUTION: the best of 2' in out
  assert run(swept) == ['method.temperature=-1.0']
  with pytest.raises(ValueError, match='no trial has finished'):
    run({'method.temperature': '-1.0'})


def test_a_signal_ends_the_sweep_with_the_trial(run, tmp_path, capsys):
  with pytest.raises(SystemExit) as ended:
    run({'method.temperature': '0.1,0.2,0.3'}, signal_after=2)
  assert ended.value.code == 0 and 'the same command goes on' in capsys.readouterr().out
  assert [row['status'] for row in rows(tmp_path).values()] == ['finished', 'stopped', 'waiting']
  assert run({'method.temperature': '0.1,0.2,0.3'}) == ['method.temperature=0.2', 'method.temperature=0.3']


def test_another_base_config_is_refused(run, tmp_path):
  run(TEMPERATURES)
  before = (tmp_path / 'sweep.json').read_text()
  with pytest.raises(ValueError, match=r'(?s)holds a run of another config.*config.steps = 13 \(the run has 12\)'):
    run(TEMPERATURES, {'steps': 13})
  assert (tmp_path / 'sweep.json').read_text() == before


def test_another_evaluation_is_measured_anew(run, tmp_path):
  run({'method.temperature': '0.1,0.2,0.3'})
  assert len(run(TEMPERATURES, {'evaluation.knn.k': 7})) == 2
  assert [row['status'] for row in rows(tmp_path).values()] == ['finished', 'finished', 'evaluated otherwise']


def test_a_damaged_record_is_set_aside_and_the_trials_are_asked(run, tmp_path):
  run(TEMPERATURES)
  (tmp_path / 'sweep.json').write_text('{"rows": [')
  assert len(run(TEMPERATURES)) == 2, 'each of them says that it is finished'
  assert (tmp_path / 'sweep.json.damaged').exists()


@pytest.mark.parametrize('change, message', [
    ({'directory': '../elsewhere'}, "row.directory is '../elsewhere'"), ({'directory': '..'}, 'row.directory'),
    ({'results': [{'protocol': 'knn'}]}, 'KeyError'), ({'results': 'x'}, 'row.results must be'),
    ({'values': 3}, 'row.values must be'), ({'seconds': 'long'}, 'row.seconds must be')])
def test_a_record_of_someone_elses_is_named(run, tmp_path, change, message):
  run(TEMPERATURES)
  stored = json.loads((tmp_path / 'sweep.json').read_text())
  stored['rows'][0] |= change
  (tmp_path / 'sweep.json').write_text(json.dumps(stored))
  with pytest.raises(ValueError, match=f'sweep.json does not hold a sweep: .*{message}'):
    run(TEMPERATURES)


@pytest.mark.parametrize('metric, message', [
    ({'protocol': 'linear'}, '--metric=protocol=linear: config.evaluation.protocols are knn'),
    ({'label': 'speaker'}, r'(?s)label=speaker: the results have no such figure; they have:.*label=class')])
def test_a_metric_that_is_not_there(run, tmp_path, metric, message):
  with pytest.raises(ValueError, match=message):
    run(TEMPERATURES, metric={**sweep_table.DEFAULT, **metric})


def test_a_run_and_a_busy_directory_are_refused(run, tmp_path):
  with workdir.locked(str(tmp_path)), pytest.raises(ValueError, match='another process is training there'):
    run(TEMPERATURES)
  (tmp_path / 'config.json').write_text('{}')
  with pytest.raises(ValueError, match='holds a run; choose another for the sweep'):
    run(TEMPERATURES)


def planned(**swept):
  base = {'mesh.data': 8}  # As many as the tests simulate.
  return (trials.configure(str(CONFIG), base),
          trials.plan(str(CONFIG), base, {key.replace('__', '.'): text for key, text in swept.items()}))


def test_all_trials_are_checked_before_the_first(tmp_path, capsys):
  config, made = planned(method__temperature='0.1,-1', batch_size='16')
  with pytest.raises(ValueError, match=r'trial batch_size=16,method.temperature=-1.0-\w+: config.method: temperature'):
    sweep.check(made, str(tmp_path / 'sweep'), config)
  assert capsys.readouterr().out.startswith('checked: batch_size=16,method.temperature=0.1')
  for swept, message in (({'batch_size': '16,100000'}, 'batch_size = 100000 is more than the 3630'),
                         ({'method__head': "{'name':'mlp','features':()}"}, 'config.method does not suit the data')):
    config, made = planned(**swept)
    with pytest.raises(ValueError, match=f'trial .*: config.*{message}|trial .*{message}'):
      sweep.check(made, str(tmp_path / 'sweep'), config)
  assert not (tmp_path / 'sweep').exists(), 'nothing is written for a sweep that cannot start'


def test_a_trial_that_still_trains_is_refused(tmp_path):
  config, (trial,) = planned(method__temperature='0.1')
  with workdir.locked(str(tmp_path / trial.name)), pytest.raises(ValueError, match='another process is training there'):
    sweep.check([trial], str(tmp_path), config)


# The command itself.


@pytest.mark.parametrize('swept', [('0.05',), pytest.param(('0.05', '1e30'), marks=pytest.mark.slow)])
def test_the_trials_are_runs_of_the_train_command(tmp_path, swept):
  path = tmp_path / 'sweep'
  out = finish(command(path, f'--sweep.method.optimizer.learning_rate.base={",".join(swept)}', '--config.steps=4'))
  assert out.count('checked: ') == len(swept)
  good, *failed = rows(path).values()
  assert good['status'] == 'finished' and good['values'] == {'method.optimizer.learning_rate.base': 0.05}
  assert good['results'] == rows_of(path / good['directory'])
  assert workdir.read_config(str(path / good['directory'])).steps == 4
  assert 'trained encoder' in (path / f'{good["directory"]}.log').read_text()
  assert f'Best: {path / good["directory"]}' in out and (path / 'sweep.png').exists()
  assert all(row['status'] == 'failed' and 'not finite at step' in row['error'] for row in failed)
  assert len(failed) == len(swept) - 1 == out.count('failed: the loss')


@pytest.mark.parametrize('arguments, message', [
    (['--sweep.method.temperature=0.1', '--sweep.method.temperature', '-1'],
     r'checked: method.temperature=0.1-\w+\nerror: trial method.temperature=-1.0-\w+: config.method: temperature must'),
    pytest.param([], 'error: --sweep.KEY=VALUES is missing', marks=pytest.mark.slow),
    pytest.param(['--sweep.method.temprature=0.1'], 'error: --sweep.method.temprature: no .*; did you mean',
                 marks=pytest.mark.slow)])
def test_what_cannot_be_is_refused_in_one_line(tmp_path, arguments, message):
  out = finish(command(tmp_path / 'sweep', *arguments, '--check'), status=1)
  assert re.search(message, out), out
  assert not (tmp_path / 'sweep').exists()


@pytest.mark.slow
@pytest.mark.parametrize('number', [signal.SIGTERM, signal.SIGINT])
def test_a_signal_stops_the_trial_cleanly_and_then_the_sweep(tmp_path, number):
  arguments = ['--sweep.method.temperature=0.1,0.2', '--config.steps=100000', '--config.checkpoint.every=100000']
  process = command(tmp_path, *arguments)
  read_until(process, '[1/2]')
  (trial,) = wait_for(lambda: list(tmp_path.glob('*0.1-*/metrics.jsonl')), process)
  wait_for(lambda: len(trial.read_text().splitlines()) > 3, process)
  process.send_signal(number)
  out = finish(process)
  assert 'Stopped; the same command goes on' in out
  found = rows(tmp_path)
  assert [row['status'] for row in found.values()] == ['stopped', 'waiting']
  log = (tmp_path / f'{found["method.temperature=0.1"]["directory"]}.log').read_text()
  step = int(re.search(r'Stopped at step (\d+) of', log)[1])
  assert (trial.parent / 'checkpoints' / str(step)).is_dir(), 'it is saved'


def process_of(directory):
  """Returns the id of the train command in a work directory."""
  (found,) = [int(file.parent.name) for file in pathlib.Path('/proc').glob('[0-9]*/cmdline')
              if file.read_bytes().endswith(f'--workdir\0{directory}\0'.encode())]
  return found


@pytest.mark.slow
def test_a_killed_sweep_goes_on(tmp_path):
  arguments = ['--sweep.method.temperature=0.1,0.2', '--sweep.method.optimizer.learning_rate.base=0.02,0.05',
               '--config.steps=400', '--config.checkpoint.every=20']
  process = command(tmp_path, *arguments)
  read_until(process, '[2/4]')
  (second,) = (each.parent for each in wait_for(lambda: list(tmp_path.glob('*0.05,*0.1-*/checkpoints')), process))
  wait_for(lambda: max(saved(second), default=0) >= 40, process)
  trial = process_of(second)
  process.kill()
  process.communicate()
  with pytest.raises(ValueError, match='another process is training there'):
    workdir.refuse_second(str(second))  # The trial goes on by itself, and a sweep would refuse to start beside it.
  os.kill(trial, signal.SIGKILL)
  assert [row['status'] for row in rows(tmp_path).values()] == ['finished', 'waiting', 'waiting', 'waiting']
  out = finish(command(tmp_path, *arguments))
  assert '4 trials, 1 of them finished before' in out
  assert [row['status'] for row in rows(tmp_path).values()] == ['finished'] * 4
  assert re.search(r'Resuming from step [1-9]\d+', (tmp_path / f'{second.name}.log').read_text())
