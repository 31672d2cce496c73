"""Online evaluation in a run: training stays as it is, a resumed run logs the same, and what cannot be is refused."""

import contextlib
import math
import os
import sys
import types

import jax
import numpy as np
import pytest

from jaxssl import evaluation
from jaxssl.build import build, load_source
from jaxssl.cli import conclusion, measure, online, runs, workdir
from jaxssl.cli.pretrain import batches
from jaxssl.cli.train import train
from jaxssl.evaluation import knn
from jaxssl.training import logging, mesh
from jaxssl.training.checkpoints import checksum
from jaxssl.training.interrupt import Interrupt

sys.path.insert(0, os.path.dirname(__file__))
import faulty_config
import processes
import test_train_audio
from test_train_hosts import ALL_DEVICES, Processes
from tiny_config import get_config

KNN, LINEAR = 'online_knn_accuracy', 'online_linear_accuracy'


def config(made=None, **overrides):
  made = made or faulty_config.get_config()
  made.mesh.data = -1
  with made.unlocked():
    made.evaluation.online = {'every': 4, 'examples': 600, 'protocols': ('knn',)}
    made.update_from_flattened_dict(overrides)
  return made


def pretrain(made, path, **options):
  """Trains without the evaluation at the end."""
  with pytest.MonkeyPatch.context() as patch:
    patch.setattr(conclusion, 'conclude', lambda *arguments: None)
    train(made, str(path), **options)


def curves(path):
  """Returns what online evaluation has logged, but for the seconds, by step."""
  found = {}
  for row in logging.read(path):
    values = {name: value for name, value in row.items() if name.startswith('online') and name != 'online_seconds'}
    if values:
      found[row['step']] = values
  return found


def state_of(path):
  return runs.restore(str(path)).state


@pytest.fixture(scope='module')
def finished(tmp_path_factory):
  path = tmp_path_factory.mktemp('online')
  with jax.numpy_rank_promotion('raise'):
    pretrain(config(**{'evaluation.online.protocols': ('knn', 'linear')}), path)
  return path


def knn_of(found):
  return {step: {name: value for name, value in values.items() if 'knn' in name} for step, values in found.items()}


def test_curves_stand_in_the_metrics_beside_the_baselines(finished):
  found = curves(finished)
  assert list(found) == [4, 8, 12] and found[8].keys() == found[12].keys() == {KNN, LINEAR}
  assert found[4].keys() == {f'{name}{kind}' for name in (KNN, LINEAR) for kind in ('', '_raw', '_random')}
  assert all(0 <= value <= 1 for values in found.values() for value in values.values())


def test_values_are_those_of_the_saved_state_on_held_out_examples_of_the_training_split(finished):
  run = runs.restore(str(finished))
  source = load_source(run.config.to_dict(), 'train')
  rows, labels, held_out = online.draw(run.config, source)
  assert len(rows) == 600 and np.array_equal(labels, source.labels[rows])
  for kind, suffix in (('trained', ''), ('random', '_random'), ('raw', '_raw')):
    h = np.asarray(measure.encoders(run)[kind](evaluation.to_float(source.inputs[rows])))
    found = knn.accuracy(h[~held_out], labels[~held_out], h[held_out], labels[held_out], k=5, temperature=0.1)
    step = 12 if kind == 'trained' else 4
    # In batches of another size, which round otherwise.
    assert curves(finished)[step][KNN + suffix] == pytest.approx(found, abs=2 / held_out.sum())


def test_training_is_the_same_bit_for_bit_without_it(finished, tmp_path):
  pretrain(config(**{'evaluation.online.every': 0}), tmp_path)
  assert not curves(tmp_path)
  assert checksum(state_of(tmp_path)) == checksum(state_of(finished))
  for ours, theirs in zip(logging.read(tmp_path), logging.read(finished), strict=True):
    assert all(ours[name] == theirs[name] for name in ('step', 'loss', 'gradient_norm'))


@pytest.mark.slow
def test_results_with_batch_norm_are_the_same_bit_for_bit_without_it(tmp_path):
  for every in (0, 3):
    train(config(get_config(), **{'evaluation.online.every': every}), str(tmp_path / str(every)))
  assert [*curves(tmp_path / '3')] == [3, 6, 9, 12]
  assert checksum(state_of(tmp_path / '0')) == checksum(state_of(tmp_path / '3'))
  rows = [processes.rows_of(tmp_path / each) for each in '03']
  assert rows[0] == rows[1]


class Killed(Exception):
  """Instead of a signal that no process outlives."""


class EndAt(Interrupt):
  """Ends a run in its step `step`: at once, or as SIGTERM does."""

  def __init__(self, step, kill):
    super().__init__()
    self._left, self._kill = step, kill

  def hold(self):
    super().hold()
    self._left -= 1
    if self._left == 0:
      if self._kill:
        raise Killed
      self.received = 'SIGTERM'


@pytest.mark.parametrize('step, kill, saved', [
    (7, True, 4), pytest.param(11, False, 11, marks=pytest.mark.slow),
    pytest.param(8, False, 8, marks=pytest.mark.slow)])
def test_a_run_that_goes_on_logs_the_same(finished, tmp_path, step, kill, saved):
  try:
    pretrain(config(), tmp_path, interrupt=EndAt(step, kill))
  except Killed:
    assert kill
  assert int(state_of(tmp_path).step) == saved
  pretrain(config(), tmp_path)
  assert curves(tmp_path) == knn_of(curves(finished))
  assert checksum(state_of(tmp_path)) == checksum(state_of(finished))


@pytest.mark.slow
def test_turned_on_later_it_brings_the_baselines_then(finished, tmp_path):
  pretrain(config(**{'evaluation.online.every': 0}), tmp_path, interrupt=EndAt(5, kill=False))
  pretrain(config(), tmp_path)
  found, expected = curves(tmp_path), knn_of(curves(finished))
  assert found == {8: expected[4] | expected[8], 12: expected[12]}


def test_a_finished_run_is_not_evaluated_anew_for_it(finished):
  assert not workdir.enter(str(finished), config(**{'evaluation.online.every': 1}))
  assert workdir.enter(str(finished), config(**{'evaluation.knn.k': 6}))
  assert not workdir.enter(str(finished), config(**{'evaluation.knn.k': 6}))


def test_its_time_is_no_time_of_training(tmp_path, monkeypatch):
  monkeypatch.setattr(online, 'time', types.SimpleNamespace(perf_counter=iter([0.0, 7000.0]).__next__))
  pretrain(config(**{'steps': 4, 'evaluation.online.every': 3}), tmp_path)
  rows = {row['step']: row for row in logging.read(tmp_path)}
  assert list(rows) == [1, 2, 3, 4] and rows[3]['online_seconds'] == 7000
  assert -7000 < runs.restore(str(tmp_path)).meta['seconds'] < -6000


@pytest.mark.slow
@pytest.mark.parametrize('error', [FloatingPointError('3 of 600 images'), OSError('one.png cannot be decoded')])
def test_what_cannot_be_measured_does_not_stop_the_training(tmp_path, monkeypatch, caplog, error):
  extract = evaluation.extract

  def fails(*arguments, **options):
    monkeypatch.setattr(evaluation, 'extract', extract)
    raise error

  monkeypatch.setattr(evaluation, 'extract', fails)
  pretrain(config(**{'steps': 2, 'evaluation.online.every': 1}), tmp_path)
  assert math.isnan(curves(tmp_path)[1][KNN]) and curves(tmp_path)[1][f'{KNN}_raw'] > 0
  assert curves(tmp_path)[2][KNN] >= 0
  assert f'online evaluation of the trained features: {error}' in caplog.text


def arrays(path, **added):
  rng = np.random.default_rng(0)
  np.savez(path, images=rng.integers(0, 256, (48, 14, 14, 1), np.uint8), **added)
  return {'data.source': 'npz', 'data.path': str(path)}


@pytest.mark.parametrize('added, message', [
    ({}, r'config.evaluation.online.every = 4 needs labels, and .* has none: set it to 0'),
    ({'labels': np.zeros(48, int)}, r'config.evaluation.online, on the training split of .*two classes, got 38 of 1'),
])
def test_data_that_do_not_serve_are_refused_before_anything_is_written(tmp_path, added, message):
  with pytest.raises(ValueError, match=message):
    pretrain(config(**arrays(tmp_path / 'images.npz', **added)), tmp_path / 'run')
  assert not (tmp_path / 'run').exists()


@pytest.mark.slow
def test_split_parameters_are_measured_where_they_are(tmp_path):
  overrides = {**arrays(tmp_path / 'images.npz', labels=np.arange(48) % 3), 'steps': 2, 'evaluation.online.every': 1,
               'method.encoder.features': (512,), 'mesh.model': 2}
  pretrain(config(**overrides), tmp_path / 'split')
  pretrain(config(**overrides | {'mesh.model': 1}), tmp_path / 'whole')
  layouts = [str(leaf.sharding.spec) for leaf in jax.tree.leaves(runs.restore(
      str(tmp_path / 'split'), devices=mesh.make_mesh(model=2)).state)]
  assert any('model' in layout for layout in layouts)
  ours, theirs = curves(tmp_path / 'split'), curves(tmp_path / 'whole')
  assert ours.keys() == theirs.keys() == {1, 2}
  for step in ours:
    assert ours[step] == pytest.approx(theirs[step], abs=0.12)  # Two of 18 examples.


def measured(made, path):
  """Returns what a run would log of its state before training."""
  source = load_source(made.to_dict(), 'pretrain')
  experiment, devices = build(made.to_dict(), len(source)), mesh.make_mesh()
  with contextlib.closing(batches(made, source, devices)) as examples:
    description = runs.describe_batch(next(examples), made.batch_size)
  with jax.set_mesh(devices):
    state = runs.initial_state(experiment, made, devices, runs.batch_like(description))
    run = runs.Run(made, experiment, state, None, {'batch': description})
    return online.Online(run, online.labelled(made), str(path), lambda: state)(4, state)


@pytest.mark.parametrize('labels', ['classes', pytest.param('speakers', marks=pytest.mark.slow)])
def test_audio_is_measured_beside_mfcc(tmp_path, labels):
  made = config(test_train_audio.config(test_train_audio.tones(tmp_path / 'tones.npz')))
  if labels == 'speakers':
    with np.load(tmp_path / 'tones.npz') as opened:
      np.savez(tmp_path / 'tones.npz', **{name: value for name, value in opened.items() if name != 'labels'})
  found = measured(made, tmp_path)
  assert found.keys() == {KNN, f'{KNN}_mfcc', f'{KNN}_random', 'online_seconds'}
  assert found[f'{KNN}_mfcc'] > 0.8 and found[KNN] == found[f'{KNN}_random']


def test_paired_views_are_measured_together(tmp_path):
  labels = np.arange(64) % 2
  rng = np.random.default_rng(0)
  np.savez(tmp_path / 'views.npz', view_0=rng.normal(size=(64, 6)) + 4 * labels[:, None], labels=labels,
           view_1=rng.normal(size=(64, 5)) + 4 * labels[:, None])
  made = get_config()
  with made.unlocked():
    made.data = {'source': 'npz', 'name': '', 'path': str(tmp_path / 'views.npz'), 'engine': 'device',
                 'recipe': {'name': 'paired', 'aligned': False}}
    made.method = {
        'name': 'cmc', 'views': 2, 'shared': False, 'graph': 'full', 'contrast': 'batch', 'temperature': 0.2,
        'encoder': {'name': 'mlp', 'features': (6,)}, 'head': {'name': 'mlp', 'features': (4,)},
        'optimizer': {'name': 'sgd', 'learning_rate': {'name': 'constant', 'base': 0.05}}}
  assert measured(config(made), tmp_path)[f'{KNN}_raw'] > 0.9


@pytest.mark.slow
def test_audio_in_training(tmp_path):
  made = test_train_audio.config(test_train_audio.tones(tmp_path / 'tones.npz'))
  pretrain(config(made, **{'steps': 2, 'evaluation.online.every': 1}), tmp_path / 'run')
  assert [*curves(tmp_path / 'run')] == [1, 2] and curves(tmp_path / 'run')[2].keys() == {KNN}


@pytest.mark.slow
def test_several_processes_measure_as_one(tmp_path):
  own = ('--config.evaluation.online.every=4', '--config.evaluation.online.examples=600', ALL_DEVICES)
  both = {'evaluation.online.protocols': ('knn', 'linear')}
  with Processes(tmp_path, 2, '--workdir', tmp_path / 'two', *own) as started:
    statuses, out = started.end(500)
  assert statuses == [0, 0], out
  pretrain(config(get_config(), **both), tmp_path / 'one')
  ours, theirs = curves(tmp_path / 'two'), curves(tmp_path / 'one')
  assert ours.keys() == theirs.keys() == {4, 8, 12}
  for step in ours:
    assert ours[step] == pytest.approx(theirs[step], abs=0.03)  # Rounding moves a few of 300 examples.
  assert 'k-NN' in out[0] and 'Online evaluation every 4 steps' in out[0] and 'Online' not in out[1]


@pytest.mark.slow
def test_a_killed_process_that_is_started_again_logs_the_same(tmp_path):
  own = ('--config.evaluation.online.every=2', '--config.evaluation.online.examples=600',
         '--config.evaluation.pictures=True')
  processes.finish(processes.command('--workdir', tmp_path / 'whole', *own))
  process = processes.command('--workdir', tmp_path / 'killed', *own)
  processes.wait_for(lambda: 4 in processes.saved(tmp_path / 'killed'), process)
  process.kill()
  process.communicate()
  out = processes.finish(processes.command('--workdir', tmp_path / 'killed', *own))
  assert processes.digest(out) == checksum(state_of(tmp_path / 'whole'))
  assert list(curves(tmp_path / 'whole')) == [2, 4, 6, 8, 10, 12]
  assert curves(tmp_path / 'killed') == curves(tmp_path / 'whole')
  assert (tmp_path / 'killed' / 'pictures' / 'online.png').exists()
  assert 'Online evaluation, on held-out' in (tmp_path / 'killed' / 'report.html').read_text()
