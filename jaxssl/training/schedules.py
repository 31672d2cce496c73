"""Schedules: functions of the step, built once from their values and the length of the run.

All take the same context, which `build` supplies: `batch_size` (examples per update), `steps` (length of the run) and
`steps_per_epoch`. A step is one batch, also where an optimizer accumulates several to an update.
"""

import math

import jax.numpy as jnp
import optax


def peak(base: float, batch_size: int, scaling: str) -> float:
  """Returns the learning rate for a batch size (SimCLR, arXiv:2002.05709, section 2.2 and appendix B.1).

  Args:
    base: the rate at batch size 256 ('linear'), at batch size 1 ('sqrt'), or as it is ('none'). SimCLR uses 0.3 for
      'linear' and 0.075 for 'sqrt', equal at 4096.
    batch_size: examples per update.
    scaling: 'linear', base x batch_size / 256; 'sqrt', base x sqrt(batch_size); or 'none'.
  """
  _check('base', base)
  if scaling == 'linear':
    return base * batch_size / 256
  if scaling == 'sqrt':
    return base * math.sqrt(batch_size)
  if scaling == 'none':
    return base
  raise ValueError(f"scaling must be 'linear', 'sqrt' or 'none': got {scaling!r}")


def constant(
    base: float, *, batch_size: int, steps: int, steps_per_epoch: float, scaling: str = 'none') -> optax.Schedule:
  """Returns the same learning rate at every step; see `peak` for its scaling."""
  del steps, steps_per_epoch
  return optax.constant_schedule(peak(base, batch_size, scaling))


def linear_warmup(
    base: float, *, batch_size: int, steps: int, steps_per_epoch: float, warmup_epochs: float = 10,
) -> optax.Schedule:
  """Returns a rise from 0 to `base` in a straight line, which then stays: the weight of a VAE's KL, for instance.

  At most half of the run, as the warm-up of `warmup_cosine`.
  """
  del batch_size
  _check('warmup_epochs', warmup_epochs)
  _check('base', base)
  warmup_steps = min(round(warmup_epochs * steps_per_epoch), steps // 2)
  return optax.linear_schedule(0.0, base, warmup_steps) if warmup_steps else optax.constant_schedule(base)


def linear(
    start: float, end: float, *, batch_size: int, steps: int, steps_per_epoch: float, epochs: float | None = None,
) -> optax.Schedule:
  """Returns a straight line from `start` to `end`, which then stays: the temperature of DINO's teacher, for instance.

  In `epochs`, at most the run; None: in all of the run.
  """
  del batch_size
  _check('start', start)
  _check('end', end)
  if epochs is not None:
    _check('epochs', epochs)
  length = steps if epochs is None else min(round(epochs * steps_per_epoch), steps)
  return optax.linear_schedule(start, end, length) if length else optax.constant_schedule(end)


def cosine(start: float, end: float, *, batch_size: int, steps: int, steps_per_epoch: float) -> optax.Schedule:
  """Returns half a cosine from `start` to `end` over the run.

  Of BYOL's momentum, 0.996 to 1 (arXiv:2006.07733, section 3.3), and DINO's weight decay, 0.04 to 0.4
  (arXiv:2104.14294, section 3.2).
  """
  del batch_size, steps_per_epoch
  _check('start', start)
  _check('end', end)
  return lambda count: end + (start - end) * (1 + jnp.cos(jnp.pi * jnp.clip(count / steps, 0.0, 1.0))) / 2


def step_decay(
    base: float,
    *,
    batch_size: int,
    steps: int,
    steps_per_epoch: float,
    scaling: str = 'none',
    milestones: tuple[float, ...] = (1 / 2, 2 / 3, 5 / 6),
    factor: float = 0.1,
) -> optax.Schedule:
  """Returns a learning rate that is multiplied by `factor` at each of `milestones`, shares of the run.

  The defaults are those of CMC (arXiv:1906.05849) and its code: a tenth at epochs 120, 160 and 200 of 240. See `peak`
  for the scaling.
  """
  del steps_per_epoch
  if not all(0 < share < 1 for share in milestones):
    raise ValueError(f'milestones must be shares of the run, in (0, 1): got {milestones}')
  _check('factor', factor)
  return optax.piecewise_constant_schedule(
      peak(base, batch_size, scaling), {round(share * steps): factor for share in milestones})


def warmup_cosine(
    base: float,
    *,
    batch_size: int,
    steps: int,
    steps_per_epoch: float,
    scaling: str = 'linear',
    warmup_epochs: float = 10,
    final: float = 0.0,
) -> optax.Schedule:
  """Returns a linear warm-up from 0 followed by half a cosine, without restarts (SimCLR, appendix B.6).

  Args:
    base: see `peak`, as for `batch_size` and `scaling`.
    batch_size: examples per update.
    steps: length of the run; the rate reaches its end there.
    steps_per_epoch: converts the warm-up to steps.
    scaling: 'linear', 'sqrt' or 'none'.
    warmup_epochs: length of the warm-up, at most half of the run, so that a run cut short still decays.
    final: the rate at the end, as a fraction of the peak.
  """
  if steps < 1:
    raise ValueError(f'steps must be positive: got {steps}')
  _check('warmup_epochs', warmup_epochs)
  _check('final', final)
  highest = peak(base, batch_size, scaling)
  warmup_steps = min(round(warmup_epochs * steps_per_epoch), steps // 2)
  decay = optax.cosine_decay_schedule(highest, steps - warmup_steps, alpha=final)
  if warmup_steps == 0:
    return decay
  return optax.join_schedules([optax.linear_schedule(0.0, highest, warmup_steps), decay], [warmup_steps])


def _check(name: str, value: float) -> None:
  if not 0 <= value < math.inf:
    raise ValueError(f'{name} must be finite and not negative: got {value}')
