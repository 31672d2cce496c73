"""Hyper-parameters that may follow the step."""

from collections.abc import Callable
from typing import Any

import jax

Scheduled = float | Callable[[Any], Any]  # A number, or a function of the step.


def at(value: Scheduled, step: jax.Array | int) -> Any:
  """Returns the value at a step."""
  return value(step) if callable(value) else value
