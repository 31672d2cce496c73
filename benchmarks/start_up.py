"""How long train.py takes until its first step is done, with JAX's persistent compilation cache and without.

  python benchmarks/start_up.py [--rounds 3] [--config FILE.py] [-- --config.KEY=VALUE ...]

'empty' is the first run with a cache, which fills it; 'full' one that finds everything there.
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time

ROOT = os.path.join(os.path.dirname(os.path.abspath(__file__)), '..')


def main():
  parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
  parser.add_argument('--rounds', type=int, default=3)
  parser.add_argument('--config', default=os.path.join(ROOT, 'configs', 'default.py'))
  parser.add_argument('overrides', nargs='*')
  args = parser.parse_args()
  seconds: dict[str, list[float]] = {'no cache': [], 'empty': [], 'full': []}
  with tempfile.TemporaryDirectory() as path:
    for i in range(args.rounds):
      cache = os.path.join(path, f'cache{i}')
      for name, directory in (('no cache', None), ('empty', cache), ('full', cache)):
        seconds[name].append(start(args.config, args.overrides, os.path.join(path, f'{name}{i}'), directory))
  report(seconds, args.config)


def start(config: str, overrides: list[str], workdir: str, cache: str | None) -> float:
  """Returns the seconds from the start of the process to the first row of its metrics."""
  environment = dict(os.environ)
  if cache:
    environment |= {'JAX_COMPILATION_CACHE_DIR': cache, 'JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS': '0'}
  began = time.perf_counter()
  process = subprocess.Popen(
      [sys.executable, os.path.join(ROOT, 'train.py'), '--config', config, '--workdir', workdir, *overrides],
      env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
  metrics = os.path.join(workdir, 'metrics.jsonl')
  while not (os.path.exists(metrics) and os.path.getsize(metrics)):
    if process.poll() is not None:
      raise SystemExit(process.communicate()[1])
    time.sleep(0.01)
  taken = time.perf_counter() - began
  process.kill()
  process.wait()
  return taken


def report(seconds: dict[str, list[float]], config: str) -> None:
  """Prints the table."""
  import datetime

  from timing import hardware

  print(f'\n### Seconds to the end of the first step, {os.path.basename(config)}')
  print(f'{datetime.date.today()}, {hardware()}\n')
  print('| compilation cache | seconds, median | range | share of the time without |\n|---|---|---|---|')
  for name, taken in seconds.items():
    share = statistics.median(taken) / statistics.median(seconds['no cache'])
    print(f'| {name} | {statistics.median(taken):.1f} | {min(taken):.1f} - {max(taken):.1f} | {share:.2f} |')


if __name__ == '__main__':
  main()
