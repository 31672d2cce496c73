"""Estimates of mutual information on correlated Gaussians, where the truth is known, beside the published curves.

  python benchmarks/mutual_information.py [--parts staircase consistency] [--seeds 5] [--out DIR]
  python benchmarks/mutual_information.py --batch_size 128 --estimators info_nce alpha_cpc:0.01 ml_cpc:1 ml_cpc:0.01
  python benchmarks/mutual_information.py --critic joint --estimators info_nce smile:5 --steps 4000 --seeds 1

staircase: 20 dimensions, the truth rises 2, 4, 6, 8, 10 nats over 20,000 steps, the critic is not reset, every batch is
fresh, Adam at 5e-4: the setting of Song and Ermon, "Understanding the Limitations of Variational Mutual Information
Estimators" (arXiv:1910.06222, demo.ipynb of ermongroup/smile-mi-estimator), and at a batch of 128 that of their
"Multi-label Contrastive Predictive Coding" (arXiv:2007.09852, the figures of jiamings/ml-cpc). `--cubic` has y^3 for y,
of the same mutual information. Estimators whose gradient is the same (js, smile) share one critic.

consistency: their three tests of self-consistency, here with Gaussians of 10 dimensions and 4 nats instead of images, a
critic for each, a quarter of --steps: independence (0 nats), data processing (a function of y beside y adds nothing),
additivity (two independent pairs hold twice as much).

What has been computed is kept in --out, a file for each critic, and not computed again.
"""

import argparse
import functools
import math
import pathlib
import time

import jax
import jax.numpy as jnp
import numpy as np
import optax
from timing import hardware

from jaxssl import models
from jaxssl.evaluation import mutual_information as mi

DIMENSIONS, LEVELS, STEPS, LEARNING_RATE = 20, (2, 4, 6, 8, 10), 20_000, 5e-4
CRITICS = {'separable': models.SeparableCritic(), 'joint': models.ConcatenatedCritic()}
ESTIMATORS = ('info_nce', 'js', 'smile:1', 'smile:5', 'smile:inf', 'nwj', 'dv', 'mine', 'tuba', 'alpha_tuba:0.01',
              'alpha_cpc:0.01', 'ml_cpc:1', 'ml_cpc:0.01')
# (batch, critic) -> estimator -> means of the last 1,000 steps of each plateau, read off the figures that the two
# repositories publish, to about 0.02 nats.
PUBLISHED = {
    (64, 'separable'): {
        'info_nce': (1.64, 2.87, 3.60, 3.93, 4.06),
        'nwj': (1.42, 2.49, 3.31, 3.39, 4.24),
        'smile:1': (1.97, 4.01, 5.97, 7.99, 9.81),
        'smile:5': (1.68, 3.66, 5.83, 8.11, 10.51),
        'smile:inf': (1.64, 3.36, 5.03, 6.88, 8.73),
    },
    (64, 'joint'): {
        'info_nce': (1.75, 3.02, 3.70, 4.00, 4.11),
        'nwj': (1.87, 3.73, 5.23, 6.51, 3.0),
        'smile:1': (2.18, 4.31, 6.36, 8.24, 9.97),
        'smile:5': (1.87, 3.92, 6.16, 8.51, 10.95),
        'smile:inf': (1.86, 3.76, 5.81, 7.88, 10.07),
    },
    (128, 'separable'): {
        'info_nce': (1.69, 3.12, 4.04, 4.50, 4.71),
        'alpha_cpc:0.01': (1.86, 4.26, 6.58, 8.11, 8.87),
        'ml_cpc:1': (1.47, 2.63, 3.39, 3.86, 4.16),
        'ml_cpc:0.01': (1.68, 3.06, 4.43, 5.76, 6.71),
    },
    (128, 'joint'): {
        'info_nce': (1.83, 3.28, 4.17, 4.60, 4.77),
        'alpha_cpc:0.01': (2.09, 4.75, 7.07, 8.48, 9.13),
        'ml_cpc:1': (1.75, 3.08, 3.92, 4.39, 4.63),
        'ml_cpc:0.01': (1.91, 3.80, 5.53, 6.96, 8.01),
    },
}


def sample(key, truth, n, *, cubic=False, dimensions=DIMENSIONS):
  """Returns n pairs of correlated Gaussians [n, dimensions] whose mutual information is `truth` nats."""
  x, noise = jax.random.normal(key, (2, n, dimensions))
  rho2 = 1 - jnp.exp(-2 * truth / dimensions)
  y = jnp.sqrt(rho2) * x + jnp.sqrt(1 - rho2) * noise
  return x, y ** 3 if cubic else y


def processed(key, truth, n):
  """Returns x [n, 10], and y beside a function of it [n, 20]: as much information as without the function."""
  x, y = sample(key, truth, n, dimensions=10)
  return x, jnp.concatenate([y, jnp.tanh(y)], axis=1)


NATS = 4.0
SITUATIONS = {
    'one': functools.partial(sample, dimensions=10),
    'independent': lambda key, truth, n: sample(key, 0 * truth, n, dimensions=10),
    'processed': processed,
    'two': lambda key, truth, n: sample(key, 2 * truth, n, dimensions=20),
}


def staircase_of(steps):
  """Returns the truth [steps] at each step, as the demo has it."""
  return np.round(np.linspace(0.5, 5.5 - 1e-9, steps)) * 2


@functools.partial(jax.jit, static_argnames=('draw', 'critic', 'estimators'))
def run(key, truths, *, draw, critic, estimators):
  """Trains a critic by the first estimator, a fresh batch a step: returns the estimates [steps, number of estimators].

  `draw(key, truth)` makes the batch inside the loop, so that the host waits for nothing.
  """
  optimizer = optax.adam(LEARNING_RATE)

  def step(fit, inputs):
    i, truth = inputs
    x, y = draw(jax.random.fold_in(jax.random.fold_in(key, 1), i), truth)
    return mi.step(fit, x, y, estimators, critic, optimizer)

  fit = mi.init(jax.random.fold_in(key, 0), *draw(key, truths[0]), estimators[0], critic, optimizer)
  return jax.lax.scan(step, fit, (jnp.arange(len(truths)), truths))[1]


def families(estimators):
  """Groups estimators that are trained alike, so that one critic serves them: all SMILE and js."""
  alike = [e for e in estimators if e.name in ('js', 'smile')]
  return ([tuple(alike)] if alike else []) + [(e,) for e in estimators if e not in alike]


class Kept:
  """Curves [steps] by estimator and seed, kept in an .npz that is written anew after each run."""

  def __init__(self, path):
    self.path = path
    self.curves = dict(np.load(path, allow_pickle=False)) if path.exists() else {}

  def compute(self, estimators, seed, function):
    """Calls `function(family)` -> [steps, family] unless all its curves are there."""
    for family in families(estimators):
      names = [f'{e}/{seed}' for e in family]
      if all(name in self.curves for name in names):
        continue
      began = time.perf_counter()
      found = np.asarray(function(family))
      self.curves |= dict(zip(names, found.T, strict=True))
      temporary = self.path.with_suffix('.tmp.npz')
      np.savez_compressed(temporary, **self.curves)
      temporary.replace(self.path)
      print(f'  {", ".join(names)}: {time.perf_counter() - began:.0f} s', flush=True)


def plateaus(curve):
  """Returns the mean of the last quarter of each plateau (1,000 of 4,000 steps)."""
  truth = staircase_of(len(curve))
  return np.array([np.mean(curve[truth == level][-max(1, np.sum(truth == level) // 4):]) for level in LEVELS])


def staircase(options, estimators):
  path = options.out / f'{options.critic}-{options.batch_size}-{options.steps}{"-cubic" * options.cubic}.npz'
  kept = Kept(path)
  draw = functools.partial(sample, n=options.batch_size, cubic=options.cubic)
  truths = jnp.asarray(staircase_of(options.steps), jnp.float32)
  for seed in range(options.seeds):
    kept.compute(estimators, seed, lambda family, seed=seed: run(
        jax.random.key(seed), truths, draw=draw, critic=CRITICS[options.critic], estimators=family))
  print(f'\n### {options.critic} critic, batch {options.batch_size}, {options.steps:,} steps, {seeds(options)}'
        f'{", y cubed" * options.cubic} (log {options.batch_size} = {math.log(options.batch_size):.2f})\n')
  print('| estimator | ceiling | ' + ' | '.join(f'MI {level}' for level in LEVELS) + ' |\n' + '|---' * 7 + '|')
  published = {} if options.cubic else PUBLISHED.get((options.batch_size, options.critic), {})
  for estimator in estimators:
    curves = [kept.curves[f'{estimator}/{seed}'] for seed in range(options.seeds)]
    means = np.array([plateaus(curve) for curve in curves])
    print(row(estimator, options.batch_size, means, published.get(str(estimator))))
  draw_staircase(kept, estimators, options)


def seeds(options):
  return f'{options.seeds} seed{"s" * (options.seeds > 1)}'


def row(estimator, batch_size, means, published):
  """Returns a line of the table: mean over seeds (standard deviation over seeds), published value, difference."""
  cells = []
  for i, column in enumerate(means.T):
    text = f'{np.mean(column):.2f}'
    text += f' ± {np.std(column, ddof=1):.2f}' if len(column) > 1 else ''
    cells.append(text + (f' [{published[i]:.2f}, {np.mean(column) - published[i]:+.2f}]' if published else ''))
  ceiling = estimator.ceiling(batch_size)
  return f'| {estimator} | {"none" if math.isinf(ceiling) else f"{ceiling:.2f}"} | ' + ' | '.join(cells) + ' |'


def draw_staircase(kept, estimators, options):
  """Draws the first seed's curves and their moving average (span 200) beside the truth, a panel an estimator."""
  from jaxssl.evaluation import plots_mutual_information as plots
  curves = {str(e): kept.curves[f'{e}/0'] for e in estimators}
  ceilings = {str(e): e.ceiling(options.batch_size) for e in estimators}
  path = kept.path.with_suffix('.png')
  plots.staircase(curves, staircase_of(options.steps), path, ceilings=ceilings)
  print(f'\nFigure: {path}')


def consistency(options, estimators):
  steps = max(4, options.steps // 4)
  found = {}
  for name, draw in SITUATIONS.items():
    kept = Kept(options.out / f'consistency-{name}-{options.critic}-{options.batch_size}-{steps}.npz')
    for seed in range(options.seeds):
      kept.compute(estimators, seed, lambda family, draw=draw, seed=seed: run(
          jax.random.key(seed), jnp.full(steps, NATS), draw=functools.partial(draw, n=options.batch_size),
          critic=CRITICS[options.critic], estimators=family))
    found[name] = {e: np.array([np.mean(kept.curves[f'{e}/{seed}'][-(steps // 4):]) for seed in range(options.seeds)])
                   for e in estimators}
  print(f'\n### Self-consistency: {options.critic} critic, batch {options.batch_size}, {steps:,} steps, '
        f'{seeds(options)}\n\n| estimator | I(x; y), 4 | independence, 0 | data processing, 1 | additivity, 2 |\n'
        + '|---' * 5 + '|')
  text = lambda values: f'{np.mean(values):.2f}' + (f' ± {np.std(values, ddof=1):.2f}' if len(values) > 1 else '')
  for e in estimators:
    one, processed, two = (found[name][e] for name in ('one', 'processed', 'two'))
    print(f'| {e} | {text(one)} | {text(found["independent"][e])} | {text(processed / one)} | {text(two / one)} |')


PARTS = {'staircase': staircase, 'consistency': consistency}


def main():
  parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
  parser.add_argument('--parts', nargs='+', default=['staircase'], choices=PARTS)
  parser.add_argument('--estimators', nargs='+', default=ESTIMATORS, help='such as smile:5; default: all')
  parser.add_argument('--critic', default='separable', choices=CRITICS)
  parser.add_argument('--cubic', action='store_true')
  parser.add_argument('--out', type=pathlib.Path, default=pathlib.Path('runs/mutual_information'))
  for name, value in [('--batch_size', 64), ('--steps', STEPS), ('--seeds', 5)]:
    parser.add_argument(name, type=int, default=value)
  options = parser.parse_args()
  estimators = tuple(mi.Estimator.parse(text) for text in options.estimators)
  options.out.mkdir(parents=True, exist_ok=True)
  began = time.perf_counter()
  print(f'{hardware()}\n')
  for part in options.parts:
    PARTS[part](options, estimators)
  print(f'\n{(time.perf_counter() - began) / 60:.1f} minutes, without what had been computed before.')


if __name__ == '__main__':
  main()
