"""The end of a run: results.json, pictures, the report, and the table as the last lines."""

import datetime
import json
import logging
import os
from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict

from jaxssl.build import Source, load_source
from jaxssl.cli import measure, measure_audio, pictures, runs, workdir
from jaxssl.evaluation import extract, table
from jaxssl.training import files
from jaxssl.training.checkpoints import checksum

log = logging.getLogger(__name__)
REPORT = 'report.html'


def conclude(run: runs.Run, path: str, pretrain: Source | None) -> None:
  """Evaluates a run by its config and writes WORKDIR/results.json, the pictures and the report; prints the table.

  `pretrain` is what the run pretrained on, where it is at hand: test examples that stand there too are counted.
  """
  train, test = (load_source(run.config.to_dict(), split) for split in ('train', 'test'))
  measure.check_views(run.meta['batch']['inputs'], test)
  if jax.process_index() == 0:
    print(f'Evaluating step {int(run.state.step)} on {test.name}: {len(test):,} test {run.examples}.', flush=True)
  rows = measure.measure(run, train, test, pretrain, path)
  if jax.process_index() > 0:
    return
  step, seconds = int(run.state.step), run.meta['seconds']
  speed = step * run.config.batch_size / seconds if seconds else None
  _write(path, rows, seconds, speed)
  if run.config.evaluation.pictures:
    try:
      drawn = pictures.draw(run, train, test, path)
      results = {'rows': rows, 'seconds': seconds, 'images_per_second': speed}
      pictures.write_report(run, results, drawn, path)
    except OSError as error:  # The results are written.
      log.warning('%s or the report cannot be written: %s', os.path.join(path, 'pictures'), error.strerror or error)
  if jax.process_count() == 1:
    print(f'State after step {step}: SHA-256 {checksum(run.state)}')
  show(path)


def _write(path: str, rows: list[dict[str, Any]], seconds: float, speed: float | None) -> None:
  """Writes results.json, and a line a row to a file that the next evaluation does not replace."""
  results, when = os.path.join(path, 'results.json'), datetime.datetime.now(datetime.UTC).isoformat(timespec='seconds')
  try:
    with files.writing(results):
      table.write(results, rows, seconds, speed)
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
    results = workdir.read_json(file, dict)
    rows, _, _ = (results[key] for key in ('rows', 'seconds', 'images_per_second'))
    return bool(rows) and all((row['data'], row['step']) == (name, config.steps) for row in rows)
  except (ValueError, TypeError, KeyError) as error:
    if jax.process_index() == 0:
      log.warning('%s is damaged (%s): set aside as %s, and evaluated anew', file, error, files.set_aside(file))
    return False


def show(path: str) -> None:
  """Prints the table of a work directory and where its files are."""
  results = workdir.read_json(os.path.join(path, 'results.json'))
  print(table.format(results['rows'], seconds=results['seconds'], images_per_second=results['images_per_second']))
  found = {'Checkpoints': 'checkpoints', 'Metrics': 'metrics.csv', 'Pictures': 'pictures', 'Report': REPORT}
  for name, file in found.items():
    if os.path.exists(os.path.join(path, file)):
      print(f'{name}: {os.path.join(path, file)}')


def write_features(run: runs.Run, file: str) -> None:
  """Writes the trained encoder's features, the labels and the file names of both splits as an .npz."""
  if not file.endswith('.npz'):
    raise ValueError(f'--embed={file} must end in .npz')
  os.makedirs(os.path.dirname(os.path.abspath(file)), exist_ok=True)
  arrays: dict[str, Any] = {}
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
  np.savez(file, **arrays)
  print(f'Features: {file}')


def _features(run: runs.Run, source: Source) -> dict[str, np.ndarray]:
  """Returns the trained encoder's features of a source: of audio, those of every representation by its name."""
  if run.hears:
    found = measure_audio.features(run, source)
    return {f'{name}_features': each.whole for (kind, name), each in found.items() if kind == 'trained'}
  encode = measure.encoders(run)['trained']
  return {'features': extract(encode, source.inputs, batch_size=run.config.evaluation.batch_size)}

