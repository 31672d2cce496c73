"""Checks of a module's fields: each error names the field, its value and the choices."""

from collections.abc import Iterable

from flax import linen as nn


def choice(name: str, value: str | None, choices: Iterable[str | None]) -> None:
  """Raises ValueError unless a field has one of its choices."""
  if value not in choices:
    raise ValueError(f'{name} must be one of {", ".join(map(repr, choices))}, got {value!r}')


def sizes(name: str, values: tuple[int, ...]) -> None:
  """Raises ValueError unless a field holds the sizes of one layer or more."""
  if not values or min(values) < 1:
    raise ValueError(f'{name} must hold at least one size, all positive, got {tuple(values)}')


def transformer(module: nn.Module) -> None:
  """Raises ValueError unless the `width`, `depth` and `heads` of a module make transformer layers."""
  if min(module.width, module.depth, module.heads) < 1 or module.width % module.heads:
    raise ValueError(
        f'{module.name or type(module).__name__}: width must be a multiple of heads, and depth positive, got '
        f'{module.width}, {module.heads} and {module.depth}')
