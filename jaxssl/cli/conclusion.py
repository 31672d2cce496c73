"""The end of a run: results.json, pictures, the report, and the table as the last lines."""

import contextlib
import datetime
import json
import logging
import os
import shutil
import time
from typing import Any

import numpy as np
from ml_collections import ConfigDict

from jaxssl.build import Source, load_source
from jaxssl.cli import measure, measure_audio, pictures, runs
from jaxssl.evaluation import extract, table
from jaxssl.training import files, hosts
from jaxssl.training.checkpoints import checksum

log = logging.getLogger(__name__)
REPORT = 'report.html'


def conclude(run: runs.Run, path: str, pretrain: Source | None) -> None:
  """Evaluates a run by its config and writes WORKDIR/results.json, the pictures and the report; prints the table.

  `pretrain` is what the run pretrained on, where it is at hand: test examples that stand there too are counted. Of
  several processes all compute features, each those of a part of every batch, and the first does the rest.
  """
  began = time.monotonic()
  train, test = hosts.in_turn(lambda: [load_source(run.config.to_dict(), split) for split in ('train', 'test')])
  measure.check_views(run.meta['batch']['inputs'], test)
  print(f'Evaluating step {int(run.state.step)} on {test.name}: {len(test):,} test {run.examples}.', flush=True)
  run = run.whole()
  rows = measure.measure(run, train, test, pretrain, path)
  own = run.own()
  hosts.first(lambda: _write(own, path, train, test, rows, began))


def _write(
    run: runs.Run, path: str, train: Source, test: Source, rows: list[dict[str, Any]], began: float) -> None:
  """Writes the files of an evaluation, which `began` then by the clock, and prints its table."""
  step, seconds = int(run.state.step), run.meta['seconds']
  speed = step * run.config.batch_size / seconds if seconds else None
  _write_results(path, run.config, rows, seconds, speed)
  if not run.config.evaluation.pictures:
    shutil.rmtree(os.path.join(path, 'pictures'), ignore_errors=True)  # Of the evaluation before.
  else:
    try:
      drawn = pictures.draw(run, train, test, path)
      results = {'rows': rows, 'seconds': seconds, 'images_per_second': speed}
      pictures.write_report(run, results, drawn, path)
    except OSError as error:  # The results are written.
      log.warning('%s or the report cannot be written: %s', os.path.join(path, 'pictures'), error.strerror or error)
  print(f'Evaluated in {time.monotonic() - began:.0f} s.\nState after step {step}: SHA-256 {checksum(run.state)}')
  show(path)


def _about(config: ConfigDict) -> dict[str, Any]:
  """Returns what the results of an evaluation depend on beside the run, as JSON."""
  sections = {name: config[name].to_dict() for name in ('data', 'evaluation')}
  sections['evaluation'].pop('online', None)  # Which is done during training.
  return json.loads(json.dumps(sections))


def _write_results(
    path: str, config: ConfigDict, rows: list[dict[str, Any]], seconds: float, speed: float | None) -> None:
  """Writes results.json, and a line a row to a file that the next evaluation does not replace."""
  results, when = os.path.join(path, 'results.json'), datetime.datetime.now(datetime.UTC).isoformat(timespec='seconds')
  try:
    with files.writing(results):
      with contextlib.suppress(FileNotFoundError):
        os.remove(os.path.join(path, REPORT))  # It is of other results from now on.
      table.write(results, rows, seconds, speed, _about(config))
    files.append(os.path.join(path, 'evaluations.jsonl'),
                 ''.join(json.dumps({'time': when, **row}) + '\n' for row in rows))
  except OSError:
    print(table.format(rows, seconds=seconds, images_per_second=speed), flush=True)  # Not to be lost.
    raise


def is_done(path: str, name: str, config: ConfigDict) -> bool:
  """Returns whether the results in a work directory are whole and about its run at its end, on the data set `name`."""
  file = os.path.join(path, 'results.json')
  if not os.path.exists(file) or (config.evaluation.pictures and not os.path.exists(os.path.join(path, REPORT))):
    return False
  try:
    results = table.read(file)
    rows = results['rows']
    if not rows or results.get('config', _about(config)) != _about(config):
      return False
    return all((row.get('data'), row.get('step')) == (name, config.steps) for row in rows)
  except ValueError as error:
    log.warning('%s: set aside as %s, and evaluated anew', error, files.set_aside(file))
    return False


def show(path: str) -> None:
  """Prints the table of a work directory and where its files are."""
  results = table.read(os.path.join(path, 'results.json'))
  print(table.format(results['rows'], seconds=results['seconds'], images_per_second=results['images_per_second']))
  found = {'Checkpoints': 'checkpoints', 'Metrics': 'metrics.csv', 'Pictures': 'pictures', 'Report': REPORT}
  for name, file in found.items():
    if os.path.exists(os.path.join(path, file)):
      print(f'{name}: {os.path.join(path, file)}')


def write_features(run: runs.Run, file: str) -> None:
  """Writes the trained encoder's features, the labels and the file names of both splits as an .npz."""
  if not file.endswith('.npz'):
    raise ValueError(f'--embed={file} must end in .npz')
  arrays: dict[str, Any] = {}
  run = run.whole()
  for split in ('train', 'test'):
    source = load_source(run.config.to_dict(), split)
    arrays |= {f'{split}_{name}': features for name, features in _features(run, source).items()}
    for name, values, names in (
        ('class', source.labels, source.class_names), ('group', source.groups, source.group_names)):
      if values is not None:
        arrays[f'{split}_{"label" if name == "class" else name}s'] = values
        arrays[f'{name}_names'] = np.array(names)
    if source.files is not None:
      arrays[f'{split}_files'] = np.array(source.files)
  hosts.first(lambda: _save(file, arrays))


def _save(file: str, arrays: dict[str, Any]) -> None:
  os.makedirs(os.path.dirname(os.path.abspath(file)), exist_ok=True)
  np.savez(file, **arrays)
  print(f'Features: {file}')


def _features(run: runs.Run, source: Source) -> dict[str, np.ndarray]:
  """Returns the trained encoder's features of a source: of audio, those of every representation by its name."""
  if run.hears:
    found = measure_audio.features(run, source)
    return {f'{name}_features': each.whole for (kind, name), each in found.items() if kind == 'trained'}
  encode = measure.encoders(run)['trained']
  return {'features': extract(encode, source.inputs, batch_size=run.config.evaluation.batch_size)}

