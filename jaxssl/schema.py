"""What the keys of a config hold: plain types, checked before anything is built of them."""

import collections.abc
import inspect
import types
import typing
from collections.abc import Mapping
from typing import Any

# All keys but those of which a constructor says what they hold: of the method, the recipe, the trained classifiers.
KEYS: dict[str, Any] = {
    'seed': int, 'steps': int, 'batch_size': int, 'init_from': str,
    'data': {'source': str, 'name': str | None, 'path': str | None, 'engine': str, 'recipe': Mapping},
    'method': Mapping,
    'checkpoint': {'every': int, 'keep_last': int | None, 'keep_every': int | None},
    'logging': {'every': int},
    'evaluation': {
        'protocols': tuple[str, ...], 'representation': str, 'batch_size': int, 'fractions': tuple[float, ...],
        'pictures': bool, 'knn': {'k': int, 'temperature': float},
        'linear': {'grid': tuple[float, ...], 'validation': float},
    },
    'mesh': {'data': int, 'model': int},
}
OPEN = ('config', 'config.data', 'config.evaluation')  # May hold more than is listed.
LONGEST = 200  # Characters of a value in a message.


def check(config: Any, *names: str) -> None:
  """Raises ValueError unless the keys `names` of a config, by default all, are there and hold what they must."""
  _check('config', config, {name: KEYS[name] for name in names or KEYS})


def _check(path: str, value: Any, wanted: Any) -> None:
  if not isinstance(wanted, dict):
    check_type(path, value, wanted)
    return
  if not is_section(value):
    raise ValueError(f'{path} must be a section of {", ".join(wanted)}, got {shown(value)}')
  for key in value if path not in OPEN else ():
    if key not in wanted:
      raise ValueError(f'{path}.{key} does not exist; the keys are: {", ".join(wanted)}')
  for key, each in wanted.items():
    if key not in value:
      raise ValueError(f'{path}.{key} is missing')
    _check(f'{path}.{key}', value[key], each)


def check_type(path: str, value: Any, annotation: Any) -> None:
  """Raises ValueError, with the key at `path`, unless `value` suits the type."""
  if not suits(value, annotation):
    raise ValueError(f'{path} must be {_name(annotation)}, got {shown(value)}')


def is_section(value: Any) -> bool:
  """Whether a value is a section: a dict, or a `ConfigDict`, which is no `Mapping`."""
  return hasattr(value, 'items')


def shown(value: Any) -> str:
  """A value as it stands in a message, cut where it is long; of what a section has made, its type."""
  plain = value is None or is_section(value) or isinstance(value, (bool, int, float, str, bytes, tuple, list))
  text = repr(value) if plain else type(value).__name__
  return text if len(text) <= LONGEST else f'{text[:LONGEST]}…'


def suits(value: Any, annotation: Any) -> bool:
  """Whether a value is of a type, or of a tuple or union of types; where the annotation tells nothing, it is.

  An integer is a float, but neither is NaN, nor is a bool either of them.
  """
  kind, parts = typing.get_origin(annotation), typing.get_args(annotation)
  if kind in (typing.Union, types.UnionType):
    return any(suits(value, part) for part in parts)
  if kind is tuple:
    if not isinstance(value, tuple):
      return False
    parts = parts[:1] * len(value) if parts[1:] == (...,) else parts
    return len(value) == len(parts) and all(map(suits, value, parts))
  if annotation in (int, float):  # To Python a bool is an integer.
    return isinstance(value, (int, annotation)) and not isinstance(value, bool) and value == value
  if annotation is Mapping:
    return is_section(value)
  if kind is collections.abc.Callable or annotation is collections.abc.Callable:
    return callable(value)
  return isinstance(value, annotation) if _is_class(annotation) else True


def _name(annotation: Any) -> str:
  """What to call a type in a message; what is made of a section is a section to the user."""
  kind = typing.get_origin(annotation)
  if kind in (typing.Union, types.UnionType):
    return ' | '.join(map(_name, typing.get_args(annotation)))
  if kind is tuple:
    return str(annotation)
  if annotation is types.NoneType:
    return 'None'
  if annotation in (int, float, bool, str):
    return str(annotation.__name__)
  made = _is_class(annotation) and annotation is not Mapping
  return f'a section that makes a {annotation.__name__}' if made else 'a section'


def _is_class(annotation: Any) -> bool:
  """Whether `isinstance` knows it: a class that is no protocol, and tells something."""
  protocol = getattr(annotation, '_is_protocol', False)
  return isinstance(annotation, type) and not protocol and annotation not in (Any, inspect.Parameter.empty)
