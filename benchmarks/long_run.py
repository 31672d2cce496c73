"""Whether a long run's memory grows: train.py on a small network, resident memory and live arrays over its steps.

  python benchmarks/long_run.py [--steps 5000] [--config FILE.py] [--set KEY=VALUE ...]

Logging and saving go on as in any run. The slope is that of a straight line through the second half of the run, with
its standard error; memory is flat where it is within two of them of zero.
"""

import argparse
import ast
import contextlib
import json
import os
import tempfile
import threading
import time

import numpy as np


def main():
  parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
  parser.add_argument('--steps', type=int, default=5000)
  parser.add_argument('--config', default=os.path.join(os.path.dirname(__file__), '..', 'configs', 'default.py'))
  parser.add_argument('--set', nargs='*', default=[], help='other keys of the config, KEY=VALUE')
  parser.add_argument('--interval', type=float, default=0.5, help='seconds between samples')
  args = parser.parse_args()
  from jaxssl.cli import train, workdir

  config = workdir.load_config(args.config)
  config.steps = args.steps
  config.evaluation.protocols, config.evaluation.pictures = ('knn',), False
  for pair in args.set:
    key, _, value = pair.partition('=')
    with contextlib.suppress(SyntaxError, ValueError):  # Of a word.
      value = ast.literal_eval(value)
    config.update_from_flattened_dict({key: value})
  with tempfile.TemporaryDirectory() as path, Sampler(path, args.interval) as sampler:
    train.train(config, os.path.join(path, 'run'))
  report(sampler.samples, args.steps)


class Sampler:
  """Notes (step, resident bytes, bytes of live arrays) while a run goes on, in a thread."""

  def __init__(self, path: str, interval: float):
    self.samples: list[tuple[int, int, int]] = []
    self._file, self._interval = os.path.join(path, 'run', 'metrics.jsonl'), interval
    self._over = threading.Event()
    self._thread = threading.Thread(target=self._sample)

  def __enter__(self):
    self._thread.start()
    return self

  def __exit__(self, *exception):
    self._over.set()
    self._thread.join()

  def _sample(self):
    import jax

    page = os.sysconf('SC_PAGE_SIZE')
    while not self._over.wait(self._interval):
      step = self._step()
      if step:
        with open('/proc/self/statm') as file:
          resident = int(file.read().split()[1]) * page
        self.samples.append((step, resident, sum(array.nbytes for array in jax.live_arrays())))

  def _step(self) -> int:
    """Returns the last step that has a row, 0 before the first; reads no more than the end, to need no memory."""
    if not os.path.exists(self._file):
      return 0
    with open(self._file, 'rb') as file:
      file.seek(max(0, os.path.getsize(self._file) - 2000))
      whole = file.read().split(b'\n')[:-1]
    return json.loads(whole[-1])['step'] if whole else 0


def report(samples: list[tuple[int, int, int]], steps: int) -> None:
  """Prints the table."""
  import datetime

  from timing import hardware

  table = np.array(samples, np.float64)
  table = table[(table[:, 0] > steps / 2) & (table[:, 0] < steps)]  # The second half, without the evaluation.
  x = table[:, 0] - table[:, 0].mean()
  print(f'\n### Memory from step {steps // 2:,} to {steps:,}, {len(table)} samples')
  print(f'{datetime.date.today()}, {hardware()}\n')
  print('| | at the middle, MiB | at the end, MiB | slope, bytes a step | its standard error |\n|---|---|---|---|---|')
  for name, y in (('resident memory of the process', table[:, 1]), ('live arrays', table[:, 2])):
    slope = x @ y / (x @ x)
    residual = y - y.mean() - slope * x
    error = np.sqrt(residual @ residual / (len(x) - 2) / (x @ x))
    print(f'| {name} | {y[:5].mean() / 2**20:,.2f} | {y[-5:].mean() / 2**20:,.2f} | {slope:,.1f} | {error:,.1f} |')


if __name__ == '__main__':
  began = time.time()
  main()
  print(f'\n{time.time() - began:,.0f} s in all')
