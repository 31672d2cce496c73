"""Times several things in turn, so that a drifting machine drifts for all of them, and prints one table."""

import datetime
import os
import platform
import statistics
import time
from collections.abc import Callable


def interleave(functions: dict[str, Callable[[], float | None]], rounds: int) -> dict[str, list[float]]:
  """Returns the seconds of `rounds` calls of each function, after one call that is not counted, in turn.

  A function that returns a number has timed itself.
  """
  for function in functions.values():
    function()
  seconds: dict[str, list[float]] = {name: [] for name in functions}
  for _ in range(rounds):
    for name, function in functions.items():
      began = time.perf_counter()
      own = function()
      seconds[name].append(time.perf_counter() - began if own is None else own)
  return seconds


def stepper(step: Callable, state, batch, key, steps: int) -> Callable[[], None]:
  """Returns a function that takes `steps` steps of a method's `step(state, batch, key)`, each with a key of its own."""
  import jax

  compiled, box = jax.jit(step, donate_argnums=0), [state]

  def run():
    for _ in range(steps):
      box[0], metrics = compiled(box[0], batch, jax.random.fold_in(key, box[0].step))
    jax.block_until_ready(metrics)

  return run


def report(title: str, seconds: dict[str, list[float]], items: dict[str, float], unit: str) -> None:
  """Prints a table: items per second (median, with the range), and the ratio to the first row, round by round."""
  first = next(iter(seconds))
  print(f'\n### {title}\n{datetime.date.today()}, {hardware()}\n')
  print(f'| | {unit}/s, median | range | ratio to the first |\n|---|---|---|---|')
  for name, times in seconds.items():
    rates = sorted(items[name] / t for t in times)
    ratios = [(items[name] / t) / (items[first] / t0) for t, t0 in zip(times, seconds[first], strict=True)]
    print(f'| {name} | {statistics.median(rates):,.1f} | {rates[0]:,.1f} - {rates[-1]:,.1f} '
          f'| {statistics.median(ratios):.2f} |')


def hardware() -> str:
  """Returns the processor, the accelerator if there is one, and the versions that matter."""
  import jax

  device = jax.devices()[0]
  accelerator = '' if device.platform == 'cpu' else f', {jax.device_count()} x {device.device_kind}'
  versions = f'Python {platform.python_version()}, jax {jax.__version__}'
  return f'{platform.machine()}, {os.cpu_count()} cores{accelerator}, {versions}'
