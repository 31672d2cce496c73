"""sweep.json, what a sweep knows of its trials."""

import os
import re
from collections.abc import Mapping, Sequence
from typing import Any

from ml_collections import ConfigDict

from jaxssl import schema
from jaxssl.cli import workdir
from jaxssl.cli.trials import Trial
from jaxssl.evaluation import table

RECORD = 'sweep.json'
ROW = {'trial': str, 'directory': str, 'values': dict, 'status': str, 'error': str, 'seconds': float | None,
       'results': list}


class Record:
  """sweep.json: the base config, and a row a trial; the trials' work directories are the trials' own."""

  def __init__(self, path: str, config: ConfigDict):
    """Reads what is there; raises ValueError where that is a run, or a sweep of another base config."""
    self.path, self.file, self.config = path, os.path.join(path, RECORD), config
    if os.path.exists(os.path.join(path, 'config.json')):
      raise ValueError(f'--workdir {path} holds a run; choose another for the sweep')
    stored = _read(self.file) or {'config': config.to_dict(), 'rows': []}
    workdir.refuse_other(path, stored['config'], config)
    self.rows: dict[str, dict[str, Any]] = {row['trial']: row for row in stored['rows']}
    if stored['config']['evaluation'] != config.evaluation.to_dict():
      for row in self.rows.values():
        if row['results']:
          row |= {'status': 'evaluated otherwise', 'results': []}

  def directory(self, trial: Trial) -> str:
    """Returns the name of a trial's work directory."""
    return self.rows[trial.identity]['directory'] if trial.identity in self.rows else trial.name

  def is_finished(self, trial: Trial) -> bool:
    """Returns whether the results of a trial are here, and its work directory still is."""
    row = self.rows.get(trial.identity)
    return row is not None and bool(row['results']) and os.path.isdir(os.path.join(self.path, row['directory']))

  def expect(self, planned: Sequence[Trial]) -> None:
    """Writes down which trials are to come."""
    for trial in planned:
      if not self.is_finished(trial):
        self._set(trial, 'waiting')
    self._save()

  def write(
      self, trial: Trial, status: str, error: str = '', results: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Writes down what became of a trial; returns its row."""
    self._set(trial, status, error, results)
    self._save()
    return self.rows[trial.identity]

  def _set(self, trial: Trial, status: str, error: str = '', results: Mapping[str, Any] | None = None) -> None:
    self.rows[trial.identity] = {
        'trial': trial.identity, 'directory': self.directory(trial), 'values': trial.values, 'status': status,
        'error': error, 'seconds': results['seconds'] if results else None,
        'results': results['rows'] if results else []}

  def _save(self) -> None:
    workdir.write_json(self.file, {'config': self.config.to_dict(), 'rows': list(self.rows.values())})


def _read(file: str) -> dict[str, Any] | None:
  """Returns what is in sweep.json, with tuples for lists; raises ValueError where that is no sweep."""
  if (stored := workdir.salvage(file, dict)) is None:
    return None
  try:
    config = workdir.tuples(stored['config'])
    schema.check(config)
    for row in stored['rows']:
      for key, kind in ROW.items():
        schema.check_type(f'row.{key}', row[key], kind)
      if not re.fullmatch(r'[\w.+=,-]+', row['directory']) or row['directory'] in ('.', '..'):
        raise ValueError(f'row.directory is {row["directory"]!r}')  # It may lead elsewhere.
      table.format(row['results'])
      row['values'] = workdir.tuples(row['values'])
  except Exception as error:  # Each function that formats has an error of its own for what is no row.
    raise ValueError(f'{file} does not hold a sweep: {type(error).__name__}: {error}') from error
  return {'config': config, 'rows': stored['rows']}
