"""Pictures of samples: of the draws of z that a run always shows, between draws, and over training."""

import logging
import os
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxssl.cli import measure_generative, measure_samples, runs
from jaxssl.evaluation import plots_generative
from jaxssl.evaluation.subsets import evenly_spread

LINES, COLUMNS = 6, 12  # Of a sheet of samples.
PAIRS, STEPS = 6, 12  # Of draws of z, and of the way from one to the other.
FOLDER = 'samples'  # In the work directory: a picture a checkpoint.
FRAMES = 40  # Of the GIF, at most; each takes about 100 kB, also in the report.

log = logging.getLogger(__name__)
Found = dict[str, str]
Paint = Callable[[Any, str], None]


def painter(run: runs.Run, shape: tuple[int, ...]) -> Paint:
  """Returns (state, file) -> None, which draws what the state makes of always the same draws of z.

  `shape` is that of an image. All processes have to call it; the first writes.
  """
  method: Any = run.experiment.method
  everywhere = run.state.step.sharding  # Each process holds all images, however the state is laid out.
  make = jax.jit(lambda state, key: method.sample(state, key, LINES * COLUMNS, shape), out_shardings=everywhere)
  key = measure_samples.key_of(run)

  def paint(state, file):
    images = np.asarray(make(state, key))
    if jax.process_index() == 0:
      plots_generative.sheet(list(images.reshape(LINES, COLUMNS, *shape)), file)

  return paint


def over_training(run: runs.Run, path: str) -> Callable[[int, Any], None]:
  """Returns (step, state) -> None, which draws samples as <step>.png in a folder of the work directory `path`.

  It does nothing for a method that does not make images, and without config.evaluation.pictures.
  """
  nothing = lambda step, state: None
  if not (run.config.evaluation.pictures and hasattr(run.experiment.method, 'sample')):
    return nothing
  seen = jax.eval_shape(run.experiment.prepare, runs.batch_like(run.meta['batch']), jax.random.key(0))['inputs']
  shape = jax.tree.leaves(seen)[0].shape[1:]
  if len(shape) != 3:
    return nothing
  folder, paint = os.path.join(path, FOLDER), painter(run, shape)

  def draw(step, state):
    unfinished, finished = (os.path.join(folder, f'{dot}{step}.png') for dot in ('.', ''))
    if jax.process_count() == 1 and os.path.exists(finished):
      return  # Drawn before the run was stopped, from the same bits.
    try:
      if jax.process_index() == 0:
        os.makedirs(folder, exist_ok=True)
      paint(state, unfinished)
      if jax.process_index() == 0:
        os.replace(unfinished, finished)
    except OSError as error:  # No reason to stop the training.
      log.warning('%s cannot be drawn: %s', finished, error.strerror or error)

  return draw


def animate(path: str, step: int, file: str) -> Found:
  """Makes a GIF of what `over_training` drew in the work directory `path` up to `step`, if that is two pictures."""
  folder = os.path.join(path, FOLDER)
  names = os.listdir(folder) if os.path.isdir(folder) else []
  steps = sorted(int(name[:-4]) for name in names if name.endswith('.png') and name[:-4].isdigit())
  steps = [each for each in steps if each <= step]
  if len(steps) < 2:
    return {}
  shown = [steps[i] for i in evenly_spread(len(steps), FRAMES)]
  plots_generative.animation({f'step {each:,}': os.path.join(folder, f'{each}.png') for each in shown}, file)
  return {f'Samples over training, of the same draws of z, from step {shown[0]:,} to {shown[-1]:,}': file}


def interpolations(run: runs.Run, shape: tuple[int, ...], file: str) -> Found:
  """Draws what lies between pairs of draws of z: on a great circle if they are normal, else on a line."""
  method: Any = run.experiment.method
  if not measure_generative.generates(method):
    return {}
  z = np.asarray(method.latents(measure_samples.key_of(run), 2 * PAIRS))
  normal = getattr(method, 'latent', 'normal') == 'normal'
  weights = np.linspace(0, 1, STEPS)
  between = (great_circle if normal else straight)(z[:PAIRS], z[PAIRS:], weights)
  generate = jax.jit(lambda state, z: method.generate(state, z, shape))
  made = generate(run.state, jnp.asarray(between.reshape(-1, z.shape[1]), jnp.float32))
  plots_generative.sheet(list(np.asarray(made).reshape(PAIRS, STEPS, *shape)), file)
  way = 'along the great circle' if normal else 'along the line'
  return {f'From one draw of z to another, {way} between them ({STEPS} images)': file}


def straight(start: np.ndarray, end: np.ndarray, weights: np.ndarray) -> np.ndarray:
  """Returns what lies on the lines from `start` to `end`, both [n, d], at `weights` [k] from 0 to 1, [n, k, d]."""
  return start[:, None] + weights[None, :, None] * (end - start)[:, None]


def great_circle(start: np.ndarray, end: np.ndarray, weights: np.ndarray) -> np.ndarray:
  """As `straight`, along the arcs around the origin (White 2016, https://arxiv.org/abs/1609.04468).

  In many dimensions normal draws lie near a sphere; on the line between two of them, the middle is closer to the
  origin than any draw. Draws in one direction, or in opposite ones, or at the origin, have a line between them.
  """
  lengths = np.linalg.norm(start, axis=1) * np.linalg.norm(end, axis=1)
  cosine = np.where(lengths > 0, np.sum(start * end, axis=1) / np.where(lengths > 0, lengths, 1), 1)
  angle = np.arccos(np.clip(cosine, -1, 1))[:, None, None]
  sine, weights = np.sin(angle), weights[None, :, None]
  curved = sine > 1e-6
  share = lambda weight: np.where(curved, np.sin(weight * angle) / np.where(curved, sine, 1), weight)
  return share(1 - weights) * start[:, None] + share(weights) * end[:, None]
