"""jaxssl mutual-information: estimates how much two arrays of pairs tell of each other."""

import os
from typing import Any

import numpy as np
from absl import flags

from jaxssl.cli.launch import launch
from jaxssl.evaluation import mutual_information, plots_mutual_information, table

USAGE = """Estimates the mutual information of paired arrays: row i of X belongs to row i of Y, rows are independent.

  jaxssl mutual-information X Y [--estimators NAME,NAME:PARAMETER,…] [--critic separable|concatenated] [--out DIR]

X and Y: FILE.npy, or FILE.npz:KEY, such as features.npz:test_features of eval.py --embed. Prints a table and writes
mutual_information.json and mutual_information.png to --out."""


def main() -> None:
  """Parses the flags and runs."""
  flags.DEFINE_list('estimators', ['info_nce', 'ml_cpc', 'nwj', 'smile:5'],
                    f'Each NAME or NAME:PARAMETER, of {", ".join(mutual_information.ESTIMATORS)}.')
  flags.DEFINE_string('critic', 'separable', f'One of {", ".join(mutual_information.CRITICS)}.')
  flags.DEFINE_integer('steps', 3000, 'Of training, for each estimator, rounded up to a multiple of 30.')
  flags.DEFINE_integer('batch_size', None, 'Pairs a batch, which sets the ceilings; default: 128, or fewer of few.')
  flags.DEFINE_integer(
      'seed', 0, 'Of the split, the critics and the batches.', lower_bound=0, upper_bound=2**32 - 1)
  flags.DEFINE_list('classes', [], 'Which of x and y hold class numbers: x, y or x,y.')
  flags.DEFINE_string('out', 'runs/mutual_information', 'Directory to write to.')
  names = ('estimators', 'critic', 'steps', 'batch_size', 'seed', 'classes', 'out')

  def run(x: str, y: str) -> None:
    settings: dict[str, Any] = {name: flags.FLAGS[name].value for name in names}
    measure(x, y, **settings)

  launch(run, USAGE, ('X', 'Y'))


def measure(
    x: str, y: str, *, estimators: list[str], critic: str = 'separable', steps: int = 3000,
    batch_size: int | None = None, seed: int = 0, classes: list[str] | tuple[str, ...] = (), out: str,
) -> None:
  """Estimates the mutual information of the arrays in two files, prints the table and writes it, with a picture."""
  if unknown := set(classes) - {'x', 'y'}:
    raise ValueError(f'--classes must be x, y or x,y, got {unknown.pop()!r}')
  arrays = {'x': read(x), 'y': read(y)}
  for name in classes:
    arrays[name] = mutual_information.one_hot(arrays[name])
  try:
    os.makedirs(out, exist_ok=True)
  except OSError as error:
    raise ValueError(f'--out={out} is no directory and cannot be made one: {error.strerror}') from error
  print(f'{x} {list(arrays["x"].shape)} and {y} {list(arrays["y"].shape)}', flush=True)
  found = mutual_information.estimate(
      arrays['x'], arrays['y'], estimators=estimators, critic=critic, steps=steps, batch_size=batch_size, seed=seed)
  results, picture = (os.path.join(out, f'mutual_information.{kind}') for kind in ('json', 'png'))
  plots_mutual_information.held_out_curves(found, picture)
  settings = {'x': x, 'y': y, 'critic': critic, 'seed': seed}
  table.write(results, [{**row, **settings} for row in mutual_information.rows(found)], None, None)
  print(mutual_information.format(found))
  print(f'Batches of {found[0].batch_size} held-out pairs; ± is the standard error over them alone: with few pairs, or '
        'a critic too weak for them, every estimate is too low.')
  print(f'Results: {results}\nPicture: {picture}')


def read(name: str) -> np.ndarray:
  """Returns the array of FILE.npy or FILE.npz:KEY; raises ValueError where there is none."""
  file, key = name, ''
  if not file.endswith('.npy') and not os.path.exists(file):
    file, _, key = name.rpartition(':')
  if not os.path.isfile(file or name):
    raise ValueError(f'{file or name} is not a file')
  try:
    loaded = np.load(file, allow_pickle=False)
    if isinstance(loaded, np.ndarray):
      return loaded
    if key in loaded:
      return loaded[key]
  except Exception:  # Broken archives make zipfile raise errors of many kinds.
    raise ValueError(f'{name} does not hold an array of numbers in the format of NumPy') from None
  raise ValueError(f'{file} holds {", ".join(loaded)}: write {file}:KEY for one of them, got {name}')
