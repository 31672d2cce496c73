"""Checks of the values in a recipe: each error names the field, its value and what it may be."""

import math


def positive_interval(name: str, value) -> tuple[float, float]:
  """Returns a field that holds two positive numbers, the smaller first, as a tuple."""
  value = tuple(value)
  if len(value) != 2 or not 0 < value[0] <= value[1]:
    raise ValueError(f'{name} must be (low, high) with 0 < low <= high, got {value}')
  return value


def interval(name: str, value) -> tuple[float, float]:
  """Returns a field that holds two finite numbers, the smaller first, as floats."""
  value = tuple(value)
  if len(value) != 2 or not -math.inf < value[0] <= value[1] < math.inf:
    raise ValueError(f'{name} must be (low, high) with low <= high, got {value}')
  return float(value[0]), float(value[1])


def within(name: str, value: float, high: float) -> None:
  """Raises ValueError for a number outside [0, high]."""
  if not 0 <= value <= high:
    raise ValueError(f'{name} must lie in [0, {high:g}], got {value}')


def share(name: str, value: float) -> None:
  """Raises ValueError for a number outside (0, 1]."""
  if not 0 < value <= 1:
    raise ValueError(f'{name} must lie in (0, 1], got {value}')


def at_least(name: str, value: int, low: int) -> None:
  """Raises ValueError for anything but an integer from `low` on."""
  if not isinstance(value, int) or value < low:
    raise ValueError(f'{name} must be an integer of at least {low}, got {value!r}')
