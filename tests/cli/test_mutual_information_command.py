"""jaxssl mutual-information: from files to the table, in this process; and the words for what is wrong."""

import functools
import json
import re
import subprocess
import sys

import numpy as np
import pytest

from jaxssl.cli import COMMANDS, mutual_information

NAMES = ['info_nce', 'smile:1']
quick = functools.partial(mutual_information.measure, estimators=NAMES, steps=3)


@pytest.fixture
def files(tmp_path):
  rng = np.random.default_rng(0)
  labels = rng.integers(0, 3, 200)
  x = np.eye(3)[labels] + 0.1 * rng.normal(size=(200, 3))
  np.save(tmp_path / 'x.npy', x)
  np.savez(tmp_path / 'features.npz', test_features=x, test_labels=labels)
  np.save(tmp_path / 'objects.npy', np.array([{}, 1], object), allow_pickle=True)
  (tmp_path / 'text.npy').write_text('no array')
  return tmp_path


def test_table_results_and_picture(files, capsys):
  quick(f'{files}/x.npy', f'{files}/x.npy', out=f'{files}/out')
  printed = capsys.readouterr().out
  assert 'estimator' in printed and 'smile:1' in printed and f'{files}/x.npy [200, 3]' in printed
  results = json.loads((files / 'out/mutual_information.json').read_text())
  assert [row['estimator'] for row in results['rows']] == NAMES
  assert results['rows'][0]['x'] == f'{files}/x.npy' and results['rows'][0]['batch_size'] == 10
  assert (files / 'out/mutual_information.png').stat().st_size > 5000


def test_features_and_classes_of_one_file(files, capsys):
  quick(f'{files}/features.npz:test_features', f'{files}/features.npz:test_labels', classes=['y'], out=f'{files}/out')
  assert 'test_labels [200, 3]' in capsys.readouterr().out


@pytest.mark.parametrize('x, message', [
    ('none.npy', 'none.npy is not a file'), ('none.npz:a', 'none.npz is not a file'),
    ('features.npz', r'features.npz holds test_features, test_labels: write .*features.npz:KEY'),
    ('features.npz:train_features', 'holds test_features, test_labels: .* got .*features.npz:train_features'),
    ('objects.npy', 'objects.npy does not hold an array of numbers'),
    ('text.npy', 'text.npy does not hold an array of numbers')])
def test_wrong_files(files, x, message):
  with pytest.raises(ValueError, match=message):
    quick(f'{files}/{x}', f'{files}/x.npy', out=f'{files}/out')
  assert not (files / 'out').exists()


def test_wrong_classes(files):
  with pytest.raises(ValueError, match="--classes must be x, y or x,y, got 'z'"):
    quick(f'{files}/x.npy', f'{files}/x.npy', classes=['z'], out=f'{files}/out')


@pytest.mark.parametrize('arguments, message', [
    (['x.npy'], 'error: missing argument Y. See --help'),
    (['x.npy', 'x.npy', 'x.npy', '--steps', '3'], "error: unknown argument 'x.npy': flags start with --. See --help"),
    (['x.npy', 'x.npy', '--estimators', 'info_nce,kl'], "error: estimators must be of .*got 'kl'"),
    (['--help'], 'jaxssl mutual-information X Y .*--batch_size')])
def test_the_command_line(files, arguments, message):
  command = [sys.executable, '-m', 'jaxssl', 'mutual-information', *arguments]
  done = subprocess.run(command, cwd=files, capture_output=True, text=True, env={'JAX_PLATFORMS': 'cpu', 'PYTHONPATH':
                        ':'.join(path for path in sys.path if path), 'PATH': '/usr/bin:/bin'})
  printed = done.stdout + done.stderr
  assert done.returncode == ('--help' not in arguments) and 'Traceback' not in printed
  assert re.search(message, printed, re.DOTALL), printed


def test_it_is_a_command():
  assert 'mutual-information' in COMMANDS
