"""Every method on the bundled drawings, with as much time to train: accuracies, effective rank, speed, memory.

  python benchmarks/methods.py [--seconds 90] [--seeds 0 1 2] [--methods simclr byol ...] [--out runs/methods]

First a short run of each method tells its speed (let nothing else run then); it is trained for as many steps as take
`--seconds` at that speed. The network, the views, the batch and everything else are those of its
configs/*_omniglot.py (SimCLR: configs/default.py). Trains on drawers 1-15 and tests on 16-20. The same command goes on
where it was stopped. Writes methods.json, and a picture to methods.png; prints the table.
"""

import argparse
import datetime
import json
import os
import statistics
import subprocess
import sys

from timing import hardware

from jaxssl.evaluation import table
from jaxssl.training import logging

ROOT = os.path.join(os.path.dirname(os.path.abspath(__file__)), '..')
CONFIGS = {
    'simclr': 'default', 'dcl': 'default', **{name: f'{name}_omniglot' for name in (
        'moco', 'moco_v3', 'nnclr', 'byol', 'simsiam', 'swav', 'dino', 'barlow_twins', 'vicreg', 'w_mse', 'lejepa',
        'i_jepa', 'mae', 'autoencoder', 'denoising_autoencoder', 'vae', 'vq_vae', 'gan', 'wgan_gp',
        'adversarial_autoencoder', 'bigan')}}
OVERRIDES = {'dcl': ('--config.method.objective=decoupled',)}
DEFAULT = tuple(name for name in CONFIGS if name not in (
    'denoising_autoencoder', 'wgan_gp', 'gan', 'adversarial_autoencoder', 'bigan'))
WARM_UP = 60  # Steps of the run that tells the speed.
METRICS = ('k-NN', 'linear probe')


def main():
  parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
  parser.add_argument('--seconds', type=float, default=90)
  parser.add_argument('--seeds', type=int, nargs='+', default=[0, 1, 2])
  parser.add_argument('--methods', nargs='+', default=DEFAULT, choices=CONFIGS)
  parser.add_argument('--out', default=os.path.join('runs', 'methods'))
  args = parser.parse_args()
  os.makedirs(args.out, exist_ok=True)
  speeds = {method: speed(args.out, method) for method in args.methods}
  for seed in args.seeds:  # So that after a third of the time there is one of each.
    for method in args.methods:
      measure(args.out, method, seed, max(round(args.seconds * speeds[method]['steps_per_second']), WARM_UP))
      write(args.out, collect(args.out), args.seconds)
  report(collect(args.out), args.seconds)


def measure(out: str, method: str, seed: int, steps: int) -> None:
  """Trains and evaluates a method from a seed, unless that has been done; train.py refuses another number of steps."""
  path = os.path.join(out, f'{method}_{seed}')
  file = os.path.join(path, 'measured.json')
  if os.path.exists(file) and read(file)['steps'] == steps:
    return
  print(f'{method}, seed {seed}: {steps} steps', flush=True)
  memory = train(method, path, seed, steps)
  with open(file, 'w', encoding='utf-8') as f:
    json.dump({'method': method, 'seed': seed, 'steps': steps, 'memory': memory}, f)


def speed(out: str, method: str) -> dict:
  """Returns how fast a method trains; measured once, and kept, so that all seeds take as many steps."""
  file = os.path.join(out, 'speeds.json')
  known = read(file) if os.path.exists(file) else {}
  if method not in known:
    path = os.path.join(out, f'{method}_speed')
    train(method, path, 0, WARM_UP, "--config.evaluation.protocols=('knn',)", '--config.logging.every=20')
    images = logging.read(path)[-1]['images_per_second']
    batch = read(os.path.join(path, 'config.json'))['batch_size']
    known[method] = {'images_per_second': images, 'steps_per_second': images / batch}
    print(f'{method}: {images:.0f} images/s', flush=True)
    with open(file, 'w', encoding='utf-8') as f:
      json.dump(known, f)
  return known[method]


def train(method: str, path: str, seed: int, steps: int, *overrides: str) -> int:
  """Runs train.py to the end of its evaluation; returns the most memory that it held, in bytes."""
  command = [sys.executable, os.path.join(ROOT, 'train.py'), '--config',
             os.path.join(ROOT, 'configs', f'{CONFIGS[method]}.py'), '--workdir', path, f'--config.seed={seed}',
             f'--config.steps={steps}', "--config.evaluation.protocols=('knn','linear')",
             '--config.evaluation.pictures=False', *OVERRIDES.get(method, ()), *overrides]
  process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
  message = process.stderr.read()
  _, status, usage = os.wait4(process.pid, 0)
  if status:
    raise SystemExit(f'{method}: {message}')
  return usage.ru_maxrss * 1024


def collect(out: str) -> list[dict]:
  """Returns what all finished runs in a directory have found, one dict a run."""
  found, speeds = [], read(os.path.join(out, 'speeds.json'))
  for name in sorted(os.listdir(out)):
    file = os.path.join(out, name, 'measured.json')
    if not os.path.exists(file):
      continue
    run = read(file)
    results = table.read(os.path.join(out, name, 'results.json'))
    for label, protocol in (('k-NN', 'knn'), ('linear probe', 'linear')):
      run[label] = {row['features']: row['value'] for row in results['rows']
                    if (row['protocol'], row['metric']) == (protocol, 'accuracy')}
    last = logging.read(os.path.join(out, name))[-1]
    run['effective rank'] = {'trained': last['effective_rank']} if 'effective_rank' in last else {}
    found.append({**run, **speeds[run['method']]})
  return found


def read(file: str):
  """Returns what a JSON file holds."""
  with open(file, encoding='utf-8') as f:
    return json.load(f)


def grouped(runs: list[dict]) -> dict[str, list[dict]]:
  """Returns the runs of each method, in the order of CONFIGS."""
  return {name: of for name in CONFIGS if (of := [run for run in runs if run['method'] == name])}


def spread(runs: list[dict], metric: str, features: str) -> str:
  """Returns the mean over the seeds, and the standard deviation where there are several."""
  values = [run[metric][features] for run in runs if features in run[metric]]
  if not values:
    return '–'
  digits = 1 if metric == 'effective rank' else 3
  text = f'{statistics.mean(values):.{digits}f}'
  return text if len(values) < 2 else f'{text} ± {statistics.stdev(values):.{digits}f}'


def report(runs: list[dict], seconds: float) -> None:
  """Prints the table."""
  print(f'\n### Methods on the bundled drawings, {seconds:g} s of training each\n')
  print(f'{datetime.date.today()}, {hardware()}\n')
  head = ['method', 'seeds', 'steps', 'k-NN', 'linear probe', 'random encoder', 'rank of z', 'images/s', 'peak memory']
  print('| ' + ' | '.join(head) + ' |\n|' + '---|' * len(head))
  for name, of in grouped(runs).items():
    print('| ' + ' | '.join([
        name, str(len(of)), str(of[0]['steps']), spread(of, 'k-NN', 'trained'), spread(of, 'linear probe', 'trained'),
        f'{spread(of, "k-NN", "random")}, {spread(of, "linear probe", "random")}',
        spread(of, 'effective rank', 'trained'), f'{of[0]["images_per_second"]:.0f}',
        f'{max(run["memory"] for run in of) / 2**30:.2f} GiB']) + ' |')
  raw = next((run for run in runs if 'raw' in run['k-NN']), None)
  if raw:
    print(f'\nRaw pixels: k-NN {raw["k-NN"]["raw"]:.3f}, linear probe {raw["linear probe"]["raw"]:.3f}.')


def write(out: str, runs: list[dict], seconds: float) -> None:
  """Writes methods.json and methods.png."""
  with open(os.path.join(out, 'methods.json'), 'w', encoding='utf-8') as f:
    json.dump({'seconds': seconds, 'runs': runs}, f, indent=2)
  draw(os.path.join(out, 'methods.png'), grouped(runs), seconds)


def draw(file: str, groups: dict[str, list[dict]], seconds: float) -> None:
  """Draws the accuracies of all methods, a point a seed, the random encoder's beside them."""
  from matplotlib.figure import Figure

  figure = Figure(figsize=(9, 1.2 + 0.34 * len(groups)), layout='constrained')
  panels = figure.subplots(1, 2, sharey=True)
  for axes, metric in zip(panels, METRICS, strict=True):
    for y, runs in enumerate(groups.values()):
      for features, color in (('random', '#bbbbbb'), ('trained', '#1f5fa8')):
        values = [run[metric][features] for run in runs]
        axes.plot(values, [y] * len(values), 'o', color=color, markersize=5, alpha=0.8,
                  label=f'{features} encoder' if y == 0 else None)
    raw = next((run[metric]['raw'] for runs in groups.values() for run in runs if 'raw' in run[metric]), None)
    if raw is not None:
      axes.axvline(raw, color='#c44e52', linewidth=1, label='raw pixels')
    axes.set_xlim(0, 1)
    axes.set_xlabel(f'{metric}, accuracy')
    axes.grid(axis='x', color='#eeeeee')
    axes.spines[['top', 'right']].set_visible(False)
  panels[0].set_yticks(range(len(groups)), list(groups))
  panels[0].invert_yaxis()
  panels[0].legend(frameon=False, fontsize=8)
  figure.suptitle(f'Bundled drawings, {seconds:g} s of training on a CPU', fontsize=11)
  figure.savefig(file, dpi=120)


if __name__ == '__main__':
  main()
