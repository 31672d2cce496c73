"""Commands in processes of their own, for tests that kill, stop and starve them, and what is in a work directory."""

import json
import os
import pathlib
import re
import subprocess
import sys
import time

ROOT = pathlib.Path(__file__).parents[2]
CONFIG = ROOT / 'tests' / 'cli' / 'faulty_config.py'


def command(*arguments, script='train.py', fault='', **options):
  """Starts a command; `fault` is one of faulty_config.FAULTS, for train.py alone."""
  path = f'{ROOT}:{CONFIG.parent}'
  environment = {**os.environ, 'XLA_FLAGS': os.environ['QUICK_XLA_FLAGS'], 'JAX_PLATFORMS': 'cpu', 'PYTHONPATH': path,
                 'FAULT': fault}
  config = ['--config', str(CONFIG)] if script == 'train.py' else []
  return subprocess.Popen(
      [sys.executable, '-u', str(ROOT / script), *config, *map(str, arguments)], env=environment, text=True,
      stdout=subprocess.PIPE, stderr=subprocess.STDOUT, **options)


def finish(process, status=0, seconds=900):
  """Returns the output of a command that has to end with `status`, without a traceback."""
  out = process.communicate(timeout=seconds)[0]
  assert process.returncode == status, f'{process.returncode}: {out}'
  assert 'Traceback' not in out and 'Fatal' not in out, out
  return out


def wait_for(condition, process, seconds=600, interval=0.01):
  """Returns what `condition()` returns once it is true."""
  end = time.time() + seconds
  while not (found := condition()):
    assert process.poll() is None, process.communicate()[0]
    assert time.time() < end, 'nothing happened'
    time.sleep(interval)
  return found


def read_until(process, text):
  """Returns the lines that a process prints until one holds `text`."""
  out = ''
  while text not in out:
    line = process.stdout.readline()
    assert line, f'{text!r} is not in {out}'
    out += line
  return out


def digest(out):
  """Returns the checksum of the state that a run prints at its end."""
  return re.search(r'State after step \d+: SHA-256 ([0-9a-f]{64})', out)[1]


def saved(path):
  """Returns the steps of the checkpoints in a work directory, in order."""
  directory = path / 'checkpoints'
  names = os.listdir(directory) if directory.is_dir() else []
  return sorted(int(name) for name in names if name.isdigit())


def logged(path):
  """Returns the steps in metrics.jsonl as they stand there."""
  file = path / 'metrics.jsonl'
  lines = file.read_text().splitlines() if file.exists() else []
  return [json.loads(line)['step'] for line in lines if line.endswith('}')]


def rows_of(path):
  """Returns the rows of results.json in a work directory."""
  return json.loads((path / 'results.json').read_text())['rows']
