"""Files of a run: whole or not at all, named in errors, set aside without loss."""

import os
import subprocess
import sys

import pytest

from jaxssl.training import files


def test_lines_stand_apart_from_one_that_was_cut_short(tmp_path):
  path = str(tmp_path / 'lines')
  files.append(path, 'one\n')
  files.append(path, 'two')
  files.append(path, 'three\n')
  assert (tmp_path / 'lines').read_text() == 'one\ntwo\nthree\n'


def test_what_is_set_aside_overwrites_nothing(tmp_path):
  for content in ('a', 'b', 'c'):
    (tmp_path / 'x').write_text(content)
    files.set_aside(str(tmp_path / 'x'))
  assert {file.name: file.read_text() for file in tmp_path.iterdir()} == {
      'x.damaged': 'a', 'x.damaged.1': 'b', 'x.damaged.2': 'c'}


def test_a_sweep_takes_what_dead_processes_left(tmp_path):
  dead = subprocess.Popen([sys.executable, '-c', ''])
  dead.wait()
  mine, init = f'results.json.{os.getpid()}.tmp', 'results.json.1.tmp'
  for name in ('config.json.tmp', f'results.json.{dead.pid}.tmp', mine, init, 'results.json', 'tmp'):
    (tmp_path / name).write_text('')
  files.sweep(str(tmp_path))
  assert {file.name for file in tmp_path.iterdir()} == {mine, init, 'results.json', 'tmp'}


def test_what_is_not_written_to_its_end_replaces_nothing(tmp_path):
  path = tmp_path / 'x'
  path.write_text('old')
  with pytest.raises(KeyError), files.replacing(path) as temporary, open(temporary, 'w') as file:
    file.write('half')
    raise KeyError
  assert path.read_text() == 'old'
  files.replace(str(path), 'new')
  assert {file.name: file.read_text() for file in tmp_path.iterdir()} == {'x': 'new'}


def test_errors_name_the_file(tmp_path):
  with pytest.raises(OSError, match=f'^{tmp_path}/no/file cannot be written: No such file or directory$'):
    files.replace(str(tmp_path / 'no' / 'file'), '')
