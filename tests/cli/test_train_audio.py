"""The commands on audio: from an .npz of clips to table, pictures, features and resume."""

import os
import sys

import jax
import numpy as np
import pytest

from jaxssl.build import load_source
from jaxssl.cli import conclusion, pictures, runs
from jaxssl.cli.eval import evaluate
from jaxssl.cli.train import train

sys.path.insert(0, os.path.dirname(__file__))
from processes import rows_of
from tiny_config import get_config


def tones(path, n=48, labels=True):
  """Clips of tones, a class a pitch, a speaker a timbre, of many lengths."""
  rng = np.random.default_rng(0)
  waves = []
  for i in range(n):
    t = np.arange(rng.integers(300, 900)) / 8000
    pitch = 300 * (1 + i % 3)
    overtone = (i // 3 % 2) * np.sin(6.28 * 2 * pitch * t)
    waves.append(np.sin(6.28 * pitch * t) + overtone + 0.05 * rng.normal(size=len(t)))
  arrays = {'audio': np.concatenate(waves).astype(np.float32) / 3, 'rate': np.array(8000),
            'offsets': np.concatenate([[0], np.cumsum([len(wave) for wave in waves])])}
  if labels:
    arrays |= {'labels': np.arange(n) % 3, 'speakers': np.where(np.arange(n) // 3 % 2, 'ann', 'bob')}
  np.savez(path, **arrays)
  return str(path)


def config(path, **overrides):
  made = get_config()
  made.mesh.data = 8
  with made.unlocked():
    made.data = {'source': 'npz', 'name': '', 'path': path, 'engine': 'device',
                 'recipe': {'name': 'audio', 'rate': 8000, 'window': 480, 'gain': (-3.0, 3.0), 'input_seconds': 0.1}}
    made.method = {
        'name': 'cpc', 'negatives': 'batch', 'num_negatives': 16, 'objective': 'ml_cpc',
        'alpha': {'name': 'geometric_alpha', 'high': 2.0, 'low': 0.5},
        'encoder': {'name': 'audio', 'features': 8, 'kernels': (10, 8), 'strides': (5, 4), 'norm': 'channel'},
        'context': {'name': 'rnn', 'kind': 'gru', 'features': 6},
        'predictor': {'name': 'linear_predictor', 'steps': 3, 'features': 8},
        'optimizer': {'name': 'adamw', 'learning_rate': {'name': 'constant', 'base': 1e-3}}}
    made.evaluation.protocols = ('knn', 'linear', 'linear_steps')
    made.update_from_flattened_dict(overrides)
  return made


@pytest.fixture(scope='module')
def finished(tmp_path_factory):
  path = tmp_path_factory.mktemp('audio')
  made = config(tones(path / 'tones.npz'), **{'evaluation.pictures': True})
  train(made, str(path / 'run'))
  return path, made


def test_table_has_every_task_beside_mfcc_and_the_random_encoder(finished, capsys):
  path, _ = finished
  rows = rows_of(path / 'run')
  assert {row['label'] for row in rows} == {'class', 'speaker', 'class of an unheard speaker'}
  assert {(row['features'], row['representation']) for row in rows} == {
      ('mfcc', 'inputs'), *((kind, name) for kind in ('random', 'trained') for name in 'zc')}
  assert {row['protocol'] for row in rows} == {'knn', 'linear', 'linear_steps'}
  conclusion.show(str(path / 'run'))
  shown = capsys.readouterr().out
  assert 'MFCC  random encoder  trained encoder' in shown and 'class: linear probe (L-BFGS), c' in shown
  assert 'each of the 2 speakers in turn is held out' in shown


def test_pictures_and_report(finished):
  path, _ = finished
  drawn = {each.name for each in (path / 'run' / 'pictures').iterdir()}
  assert drawn == {'loss.png', 'metrics.png', 'sequences.png', 'distance.png', 'embedding_class.png',
                   'embedding_speaker.png'}
  assert 'principal components of the steps' in (path / 'run' / 'report.html').read_text()


def test_resume_is_exact(finished, tmp_path):
  path, made = finished
  short = config(made.data.path, **{'evaluation.protocols': ('knn',)})

  class Stop(Exception):
    pass

  def stop_after(step):
    save = runs.Checkpoints.save

    def stopping(self, at, *arguments, **options):
      save(self, at, *arguments, **options)
      if at >= step:
        self.wait()
        raise Stop

    return stopping

  with pytest.MonkeyPatch.context() as patch:
    patch.setattr(runs.Checkpoints, 'save', stop_after(4))
    with pytest.raises(Stop):
      train(short, str(tmp_path))
  train(short, str(tmp_path))
  whole, resumed = (jax.tree.leaves(runs.restore(str(run)).state) for run in (path / 'run', tmp_path))
  for one, other in zip(whole, resumed, strict=True):
    np.testing.assert_array_equal(np.asarray(one), np.asarray(other))


def test_eval_writes_features_of_z_and_c(finished, tmp_path):
  path, made = finished
  short = config(made.data.path, **{'evaluation.protocols': ('knn',)})
  evaluate(short, str(path / 'run'), embed=str(tmp_path / 'features.npz'))
  features = np.load(tmp_path / 'features.npz')
  assert features['train_z_features'].shape[1] == 16 and features['test_c_features'].shape[1] == 12
  assert len(features['test_labels']) == len(features['test_groups']) == len(features['test_z_features'])
  assert list(features['group_names']) == ['ann', 'bob']


def test_clips_without_labels_end_with_the_geometry(tmp_path, capsys):
  made = config(tones(tmp_path / 'tones.npz', labels=False), steps=2)
  train(made, str(tmp_path / 'run'))
  assert 'effective_rank' in capsys.readouterr().out


def test_preview(finished, tmp_path):
  _, made = finished
  assert os.path.exists(pictures.preview(made, load_source(made.to_dict(), 'pretrain'), str(tmp_path)))


@pytest.mark.parametrize('key, value, message', [
    ('evaluation.protocols', ('finetune',), "must be among knn, linear, linear_steps; got 'finetune'"),
    ('evaluation.representation', 'h', "must be among z, c, or several .*; got 'h'"),
    ('method.predictor.steps', 30, 'config.method does not suit the data: predictions foresee K = 30 steps'),
    ('method.predictor.features', 7, 'config.method does not suit the data: z must have shape'),
    ('method.negatives', 'others_', "config.method: negatives must be one of 'batch', .*, got 'others_'"),
    ('data.recipe.input_seconds', 0.005, r'config.data.recipe: evaluation sees 40 samples .* set input_seconds'),
    ('data.recipe.window', 10, 'config.method does not suit the data'),
])
def test_errors_come_before_the_run(finished, tmp_path, key, value, message):
  path, made = finished
  with pytest.raises(ValueError, match=message):
    train(config(made.data.path, **{key: value}), str(tmp_path / 'run'))
  assert not (tmp_path / 'run').exists()
