"""sweep.json, what a sweep knows of its trials."""

import os
from collections.abc import Mapping, Sequence
from typing import Any

from ml_collections import ConfigDict

from jaxssl.cli import workdir
from jaxssl.cli.trials import Trial

RECORD = 'sweep.json'


class Record:
  """sweep.json: the base config, and a row a trial; the trials' work directories are the trials' own."""

  def __init__(self, path: str, config: ConfigDict):
    """Reads what is there; raises ValueError where that is a run, or a sweep of another base config."""
    self.path, self.file, self.config = path, os.path.join(path, RECORD), config
    if os.path.exists(os.path.join(path, 'config.json')):
      raise ValueError(f'--workdir {path} holds a run; choose another for the sweep')
    stored = workdir.salvage(self.file, dict) or {'config': config.to_dict(), 'rows': []}
    workdir.refuse_other(path, stored['config'], config)
    self.rows = {row['trial']: {**row, 'values': workdir.tuples(row['values'])} for row in stored['rows']}
    if workdir.tuples(stored['config'])['evaluation'] != config.evaluation.to_dict():
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
