"""What a sweep tries: from --sweep.KEY=VALUES to one config a trial, each with a name that stays."""

import hashlib
import itertools
import json
import math
import random
import re
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from absl import flags
from ml_collections import ConfigDict, config_flags
from ml_collections.config_flags import config_path

from jaxssl.cli import workdir
from jaxssl.cli.train import described
from jaxssl.evaluation import report

# Without these the trials could not be compared.
COMPARED = ('data', 'data.source', 'data.name', 'data.path')
LONGEST = 80  # Characters of the keys and values in a name.
DIGITS = 3  # Of a number that is drawn.


class Trial(NamedTuple):
  """One config of a sweep."""

  identity: str  # Of what it learns: the same config has the same, whatever else is swept.
  name: str  # Of its work directory within the sweep's.
  values: dict[str, Any]  # By swept key.
  overrides: tuple[str, ...]  # --config.KEY=VALUE, of the base and its own: what the train command is given.
  config: ConfigDict


class Range(NamedTuple):
  """Numbers from `low` to `high`, both included, to draw from evenly or evenly in their logarithm."""

  low: float
  high: float
  logarithmic: bool
  whole: bool

  def draw(self, rng: random.Random) -> str:
    """Returns a number as text; of what is not whole, three digits."""
    low, high = (self.low - 0.5, self.high + 0.5) if self.whole else (self.low, self.high)
    x = math.exp(rng.uniform(math.log(low), math.log(high))) if self.logarithmic else rng.uniform(low, high)
    return repr(min(max(round(x) if self.whole else float(f'{x:.{DIGITS}g}'), self.low), self.high))


def plan(
    file: str, base: Mapping[str, Any], swept: Mapping[str, str], draws: int | None = None, seed: int = 0,
) -> list[Trial]:
  """Returns the trials of a sweep, each once.

  Args:
    file: of the base config.
    base: what is set on the command line, by key.
    swept: for each key the text of its values: a list with commas, or a range.
    draws: so many random ones; None: all combinations of the lists.
    seed: of the draws. Each draw of a key depends on it, on the key and on the number of the draw alone, so that more
      draws begin with the same ones.

  Raises:
    ValueError, or what a wrong flag raises: for keys that cannot be swept, and values that they cannot have.
  """
  config = configure(file, base)
  choices: dict[str, list[str] | Range] = {key: _choices(key, text, config, base) for key, text in swept.items()}
  combinations: Iterable[tuple[str, ...]]
  if draws is None:
    lists = []
    for key, each in choices.items():
      if isinstance(each, Range):
        raise ValueError(f'--sweep.{key}={swept[key]}: a range has no grid; add --trials=N to draw from it, or list '
                         'the values')
      lists.append(each)
    combinations = itertools.product(*lists)
  else:
    combinations = (tuple(_draw(each, f'{seed}/{i}/{key}') for key, each in choices.items()) for i in range(draws))
  trials: dict[str, Trial] = {}
  for texts in combinations:
    trial = _trial(file, base, dict(zip(choices, texts, strict=True)))
    trials.setdefault(trial.identity, trial)
  return list(trials.values())


def configure(file: str, overrides: Mapping[str, Any]) -> ConfigDict:
  """Returns the config of a file with overrides by key, read as the train command reads its flags."""
  values, arguments = flags.FlagValues(), ['jaxssl train', *_flags(overrides)]
  config = config_flags.DEFINE_config_dict('config', described(file), flag_values=values, sys_argv=arguments)
  values(arguments)
  return config.value


def split(text: str) -> list[str]:
  """Returns the values of a list with commas; those within brackets, or in a value in quotes, separate nothing."""
  values, depth, quote = [''], 0, ''
  for character in text:
    if quote:
      quote = '' if character == quote else quote
    elif character in '\'"' and (depth or not values[-1]):
      quote = character
    elif character in '([{':
      depth += 1
    elif character in ')]}':
      depth -= 1
    elif character == ',' and depth == 0:
      values.append('')
      continue
    values[-1] += character
  return [re.sub(r'''^(['"])(.*)\1$''', r'\2', value, flags=re.DOTALL) for value in values]


def identity(config: ConfigDict) -> str:
  """Returns eight digits that tell configs apart by what is learnt."""
  training = {key: value for key, value in report.flat(config.to_dict()) if not _is_of(key, workdir.NOT_TRAINING)}
  return hashlib.sha256(json.dumps(training, sort_keys=True, default=str).encode()).hexdigest()[:8]


def _choices(key: str, text: str, config: ConfigDict, base: Mapping[str, Any]) -> list[str] | Range:
  if _is_of(key, workdir.NOT_TRAINING) or key in COMPARED:
    raise ValueError(f'--sweep.{key}: trials are compared on the same data and by the same evaluation; a sweep is over '
                     'keys that change what is learnt from them')
  if key in base:
    raise ValueError(f'--sweep.{key} and --config.{key}: a key is either swept or set')
  if (kind := config_path.get_type(key, config)) not in (int, float):
    return split(text)
  name, *bounds = text.split(':')
  if not bounds and name not in ('uniform', 'log'):
    return split(text)
  try:
    low, high = map(kind, bounds)
    in_order = -math.inf < low < high < math.inf
  except ValueError:
    in_order = False
  if name not in ('uniform', 'log') or not in_order or (name == 'log' and low <= 0):
    numbers = 'whole numbers' if kind is int else 'numbers'
    raise ValueError(f'--sweep.{key}={text}: a range is uniform:LOW:HIGH or log:LOW:HIGH, of {numbers}, where LOW is '
                     'less than HIGH, and for log above 0')
  return Range(low, high, logarithmic=name == 'log', whole=kind is int)


def _draw(choices: list[str] | Range, seed: str) -> str:
  rng = random.Random(seed)
  return choices.draw(rng) if isinstance(choices, Range) else rng.choice(choices)


def _trial(file: str, base: Mapping[str, Any], own: Mapping[str, str]) -> Trial:
  overrides = {**base, **own}
  config = configure(file, overrides)
  values = {key: config_path.get_value(key, config) for key in own}
  values, digits = _plain(values), identity(config)
  return Trial(digits, _name(values, digits), values, tuple(_flags(overrides)), config)


def _name(values: Mapping[str, Any], digits: str) -> str:
  """Returns a name for a directory: the end of each key with its value, in plain characters, and the identity."""
  plain = lambda text: re.sub(r'[^\w.+-]+', '_', text, flags=re.ASCII).strip('_')
  parts = (f'{plain(".".join(key.split(".")[-2:]))}={plain(str(value))}' for key, value in sorted(values.items()))
  return f'{",".join(parts)[:LONGEST]}-{digits}'


def _flags(overrides: Mapping[str, Any]) -> list[str]:
  return [f'--config.{key}={value}' for key, value in _plain(overrides).items()]


def _plain(values: Mapping[str, Any]) -> dict[str, Any]:
  """Sections as dicts."""
  return {key: value.to_dict() if isinstance(value, ConfigDict) else value for key, value in values.items()}


def _is_of(key: str, sections: Iterable[str]) -> bool:
  return key.split('.')[0] in sections
