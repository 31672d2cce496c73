"""Checks of shapes, dtypes, names and Python numbers; never of the values of arrays, unknown under `jax.jit`."""

import math
from collections.abc import Callable
from typing import TypeGuard

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

IMPLEMENTATIONS = ('dense', 'tiled', 'ring', 'pallas_tpu', 'mosaic_gpu')
WANTED = {
    'finite': math.isfinite,
    'finite and not 0': lambda x: x != 0 and math.isfinite(x),
    'finite and at least 0': lambda x: 0 <= x < math.inf,
    'positive': lambda x: x > 0,
}
DENSE_OR_TILED = ('dense', 'tiled')  # Those of the losses that have these alone.


def embeddings(**arrays: ArrayLike) -> tuple[jax.Array, ...]:
  """Returns the named arrays in float32; raises unless all are floating-point, of one shape [n, d]."""
  return _of_one_shape(arrays, '[n, d], neither of them 0', lambda x: x.ndim == 2)


def alike(**arrays: ArrayLike) -> tuple[jax.Array, ...]:
  """Returns the named arrays in float32; raises unless all are floating-point, of one shape [b, ...]."""
  return _of_one_shape(arrays, '[b, ...], none of them 0', lambda x: x.ndim >= 1)


def _of_one_shape(
    arrays: dict[str, ArrayLike], wanted: str, is_wanted: Callable[[jax.Array], bool]) -> tuple[jax.Array, ...]:
  checked = [floating(name, value) for name, value in arrays.items()]
  first = next(iter(arrays))
  for name, x in zip(arrays, checked, strict=True):
    if not is_wanted(x) or 0 in x.shape:
      raise ValueError(f'{name} must have shape {wanted}, got {list(x.shape)}')
    if x.shape != checked[0].shape:
      raise ValueError(f'{name} must have the shape of {first}, {list(checked[0].shape)}, got {list(x.shape)}')
  return tuple(checked)


def negatives(value: ArrayLike, n: int, d: int) -> jax.Array:
  """Returns negatives in float32; raises unless they are floating-point, of shape [m, d] or [n, m, d]."""
  x = floating('negatives', value)
  if x.ndim not in (2, 3) or x.shape[-1] != d or (x.ndim == 3 and x.shape[0] != n):
    raise ValueError(f'negatives must have shape [m, {d}] or [{n}, m, {d}], got {list(x.shape)}')
  return x


def integers(name: str, value: ArrayLike, shape: tuple[int, ...]) -> jax.Array:
  """Returns `value` as an array; raises unless it holds integers, in `shape`, that JAX does not wrap around."""
  x = jnp.asarray(value)
  if isinstance(value, np.ndarray) and value.dtype != x.dtype and np.any(value != value.astype(x.dtype)):
    raise ValueError(
        f'{name} must fit into {x.dtype}, got values from {value.min()} to {value.max()}: number them from 0, or set '
        'jax_enable_x64')
  if not jnp.issubdtype(x.dtype, jnp.integer) or x.shape != shape:
    raise ValueError(f'{name} must be integers of shape {list(shape)}, got {x.dtype} {list(x.shape)}')
  return x


def mask(name: str, value: ArrayLike, n: int) -> jax.Array:
  """Returns `value` as an array; raises unless it is boolean, of shape [n, m]."""
  x = jnp.asarray(value)
  if x.dtype != bool or x.ndim != 2 or len(x) != n:
    raise ValueError(f'{name} must be boolean of shape [{n}, number of keys], got {x.dtype} {list(x.shape)}')
  return x


def floating(name: str, value: ArrayLike) -> jax.Array:
  """Returns `value` in float32; raises unless it is floating-point."""
  try:
    x = jnp.asarray(value)
  except (TypeError, ValueError):
    raise ValueError(f'{name} must be a floating-point array, got {value!r}') from None
  if not jnp.issubdtype(x.dtype, jnp.floating):
    raise ValueError(f'{name} must be a floating-point array, got {x.dtype}')
  return x.astype(jnp.float32)


def scalar(name: str, value: ArrayLike, wanted: str = 'finite') -> jax.Array:
  """Returns `value` in float32; raises unless it is a real scalar, and, if a Python (or NumPy) number, as in WANTED."""
  if is_number(value):
    if not WANTED[wanted](rounded := _in_float32(value)):
      raise ValueError(f'{name} must be {wanted}, got {value}')
    return jnp.float32(rounded)
  try:
    x = jnp.asarray(value)
  except (TypeError, ValueError):
    raise ValueError(f'{name} must be a number, got {value!r}') from None
  if x.ndim:
    raise ValueError(f'{name} must be a scalar, got shape {list(x.shape)}')
  if not jnp.issubdtype(x.dtype, jnp.floating) and not jnp.issubdtype(x.dtype, jnp.integer):
    raise ValueError(f'{name} must be a real number, got {x.dtype}')
  return x.astype(jnp.float32)


def temperature(value: ArrayLike, name: str = 'temperature') -> jax.Array:
  """Returns what scores are divided by, in float32; raises unless it is a real scalar, finite and not 0."""
  return scalar(name, value, 'finite and not 0')


def epsilon(value: ArrayLike) -> jax.Array:
  """Returns what keeps a root or a logarithm from 0, in float32; raises unless it is a real scalar, at least 0."""
  return scalar('epsilon', value, 'finite and at least 0')


def number(name: str, value: float, low: float, high: float = math.inf) -> None:
  """Raises unless `value` is a Python (or NumPy) number from `low` on and below `high`."""
  if not is_number(value) or not low <= value < high or not math.isfinite(_in_float32(value)):
    within = f'in [{low:g}, {high:g})' if high < math.inf else f'at least {low:g}'
    raise ValueError(f'{name} must be a Python number, {within}, got {value!r}')


def positive(name: str, value: float) -> None:
  """Raises unless `value` is a Python (or NumPy) number, finite and above 0."""
  if not is_number(value) or not 0 < _in_float32(value) < math.inf:
    raise ValueError(f'{name} must be a positive Python number, got {value!r}')


def _in_float32(value: float) -> float:
  """Returns the float32 nearest to a number; infinity for what is beyond, 0 for what XLA takes for it."""
  try:
    with np.errstate(over='ignore', under='ignore'):
      rounded = float(np.float32(float(value)))
  except OverflowError:
    return math.inf if value > 0 else -math.inf
  return 0.0 if abs(rounded) < np.finfo(np.float32).smallest_normal else rounded


def count(name: str, value: int, most: int | None = None) -> None:
  """Raises unless `value` is a Python (or NumPy) integer from 1 to `most`, where there is a most."""
  if not isinstance(value, int | np.integer) or isinstance(value, bool) or value < 1 or (most and value > most):
    raise ValueError(f'{name} must be an integer, {f"from 1 to {most}" if most else "at least 1"}, got {value!r}')


def flag(name: str, value: bool) -> None:
  """Raises unless `value` is True or False, or 1 or 0: any text, also 'no', would count as true."""
  if not isinstance(value, bool | np.bool_ | int) or value not in (0, 1):
    raise ValueError(f'{name} must be True or False, got {value!r}')


def is_number(value: object) -> TypeGuard[float]:
  """Whether `value` is a real Python (or NumPy) number, whose range can be checked also under `jax.jit`."""
  if isinstance(value, np.generic):
    return bool(jnp.issubdtype(value.dtype, jnp.floating) or jnp.issubdtype(value.dtype, jnp.integer))
  return isinstance(value, int | float) and not isinstance(value, bool)


def choice(name: str, value: str | None, choices: tuple[str | None, ...]) -> None:
  """Raises unless `value` is one of the choices."""
  if value not in choices:
    raise ValueError(f'{name} must be one of {", ".join(map(repr, choices))}, got {value!r}')


def implementation(name: str | None, at_hand: tuple[str, ...] = IMPLEMENTATIONS) -> None:
  """Raises unless `name` is an implementation at hand, or None."""
  choice('implementation', name, (None, *at_hand))


def alpha(value: ArrayLike, candidates: int) -> None:
  """Raises unless `value`, where it is a Python (or NumPy) number, lies between 0 and the number of candidates."""
  if is_number(value) and not 0 < value < candidates:
    raise ValueError(f'alpha must lie between 0 and the number of candidates, {candidates}, got {value}')
