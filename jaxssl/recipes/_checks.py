"""Checks of the values in a recipe."""

import math


def range(name: str, value) -> tuple[float, float]:
  value = tuple(value)
  if len(value) != 2 or not 0 < value[0] <= value[1]:
    raise ValueError(f'{name} must be (low, high) with 0 < low <= high, got {value}')
  return value


def interval(name: str, value) -> tuple[float, float]:
  value = tuple(value)
  if len(value) != 2 or not -math.inf < value[0] <= value[1] < math.inf:
    raise ValueError(f'{name} must be (low, high) with low <= high, got {value}')
  return float(value[0]), float(value[1])


def within(name: str, value: float, high: float):
  if not 0 <= value <= high:
    raise ValueError(f'{name} must lie in [0, {high:g}], got {value}')


def at_least(name: str, value: int, low: int):
  if not isinstance(value, int) or value < low:
    raise ValueError(f'{name} must be an integer of at least {low}, got {value!r}')
