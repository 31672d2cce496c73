"""The table of a sweep: a line a trial, best first; how its figures were chosen, and what that is worth."""

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from jaxssl.evaluation import report, table

DEFAULT = {'protocol': 'knn', 'features': 'trained', 'metric': 'accuracy'}
# Bundled sets, and those that choose hyper-parameters for them.
VALIDATION = {'omniglot': 'omniglot_validation'}


class Sweep:
  """The trials of a sweep as sweep.json holds them, and the figure that they are compared by.

  Args:
    config: the base config, nested.
    rows: a dict a trial: `trial`, `directory`, `values` by swept key, `status`, `error`, `seconds`, `results` (the rows
      of its results.json).
    metric: what a row of the results must hold to be the figure.
    minimize: whether less of it is better.
  """

  def __init__(self, config: Mapping[str, Any], rows: Sequence[dict[str, Any]], metric: Mapping[str, str] = DEFAULT,
               minimize: bool = False):
    self.metric, self.minimize = metric, minimize
    self.keys = list(dict.fromkeys(key for row in rows for key in row['values']))
    base = dict(report.flat(config))
    self._base = {key: base.get(key, '(base)') for key in self.keys}
    self._groups: dict[str, list[float]] = {}  # Finished trials that differ in their seeds alone.
    for row in rows:
      values = self._groups.setdefault(self._group(row), [])
      if row['results']:
        values.append(figures(row['results'], metric)[metric['features']])
    self.rows = sorted(rows, key=self._order)

  def settings(self, row: Mapping[str, Any]) -> dict[str, Any]:
    """Returns a trial's values of all keys that are swept; the base config's where it has no own."""
    return {**self._base, **row['values']}

  def score(self, row: Mapping[str, Any]) -> float | None:
    """Returns what a trial is ranked by: the mean over those that differ from it in the seed alone; None without."""
    values = self._groups[self._group(row)]
    return sum(values) / len(values) if row['results'] else None

  @property
  def best(self) -> dict[str, Any] | None:
    """The first of the trials that rank first; None where none is finished."""
    return self.rows[0] if self.rows and self.rows[0]['results'] else None

  def _group(self, row: Mapping[str, Any]) -> str:
    return json.dumps({key: value for key, value in self.settings(row).items() if key != 'seed'}, sort_keys=True)

  def _order(self, row: Mapping[str, Any]) -> float:
    score = self.score(row)
    return math.inf if score is None or math.isnan(score) else score if self.minimize else -score

  def grid(self) -> list[list[str]]:
    """Returns the table as cells: head, then a line a trial with its figure beside that of the baselines."""
    found = {row['trial']: figures(row['results'], self.metric) for row in self.rows if row['results']}
    columns = [name for name in table.NAMES if any(name in each for each in found.values())]
    columns += [self.metric['features']] if self.metric['features'] not in columns and found else []
    seeds = ['mean over seeds'] if 'seed' in self.keys else []
    lines = [['trial', *self.keys, *(table.NAMES.get(name, name) for name in columns), *seeds, 'seconds', 'status']]
    for row in self.rows:
      each = found.get(row['trial'], {})
      numbers = [table.number(each[name], self.row(row)) if name in each else '-' for name in columns]
      seconds = '-' if row['seconds'] is None else f'{row["seconds"]:,.0f}'
      lines.append([row['trial'], *map(str, self.settings(row).values()), *numbers,
                    *([self._mean(row)] if seeds else []), seconds, row['status']])
    return lines

  def row(self, row: Mapping[str, Any]) -> table.Row:
    """Returns the row of a finished trial's results that its figure is of."""
    return chosen(row['results'], self.metric)

  def _mean(self, row: Mapping[str, Any]) -> str:
    """The mean over seeds, and of how many: those that failed are left out of it."""
    group = [each for each in self.rows if self._group(each) == self._group(row)]
    finished = sum(bool(each['results']) for each in group)
    count = f'{finished} of {len(group)}' if finished < len(group) else f'{finished}'
    score = self.score(row)
    return '-' if score is None else f'{table.number(score, self.row(row))} ({count})'

  def notes(self) -> Iterator[str]:
    """Yields what the figures are, and what the choice of the best is worth."""
    if self.best is not None:
      first = self.row(self.best)
      about = ', '.join(f'{name} {first[name]}' for name in ('label', 'representation') if first[name] != table.NONE)
      tested = f'{first["num_test"]:,} test examples of ' if 'num_test' in first else ''
      yield f'{table.describe(first)}, {first["metric"]}; {about}; {tested}{first["data"]}.'
      if (count := sum(bool(row['results']) for row in self.rows)) > 1:
        yield _caution(first['data'], count)
    for row in self.rows:
      if row['error']:
        yield f'{row["status"]}: {row["directory"]}: {row["error"]}'


def chosen(results: Sequence[table.Row], metric: Mapping[str, str]) -> table.Row:
  """Returns the first row that holds what `metric` says; raises ValueError where there is none."""
  for row in results:
    if all(str(row.get(key)) == value for key, value in metric.items()):
      return row
  keys = ('protocol', 'label', 'representation', 'features', 'metric')
  there = dict.fromkeys(','.join(f'{key}={row[key]}' for key in keys) for row in results)
  wanted = ','.join(f'{key}={value}' for key, value in metric.items())
  raise ValueError(f'--metric={wanted}: the results have no such figure; they have:\n  ' + '\n  '.join(there))


def figures(results: Sequence[table.Row], metric: Mapping[str, str]) -> dict[str, float]:
  """Returns the figure that `metric` names by its features, those of baselines beside it; of several, the mean."""
  first = chosen(results, metric)
  found: dict[str, list[float]] = {}
  for row in results:
    own = row['features'] in table.BASELINES or row['representation'] == first['representation']
    if own and row['label'] == first['label'] and table.describe(row) == table.describe(first):
      found.setdefault(row['features'], []).append(row['value'])
  return {name: sum(values) / len(values) for name, values in found.items()}


def parse(fields: Sequence[str]) -> dict[str, str]:
  """Returns what --metric=FIELD=VALUE,… says, the rest by default; raises ValueError for what is no such pair."""
  pairs = [field.partition('=') for field in fields]
  if any(not (key and equals and value) for key, equals, value in pairs):
    raise ValueError(f'--metric={",".join(fields)}: it must be FIELD=VALUE,…, of the fields of results.json, such as '
                     'protocol=linear')
  return {**DEFAULT, **{key: value for key, _, value in pairs}}


def _caution(data: str, count: int) -> str:
  if data in VALIDATION.values():
    test = next(name for name, validation in VALIDATION.items() if validation == data)
    return (f'Chosen among {count} on a validation split, so the best figure is too good for a report: train its keys '
            f'once with --config.data.name={test}, and report that.')
  choose = f'--config.data.name={VALIDATION[data]}' if data in VALIDATION else 'data without the test set'
  return (f'CAUTION: the best of {count} on these test examples was chosen by them, and is too good for a report. '
          f'Choose on a validation split ({choose}), then train the chosen keys once and report that.')
