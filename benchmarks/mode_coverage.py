"""How many of 25 Gaussians on a grid does a GAN learn? Metz et al. 2016; as in WGAN-GP (arXiv:1704.00028, figure 1).

  python benchmarks/mode_coverage.py [--spread 40] [--steps 20000] [--seeds 3] [--only NAME ...]

The grid is 5 x 5, the whole of standard deviation 1, the distance of neighbours --spread standard deviations of a mode:
40 as there, fewer are learned in fewer steps. The weights of R1 and R2 are those of slopes in standard deviations of a
mode, which a discriminator that tells the modes must have. All settings
have the same networks, 3 layers of --width, and --batch real points for each update of the discriminator; a step is one
update of the generator, so settings with n_critic see more points. Of 10,000 samples of the averaged generator: those
within 4 standard deviations of a mode belong to it (of true points 99.97 %), and a mode is covered that has at least a
tenth of its even share. `entropy` is that of the modes' shares over log 25, 1 if they are even.
"""

import argparse
import statistics
import time

import jax
import jax.numpy as jnp
import numpy as np
import optax
from timing import hardware

from jaxssl import methods, models

SPACING = 2 / 2.828  # As in WGAN-GP's code, gan_toy.py.
CENTRES = SPACING * np.stack(np.meshgrid(np.arange(-2, 3), np.arange(-2, 3)), axis=-1).reshape(25, 2)
SAMPLES = 10_000
SETTINGS = {
    'Jensen-Shannon': {},
    'Jensen-Shannon, R1': {'r1': 0.1},  # R1 and R2 in squared standard deviations of a mode: see `train`.
    'WGAN, clipped': {'divergence': 'wasserstein', 'clip': 0.05, 'n_critic': 5},
    'WGAN-GP': {'divergence': 'wasserstein', 'gradient_penalty': 0.1, 'n_critic': 5},  # 0.1 as in gan_toy.py.
    'relativistic, R1 + R2': {'divergence': 'relativistic', 'r1': 30.0, 'r2': 30.0},
}


def draw(key: jax.Array, n: int, deviation: float) -> jax.Array:
  """Returns n points of the mixture, [n, 2]."""
  mode, noise = jax.random.split(key)
  centres = jnp.asarray(CENTRES, jnp.float32)[jax.random.randint(mode, (n,), 0, 25)]
  return centres + deviation * jax.random.normal(noise, (n, 2))


def coverage(points: np.ndarray, deviation: float) -> tuple[int, float, float]:
  """Returns how many modes are covered, the share of points that belong to one, and the entropy of their shares."""
  distance = np.linalg.norm(points[:, None] - CENTRES[None], axis=-1)
  near = distance.min(axis=1) < 4 * deviation
  counts = np.bincount(distance.argmin(axis=1)[near], minlength=25)
  shares = counts / max(counts.sum(), 1)
  entropy = -np.sum(shares * np.log(np.where(shares > 0, shares, 1))) / np.log(25)
  return int(np.sum(counts >= 0.1 * len(points) / 25)), float(near.mean()), float(entropy)


def train(fields: dict, arguments: argparse.Namespace, seed: int) -> tuple[np.ndarray, float]:
  """Returns samples of the trained generator, and the seconds of its training without compilation."""
  hidden, deviation = (arguments.width,) * 3, SPACING / arguments.spread
  fields = {name: value * deviation**2 if name in ('r1', 'r2') else value for name, value in fields.items()}
  adam = lambda: optax.adam(optax.cosine_decay_schedule(arguments.rate, arguments.steps, 0.1), 0.0, 0.9)
  score_bias = fields.get('divergence') not in ('wasserstein', 'relativistic')  # Which see differences of scores alone.
  method = methods.GAN(
      models.MLPDiscriminator(hidden, score_bias=score_bias), models.Generator(models.MLPDecoder(hidden), 'linear'),
      adam(), adam(), latent_size=8, **fields)
  size = arguments.batch * method.n_critic

  def step(state, key):
    data_key, key = jax.random.split(key)
    return method.step(state, {'views': (draw(data_key, size, deviation),)}, key)[0], None

  init_key, key, sample_key = jax.random.split(jax.random.key(seed), 3)
  state = jax.jit(method.init)(init_key, {'views': (draw(init_key, size, deviation),)})
  keys = jax.random.split(key, arguments.steps)
  run = jax.jit(lambda state, keys: jax.lax.scan(step, state, keys)[0]).lower(state, keys).compile()
  began = time.perf_counter()
  state = jax.block_until_ready(run(state, keys))
  seconds = time.perf_counter() - began
  if int(state.failed_step) >= 0:
    raise ArithmeticError(f'no finite loss or gradient at step {int(state.failed_step)}')
  return np.asarray(method.sample(state, sample_key, SAMPLES, (2,)), np.float64), seconds


def main() -> None:
  parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
  parser.add_argument('--steps', type=int, default=20_000)
  parser.add_argument('--spread', type=float, default=40.0)
  parser.add_argument('--seeds', type=int, default=3)
  parser.add_argument('--batch', type=int, default=256)
  parser.add_argument('--width', type=int, default=128)
  parser.add_argument('--rate', type=float, default=5e-4, help='of Adam, b1 0, b2 0.9; falls to a tenth by a cosine')
  parser.add_argument('--only', nargs='+', choices=SETTINGS, default=list(SETTINGS))
  arguments = parser.parse_args()
  deviation = SPACING / arguments.spread
  sizes = f'{arguments.steps} steps, batch {arguments.batch}, width {arguments.width}'
  print(f'{hardware()}; spread {arguments.spread:g}, {sizes}\n')
  print('| setting | modes of 25, by seed | samples in a mode | entropy | seconds |\n|---|---|---|---|---|')
  square = np.random.default_rng(0).uniform(-2.5 * SPACING, 2.5 * SPACING, (SAMPLES, 2))  # Knows nothing of modes.
  true = np.asarray(draw(jax.random.key(0), SAMPLES, deviation), np.float64)
  for name, points in (('true points', true), ('uniform points', square)):
    modes, share, entropy = coverage(points, deviation)
    print(f'| {name} | {modes} | {share:.1%} | {entropy:.3f} | |', flush=True)
  for name in arguments.only:
    runs = [train(SETTINGS[name], arguments, seed) for seed in range(arguments.seeds)]
    modes, shares, entropies = zip(*(coverage(points, deviation) for points, _ in runs), strict=True)
    print(f'| {name} | {", ".join(map(str, modes))} | {statistics.mean(shares):.1%} | {statistics.mean(entropies):.3f} '
          f'| {statistics.mean(seconds for _, seconds in runs):.0f} |', flush=True)


if __name__ == '__main__':
  main()
