"""Metrics on disk stay valid and single-valued through kills and resumes; progress suits the place it is shown in."""

import csv
import io
import json
import math
import re
import struct

import jax
import jax.numpy as jnp
import pytest

from jaxssl.training import logging
from jaxssl.training.logging import MetricLogger, progress, read


def strict(constant):
  raise AssertionError(f'{constant} is not JSON')


def jsonl(path):
  return [json.loads(line, parse_constant=strict) for line in (path / 'metrics.jsonl').read_text().splitlines()]


def table(path):
  with open(path / 'metrics.csv', newline='') as file:
    return list(csv.DictReader(file))


def test_rows_in_both_files(tmp_path):
  with MetricLogger(tmp_path / 'new' / 'run') as logger:
    logger.write(1, {'loss': 2.5, 'rate': 0.1})
    logger.write(2, {'rate': 0.2, 'loss': jnp.float32(1.5)})
  path = tmp_path / 'new' / 'run'
  assert jsonl(path) == [{'step': 1, 'loss': 2.5, 'rate': 0.1}, {'step': 2, 'rate': 0.2, 'loss': 1.5}]
  assert read(path) == jsonl(path)
  assert (path / 'metrics.csv').read_text() == 'step,loss,rate\n1,2.5,0.1\n2,1.5,0.2\n'
  assert not list(path.glob('*.tmp'))


def test_a_column_that_comes_later(tmp_path):
  with MetricLogger(tmp_path) as logger:
    logger.write(1, {'loss': 1.0})
    logger.write(2, {'loss': 2.0, 'rank': 7.0})
    logger.write(3, {'rank': 8.0})
  assert table(tmp_path) == [
      {'step': '1', 'loss': '1.0', 'rank': ''}, {'step': '2', 'loss': '2.0', 'rank': '7.0'},
      {'step': '3', 'loss': '', 'rank': '8.0'}]


def test_a_resume_drops_what_came_after_the_checkpoint(tmp_path):
  with MetricLogger(tmp_path) as logger:
    for step in range(1, 8):
      logger.write(step, {'loss': step, **({'late': 1.0} if step > 5 else {})})
  with MetricLogger(tmp_path, start=4) as logger:
    assert [row['step'] for row in read(tmp_path)] == [1, 2, 3, 4]
    assert list(table(tmp_path)[0]) == ['step', 'loss']
    logger.write(5, {'loss': 50.0})
  assert [row['loss'] for row in jsonl(tmp_path)] == [1, 2, 3, 4, 50]
  assert [row['loss'] for row in table(tmp_path)] == ['1.0', '2.0', '3.0', '4.0', '50.0']
  with MetricLogger(tmp_path):
    assert read(tmp_path) == table(tmp_path) == []


@pytest.mark.parametrize('torn', ['{"step": 3, "lo', '{"step": 3, "loss": 3.0}', '{}\n', '\0\0\0', '3\n'])
def test_a_line_cut_short(tmp_path, torn):
  with MetricLogger(tmp_path) as logger:
    logger.write(1, {'loss': 1.0})
    logger.write(2, {'loss': 2.0})
  with open(tmp_path / 'metrics.jsonl', 'a') as file:
    file.write(torn)
  with open(tmp_path / 'metrics.csv', 'a') as file:
    file.write('3,')
  assert [row['step'] for row in read(tmp_path)] == [1, 2]
  with MetricLogger(tmp_path, start=3) as logger:
    logger.write(4, {'loss': 4.0})
  assert [row['step'] for row in jsonl(tmp_path)] == [1, 2, 4]
  assert [row['step'] for row in table(tmp_path)] == ['1', '2', '4']


def test_what_is_not_finite_stays_json(tmp_path):
  with MetricLogger(tmp_path) as logger:
    logger.write(1, {'a': math.nan, 'b': jnp.inf, 'c': -math.inf, 'd': 1.0})
  assert jsonl(tmp_path) == [{'step': 1, 'a': None, 'b': None, 'c': None, 'd': 1.0}]
  row, = read(tmp_path)
  assert all(math.isnan(row[name]) for name in 'abc') and row['d'] == 1.0
  assert table(tmp_path) == [{'step': '1', 'a': '', 'b': '', 'c': '', 'd': '1.0'}]


def test_read_without_a_run(tmp_path):
  assert read(tmp_path) == []


def test_tensorboard_purges_what_a_resume_repeats(tmp_path):
  proto = pytest.importorskip('tensorboardX.proto.event_pb2')
  with MetricLogger(tmp_path, start=6) as logger:
    logger.write(7, {'loss': 1.0, 'speed': math.inf})
  (file,) = (tmp_path / 'tensorboard').iterdir()
  content, events = file.read_bytes(), []
  while content:
    (size,) = struct.unpack('<Q', content[:8])
    events.append(proto.Event.FromString(content[12:12 + size]))
    content = content[16 + size:]
  assert events[0].file_version == 'brain.Event:2'
  assert events[1].step == 7 and events[1].session_log.status == proto.SessionLog.START
  assert events[2].step == 7
  assert [(each.tag, each.simple_value) for each in events[2].summary.value] == [('loss', 1.0), ('speed', math.inf)]


def test_lines_that_cannot_be_read_are_kept_aside(tmp_path, caplog):
  with MetricLogger(tmp_path) as logger:
    for step in (1, 2, 3):
      logger.write(step, {'loss': 1.0})
  lines = (tmp_path / 'metrics.jsonl').read_text().splitlines()
  (tmp_path / 'metrics.jsonl').write_text('\n'.join([lines[0], lines[1][:-3], lines[2], lines[2][:5]]))
  damaged = (tmp_path / 'metrics.jsonl').read_bytes()
  with MetricLogger(tmp_path, start=3):
    pass
  assert [row['step'] for row in jsonl(tmp_path)] == [1, 3]
  assert 'metrics.jsonl is damaged: set aside as' in caplog.text
  assert (tmp_path / 'metrics.jsonl.damaged').read_bytes() == damaged


@pytest.mark.parametrize('name', ['metrics.jsonl', 'metrics.csv'])
def test_a_file_that_cannot_be_written_is_named(tmp_path, name):
  with MetricLogger(tmp_path) as logger:
    logger.write(1, {'loss': 1.0})
    (tmp_path / name).unlink()
    (tmp_path / name).mkdir()
    with pytest.raises(OSError, match=f'{tmp_path}/{name} cannot be written: Is a directory'):
      logger.write(2, {'loss': 1.0})


def test_without_tensorboard(tmp_path, monkeypatch):
  monkeypatch.setattr(logging, '_tensorboard', lambda directory, start: None)
  with MetricLogger(tmp_path) as logger:
    logger.write(1, {'loss': 1.0})
  assert sorted(path.name for path in tmp_path.iterdir()) == ['metrics.csv', 'metrics.jsonl']


def test_only_the_first_process_writes(tmp_path, monkeypatch):
  monkeypatch.setattr(jax, 'process_index', lambda: 1)
  stream = io.StringIO()
  with MetricLogger(tmp_path / 'run') as logger, progress(10, stream=stream) as bar:
    logger.write(1, {'loss': 1.0})
    bar.update(10, {'loss': 1.0})
    bar.say('hello')
  assert not (tmp_path / 'run').exists() and stream.getvalue() == ''


class Clock:
  def __init__(self, monkeypatch):
    self.now = 1000.0
    monkeypatch.setattr(logging.time, 'monotonic', lambda: self.now)


def test_lines_where_there_is_no_terminal(monkeypatch):
  clock, stream = Clock(monkeypatch), io.StringIO()
  with progress(100, start=20, stream=stream, interval=10) as bar:
    clock.now += 30  # Compilation.
    for step in range(21, 101):
      bar.update(step, {'loss': 3.25, 'images_per_second': 1234.5, 'other': 1.0})
      if step == 30:
        bar.say('collapse')
      clock.now += 0.5
  lines = stream.getvalue().splitlines()
  assert lines[0] == 'step 21/100, loss 3.2500, 1,234 examples/s'
  assert lines[1] == 'collapse'
  assert lines[2] == 'step 41/100, loss 3.2500, 1,234 examples/s, 00:29 left'
  assert [line.split(',')[0] for line in lines[3:]] == ['step 61/100', 'step 81/100', 'step 100/100']


def test_a_bar_on_a_terminal():
  class Terminal(io.StringIO):
    def isatty(self):
      return True

  stream = Terminal()
  with progress(100, start=20, stream=stream) as bar:
    bar.update(60, {'loss': 3.25, 'images_per_second': 1234.5})
    bar.say('collapse')
    bar.update(100, {'loss': 2.0})
  shown = stream.getvalue()
  assert re.search(r'\b20%.* 20/100', shown)
  assert re.search(r'100%.* 100/100 .*loss 2.0000', shown)
  assert 'collapse\n' in shown
