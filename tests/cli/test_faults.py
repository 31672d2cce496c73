"""Runs that are killed, stopped, started twice, or whose loss is no number: nothing saved is lost, no bit changes."""

import json
import os
import shutil
import signal
import sys
import time

import numpy as np
import pytest

sys.path.insert(0, os.path.dirname(__file__))
from processes import command, digest, finish, logged, read_until, saved, wait_for

ENDLESS = ('--config.steps=1000000', '--config.checkpoint.every=1000000')


@pytest.fixture(scope='module')
def whole(tmp_path_factory):
  """A run that was never disturbed, and its output."""
  path = tmp_path_factory.mktemp('whole')
  return path, finish(command('--workdir', path))


# kill -9.


def kill(process):
  process.kill()
  process.communicate()


def saving(path):
  """Returns whether a checkpoint is being written."""
  directory = path / 'checkpoints'
  return directory.is_dir() and any('orbax-checkpoint-tmp' in name for name in os.listdir(directory))


def kill_in_a_save(process, path):
  """Kills a process while a directory of a checkpoint is unfinished."""
  while True:
    wait_for(lambda: saving(path), process, interval=0.0005)
    process.send_signal(signal.SIGSTOP)
    time.sleep(0.02)
    if saving(path):
      return kill(process)
    process.send_signal(signal.SIGCONT)


def names(path):
  """Returns the names of all files of a run, but TensorBoard's, each start has its own, and Orbax's random ones."""
  every = (file.relative_to(path) for file in path.rglob('*'))
  return {str(name) for name in every if name.parts[0] != 'tensorboard' and name.parent.name != 'd'}


@pytest.mark.slow
@pytest.mark.parametrize('seed', [0])
def test_twenty_kills_at_random_moments_change_no_bit(tmp_path, seed):
  long = '--config.steps=3000', '--config.checkpoint.every=20'
  undisturbed = finish(command('--workdir', tmp_path / 'whole', *long))
  path, rng = tmp_path / 'killed', np.random.default_rng(seed)
  moments = []
  for _ in range(20):
    process = command('--workdir', path, *long)
    kind, began, before = rng.choice(['start', 'training', 'save']), time.time(), max(logged(path), default=0)
    if kind == 'start':
      time.sleep(rng.uniform(0, 6))
      assert process.poll() is None, process.communicate()[0]
      kill(process)
    else:
      target = before + int(rng.integers(1, 120))
      wait_for(lambda target=target: max(logged(path), default=0) >= target, process)
      if kind == 'save':
        kill_in_a_save(process, path)
      else:
        time.sleep(rng.uniform(0, 0.2))
        kill(process)
    moments.append(f'{kind} after {time.time() - began:.2f} s, {max(saved(path), default=0)} saved')
  print('\n'.join(moments))
  assert max(saved(path)) < 3000
  out = finish(command('--workdir', path, *long))
  assert digest(out) == digest(undisturbed)
  assert logged(path) == logged(tmp_path / 'whole')
  for row, same in zip(*(map(json.loads, (tmp_path / each / 'metrics.jsonl').open()) for each in ('killed', 'whole')),
                       strict=True):
    timed = {'images_per_second', 'data_wait_fraction'}
    assert {k: v for k, v in row.items() if k not in timed} == {k: v for k, v in same.items() if k not in timed}
  assert names(path) == names(tmp_path / 'whole')
  assert not [name for name in names(path) if 'tmp' in name]


@pytest.mark.slow
def test_a_kill_in_a_save_changes_no_bit(tmp_path, whole):
  process = command('--workdir', tmp_path, '--config.checkpoint.every=1')
  wait_for(lambda: len(saved(tmp_path)) > 1, process)
  kill_in_a_save(process, tmp_path)
  assert saving(tmp_path) and 12 > max(saved(tmp_path)) > 0
  assert digest(finish(command('--workdir', tmp_path))) == digest(whole[1])
  assert not [name for name in names(tmp_path) if 'tmp' in name]
  assert logged(tmp_path) == sorted(set(logged(tmp_path)))


# SIGTERM and SIGINT.


def stop(process, number, status=0):
  """Sends a signal; returns the rest of the output of a process that has to end within seconds."""
  began = time.time()
  process.send_signal(number)
  out = finish(process, status, seconds=60)
  assert time.time() - began < 10, 'seconds'
  return out


@pytest.mark.parametrize('number', [signal.SIGTERM, pytest.param(signal.SIGINT, marks=pytest.mark.slow)])
def test_a_signal_while_data_are_loading(tmp_path, number):
  process = command('--workdir', tmp_path / 'run', fault='slow_loading')
  read_until(process, 'hanging')
  out = stop(process, number)
  assert f'{number.name}: nothing has been written; the same command starts again.' in out
  assert not (tmp_path / 'run').exists()


def test_a_signal_during_the_first_compilation(tmp_path):
  process = command('--workdir', tmp_path, fault='long_compilation')
  read_until(process, 'Compiling the train step')
  time.sleep(1)
  out = stop(process, signal.SIGTERM)
  assert 'SIGTERM: no step has been taken; the same command starts again.' in out
  assert logged(tmp_path) == [] and saved(tmp_path) == []


@pytest.mark.slow
@pytest.mark.parametrize('number', [signal.SIGTERM, signal.SIGINT])
def test_a_signal_during_the_evaluation(tmp_path, whole, number):
  shutil.copytree(whole[0], tmp_path, dirs_exist_ok=True)
  (tmp_path / 'results.json').unlink()
  process = command('--workdir', tmp_path, fault='slow_evaluation')
  read_until(process, 'hanging')
  out = stop(process, number)
  assert f'{number.name}: training is complete and saved, at step 12; the same command evaluates it.' in out
  assert not (tmp_path / 'results.json').exists()
  assert digest(finish(command('--workdir', tmp_path))) == digest(whole[1])


@pytest.mark.slow
@pytest.mark.parametrize('number', [signal.SIGTERM, signal.SIGINT])
def test_a_signal_while_a_checkpoint_is_written(tmp_path, number):
  process = command('--workdir', tmp_path, '--config.steps=1000000', '--config.checkpoint.every=5')
  wait_for(lambda: len(saved(tmp_path)) > 1, process)
  while True:
    wait_for(lambda: saving(tmp_path), process, interval=0.0005)
    process.send_signal(signal.SIGSTOP)
    time.sleep(0.02)
    if saving(tmp_path):
      break
    process.send_signal(signal.SIGCONT)
  process.send_signal(number)  # It is heard when the process goes on.
  out = stop(process, signal.SIGCONT)
  (*_, step) = saved(tmp_path)
  assert f'Stopped at step {step} of 1000000' in out and logged(tmp_path)[-1] == step and not saving(tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize('first', [signal.SIGTERM, signal.SIGINT])
def test_stopped_by_a_signal_and_resumed_changes_no_bit(tmp_path, first):
  steps = '--config.steps=400', '--config.checkpoint.every=1000'
  undisturbed = digest(finish(command('--workdir', tmp_path / 'whole', *steps)))
  process = command('--workdir', tmp_path / 'stopped', *steps)
  wait_for(lambda: max(logged(tmp_path / 'stopped'), default=0) > 20, process)
  assert 'stopping after this step, to save it' in stop(process, first)
  assert digest(finish(command('--workdir', tmp_path / 'stopped', *steps))) == undisturbed


@pytest.mark.slow
def test_a_second_signal_stops_at_once(tmp_path):
  process = command('--workdir', tmp_path, *ENDLESS)
  wait_for(lambda: len(logged(tmp_path)) > 2, process)
  process.send_signal(signal.SIGSTOP)
  process.send_signal(signal.SIGTERM)
  process.send_signal(signal.SIGINT)
  process.send_signal(signal.SIGCONT)
  out = process.communicate(timeout=10)[0]
  # Which of the two is heard first is up to the system.
  assert process.returncode in (128 + signal.SIGTERM, 128 + signal.SIGINT) and 'stopped at once' in out, out


@pytest.mark.slow
def test_a_signal_to_the_eval_command(tmp_path, whole):
  shutil.copytree(whole[0], tmp_path, dirs_exist_ok=True)
  before = (tmp_path / 'results.json').read_bytes()
  process = command('--workdir', tmp_path, "--config.evaluation.protocols=('finetune',)",
                    '--config.evaluation.finetune.epochs=1000', script='eval.py')
  read_until(process, 'Fine-tuning')
  assert 'SIGTERM: the same command evaluates again.' in stop(process, signal.SIGTERM)
  assert (tmp_path / 'results.json').read_bytes() == before


# Two at once.


@pytest.mark.slow
def test_a_second_trainer_is_refused_at_once_and_eval_is_not(tmp_path):
  endless = ENDLESS[0], '--config.checkpoint.every=200'
  first = command('--workdir', tmp_path, *endless)
  wait_for(lambda: saved(tmp_path), first)
  kept = {name: (tmp_path / name).read_bytes() for name in ('config.json', 'environment.json')}
  second = command('--workdir', tmp_path, *endless, fault='slow_loading')  # It does not come to load.
  assert f'error: --workdir {tmp_path}: another process is training there' in finish(second, 1)
  finish(command('--workdir', tmp_path, script='eval.py'))
  assert first.poll() is None
  assert kept == {name: (tmp_path / name).read_bytes() for name in kept}
  kill(first)
  third = command('--workdir', tmp_path, *endless)  # What a killed process locked is free.
  read_until(third, 'Resuming from step')
  wait_for(lambda: len(logged(tmp_path)) > 2, third)
  stop(third, signal.SIGTERM)


@pytest.mark.slow
def test_a_second_trainer_is_refused_during_the_evaluation_of_the_first(tmp_path):
  first = command('--workdir', tmp_path, fault='slow_evaluation')
  read_until(first, 'hanging')
  assert 'another process is training there' in finish(command('--workdir', tmp_path), 1)
  kill(first)
  assert 'Evaluating step 12' in finish(command('--workdir', tmp_path))


# A loss that is not a number.


@pytest.mark.slow
@pytest.mark.parametrize('step, good', [(1, None), (4, None), (5, 4), (7, 4), (8, 4), (9, 8), (12, 8)])
def test_a_loss_that_is_no_number(tmp_path, whole, monkeypatch, step, good):
  monkeypatch.setenv('NOT_FINITE', str(step))
  expected = 'there is no checkpoint yet' if good is None else f'the last good checkpoint is {good}'
  for _ in range(2):  # The same command comes to the same step.
    out = finish(command('--workdir', tmp_path, fault='not_finite'), 1)
    assert f'error: the loss or its gradient was not finite at step {step}: loss = nan' in out and expected in out
    assert saved(tmp_path) == ([] if good is None else [*range(4, good + 1, 4)][-2:])
    assert max(logged(tmp_path), default=0) < step
  other = command('--workdir', tmp_path, '--config.method.optimizer.learning_rate.base=0.001')
  if good is None:  # Nothing has been learnt yet, but the run is another all the same.
    assert 'holds a run of another config' in finish(other, 1)
  else:
    assert 'config.method.optimizer.learning_rate.base = 0.001 (the run has 0.05)' in finish(other, 1)
  if step == 9:  # But it can start from the encoder of the last good checkpoint.
    finish(command('--workdir', tmp_path / 'new', f'--config.init_from={tmp_path}',
                   '--config.method.optimizer.learning_rate.base=0.001'))
  assert digest(finish(command('--workdir', tmp_path))) == digest(whole[1])  # What was wrong is mended.
