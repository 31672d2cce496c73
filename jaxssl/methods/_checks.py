"""Checks of a method's fields, and of the batch it is made for: each error names the field and what it may be."""

import math
from collections.abc import Iterable

import numpy as np
from flax import linen as nn

from jaxssl import core
from jaxssl.methods._scheduled import Scheduled

LARGEST = 2**31 - 1  # Of int32.
SMALLEST = float(np.finfo(np.float32).tiny)  # What is smaller is 0 on most devices.


def positive(**values: Scheduled) -> None:
  """Raises ValueError for a number that is not positive and finite, in int32 or float32; schedules pass."""
  for name, value in values.items():
    if callable(value):
      continue
    _fits(name, value)
    if not SMALLEST <= value < math.inf:
      what = 'positive' if isinstance(value, int) else 'positive and finite'
      raise ValueError(f'{name} must be {what}, got {value}{", which is 0 in float32" if 0 < value < 1 else ""}')


def not_negative(**values: Scheduled) -> None:
  """Raises ValueError for a number that is negative or not finite; schedules pass."""
  for name, value in values.items():
    if callable(value):
      continue
    _fits(name, value)
    if not 0 <= value < math.inf:
      what = 'not be' if isinstance(value, int) else 'be finite and not'
      raise ValueError(f'{name} must {what} negative, got {value}')


def _fits(name: str, value: float) -> None:
  if isinstance(value, int) and value > LARGEST:
    raise ValueError(f'{name} must be at most {LARGEST}, got {value}')


def below_one(**values: float) -> None:
  """Raises ValueError for a number outside [0, 1)."""
  for name, value in values.items():
    if not 0 <= value < 1:
      raise ValueError(f'{name} must lie in [0, 1), got {value}')


def momentum(value: Scheduled) -> None:
  """Raises ValueError for a momentum outside [0, 1]; schedules pass."""
  if not callable(value) and not 0 <= value <= 1:
    raise ValueError(f'momentum must lie in [0, 1], or be a schedule, got {value}')


def choice(name: str, value: str, choices: Iterable[str]) -> None:
  """Raises ValueError unless a field has one of its choices."""
  if value not in choices:
    raise ValueError(f'{name} must be one of {", ".join(map(repr, choices))}, got {value!r}')


def alpha(value: Scheduled, objective: str) -> None:
  """Raises ValueError for an alpha that an objective other than multi-label CPC would ignore."""
  if objective != 'ml_cpc' and value != 1:
    found = 'a schedule' if callable(value) else value
    raise ValueError(f"alpha is of objective='ml_cpc' alone, got {found} with {objective!r}")


def kinds(**modules: tuple[nn.Module, type]) -> None:
  """Raises ValueError unless each module is of the class beside it."""
  for name, (module, kind) in modules.items():
    if not isinstance(module, kind):
      raise ValueError(f'{name} must be a {kind.__name__}, got {type(module).__name__}')


def views(batch: core.Batch, least: int = 2, most: float = math.inf) -> None:
  """Raises ValueError for a batch of fewer or more views."""
  if not least <= len(batch['views']) <= most:
    wanted = f'{least}' if most == least else f'{least} or more'
    raise ValueError(f'views must be {wanted}, got {len(batch["views"])}')
