"""Commands that hear the signals of the process that runs them, each once."""

import os
import pathlib
import signal
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).parents[2]

# Says what it hears, and ends after the first signal and half a second in which others may come.
CHILD = '''
import signal, time
heard = []
for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
  signal.signal(number, lambda number, frame: heard.append(number))
print('ready', flush=True)
while not heard:
  time.sleep(0.01)
end = time.time() + 0.5
while time.time() < end:
  time.sleep(0.01)
print('heard', *heard, flush=True)
raise SystemExit(7)
'''
PARENT = f'''
import sys
from jaxssl.cli.children import Children
with Children() as children:
  print(children.run([sys.executable, '-c', {CHILD!r}]))
  print(children.run([sys.executable, '-c', 'print("never")']), children.received)
'''


@pytest.mark.parametrize('number', [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
@pytest.mark.parametrize('group', [False, True], ids=['to the process', 'to its group'])
def test_a_signal_is_handed_on_once_and_ends_the_sequence(number, group):
  process = subprocess.Popen(
      [sys.executable, '-u', '-c', PARENT], cwd=ROOT, stdout=subprocess.PIPE, text=True, start_new_session=True)
  assert process.stdout.readline() == 'ready\n'
  (os.killpg if group else os.kill)(process.pid, number)
  out = process.communicate(timeout=60)[0]
  assert out == f'heard {int(number)}\n7\n-{int(number)} [{int(number)}]\n' and process.returncode == 0


def test_output_and_status(tmp_path):
  code = f'''
import sys
from jaxssl.cli.children import Children
with Children() as children:
  for code in ('print(1)', 'import sys; print(2, file=sys.stderr); sys.exit(3)', 'import os; os.abort()'):
    print(children.run([sys.executable, '-c', code], {str(tmp_path / 'log')!r}))
'''
  done = subprocess.run([sys.executable, '-c', code], cwd=ROOT, capture_output=True, text=True)
  assert done.stdout == f'0\n3\n-{int(signal.SIGABRT)}\n', done.stderr
  assert (tmp_path / 'log').read_text() == '1\n2\n'


def test_nohup_is_heeded():
  code = '''
import signal
from jaxssl.cli.children import Children
signal.signal(signal.SIGHUP, signal.SIG_IGN)
with Children():
  print(signal.getsignal(signal.SIGHUP).name)
'''
  done = subprocess.run([sys.executable, '-c', code], cwd=ROOT, capture_output=True, text=True)
  assert done.stdout == 'SIG_IGN\n', done.stderr
