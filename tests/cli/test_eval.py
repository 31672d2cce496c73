"""The eval command: every protocol, other data, features to a file, and its mistakes."""

import json
import os
import sys

import jax
import numpy as np
import pytest
from PIL import Image

from jaxssl import build
from jaxssl.cli import evaluation_options, runs, workdir
from jaxssl.cli.eval import evaluate
from jaxssl.cli.train import train

sys.path.insert(0, os.path.dirname(__file__))
from processes import rows_of
from tiny_config import get_config


@pytest.fixture(scope='module')
def run(tmp_path_factory):
  path = tmp_path_factory.mktemp('run')
  config = get_config()
  config.mesh.data, config.steps = 8, 2
  with jax.numpy_rank_promotion('raise'):
    train(config, str(path))
  return path


def stored(run, **overrides):
  config = workdir.read_config(str(run))
  config.update_from_flattened_dict(overrides)
  return config


def folder(path, sizes, labelled=True):
  rng = np.random.default_rng(0)
  for i, (height, width) in enumerate(sizes):
    directory = path / (f'class{i % 2}' if labelled else 'all')
    directory.mkdir(parents=True, exist_ok=True)
    Image.fromarray(rng.integers(0, 256, (height, width, 3), np.uint8)).save(directory / f'{i}.png')
  return path


def test_every_protocol_stands_beside_its_baselines_by_the_recipes_of_the_config(run, capsys):
  config = stored(run)
  evaluation_options.complete(config.evaluation)  # As the command does, before it reads the flags.
  config.update_from_flattened_dict({
      'evaluation.protocols': ('knn', 'linear', 'sgd', 'finetune'), 'evaluation.fractions': (0.1,),
      'data.name': 'omniglot_unseen', 'evaluation.representation': 'head1',
      'evaluation.sgd.optimizer': 'lars', 'evaluation.sgd.batch_norm': True, 'evaluation.sgd.warmup_epochs': 0.5,
      'evaluation.finetune.optimizer': 'adamw', 'evaluation.finetune.layer_decay': 0.65,
      'evaluation.finetune.weight_decay': 0.05, 'evaluation.finetune.mixup': 0.8, 'evaluation.finetune.cutmix': 1.0,
      'evaluation.finetune.label_smoothing': 0.1, 'evaluation.finetune.warmup_epochs': 0.2})
  evaluate(config, str(run))
  rows = rows_of(run)
  found = {(row['protocol'], row['features'], row.get('fraction')) for row in rows}
  assert found == {
      *(('knn', features, None) for features in ('raw', 'random', 'trained')),
      *(('linear', features, fraction) for features in ('raw', 'random', 'trained') for fraction in (1.0, 0.1)),
      *(('sgd', features, 0.1) for features in ('raw', 'random', 'trained')),
      *(('finetune', features, 0.1) for features in ('random', 'trained'))}
  assert {row['representation'] for row in rows if row['features'] == 'trained'} == {'head1'}
  assert {row['data'] for row in rows} == {'omniglot_unseen'} and {row['step'] for row in rows} == {2}
  recipes = {(row['protocol'], row['optimizer'], row.get('batch_norm'), row.get('mixup'))
             for row in rows if 'optimizer' in row}
  assert recipes == {('sgd', 'lars', True, None), ('finetune', 'adamw', None, 0.8)}
  out = capsys.readouterr().out
  assert 'linear probe (LARS with augmentation, batch norm, 1 epochs), 10 % of labels' in out
  assert 'fine-tuning (AdamW, mixup, cutmix, 1 epochs), 10 % of labels' in out
  for begun in ('SGD probe of raw inputs', 'Fine-tuning of random head1', 'Fine-tuning of trained head1'):
    assert f'{begun} on 0.1 of the labels, 1 epochs …' in out


def test_pictures_of_other_sizes_and_channels_and_features_to_a_file(run, tmp_path, capsys):
  path = folder(tmp_path / 'pictures', [(20, 30), (16, 16), (40, 25)] * 4)
  evaluate(stored(run, **{
      'data.source': 'folder', 'data.path': str(path), 'evaluation.knn.k': 2, 'evaluation.pictures': True}),
      str(run), embed=str(tmp_path / 'features.npz'))
  assert 'trained encoder' in capsys.readouterr().out
  with np.load(tmp_path / 'features.npz', allow_pickle=False) as features:
    count = len(features['train_features']) + len(features['test_features'])
    assert count == 12 and features['train_features'].shape[1] == 8
    assert len(features['train_files']) == len(features['train_labels']) == len(features['train_features'])
  assert {file.name for file in (run / 'pictures').iterdir()} == {
      'loss.png', 'metrics.png', 'embedding.png', 'neighbours.png'}
  report = (run / 'report.html').read_text()
  assert 'data:image/png;base64' in report and 'http' not in report.replace('https://www.w3.org', '')


def test_unlabelled_pictures_get_the_geometry_of_their_features(run, tmp_path):
  path = folder(tmp_path / 'pictures', [(16, 16)] * 30, labelled=False)
  evaluate(stored(run, **{'data.source': 'folder', 'data.path': str(path)}), str(run))
  assert {(row['protocol'], row['metric'], row['features']) for row in rows_of(run)} == {
      ('geometry', metric, features) for metric in ('effective_rank', 'uniformity')
      for features in ('raw', 'random', 'trained')}


@pytest.mark.parametrize('overrides,message', [
    ({'evaluation.protocols': ('knm',)}, r"among knn, linear, sgd, finetune, reconstruction, samples; got 'knm'"),
    ({'evaluation.representation': 'y'}, r"representation must be among h, head1, z, or several .*; got 'y'"),
    ({'data.name': 'omnigolt'}, r"'omnigolt'.*'omniglot'"),
    ({'evaluation.protocols': ('finetune',), 'evaluation.finetune.optimizer': 'adam'},
     r"config.evaluation.finetune.optimizer must be one of 'sgd', 'adamw', got 'adam'"),
    ({'evaluation.protocols': ('finetune',), 'evaluation.finetune.drop_path': 0.1},
     r'config.evaluation.finetune.drop_path must be None .*stochastic depth, Truncated\(Projected\(ResNet\)\)'),
])
def test_mistakes_are_named(run, overrides, message):
  config = stored(run)
  evaluation_options.complete(config.evaluation)
  config.update_from_flattened_dict(overrides)
  with pytest.raises(ValueError, match=message):
    evaluate(config, str(run))


def test_absent_runs_and_steps_are_named(run, tmp_path):
  with pytest.raises(ValueError, match='holds no run'):
    runs.restore(str(tmp_path))
  with pytest.raises(FileNotFoundError, match=r'no checkpoint of step 7 .*choose one of \[2\]'):
    runs.restore(str(run), 7)


def test_training_keys_cannot_be_changed_afterwards(run):
  with pytest.raises(ValueError, match='only config.data and config.evaluation can differ.*temperature'):
    evaluate(stored(run, **{'method.temperature': 9.0}), str(run))


def test_a_finished_run_shows_its_own_results_again(run, capsys):
  evaluate(stored(run, **{'data.name': 'omniglot_unseen'}), str(run))
  out = capsys.readouterr().out
  assert 'omniglot_unseen, step 2, representation h: ' in out and 'CAUTION' not in out
  config = get_config()
  config.mesh.data, config.steps = 8, 2
  train(config, str(run))
  assert 'omniglot, step 2, representation h: ' in capsys.readouterr().out
  assert {row['data'] for row in rows_of(run)} == {'omniglot'}
  logged = [json.loads(line) for line in (run / 'evaluations.jsonl').read_text().splitlines()]
  assert {'omniglot', 'omniglot_unseen'} <= {row['data'] for row in logged}


def test_test_images_that_were_pretrained_on_are_told(run, tmp_path, capsys):
  pretrained = build.load_source(stored(run).to_dict(), 'pretrain')
  np.savez(tmp_path / 'again.npz', train_images=pretrained.inputs[:400], train_labels=pretrained.labels[:400],
           test_images=pretrained.inputs[:30], test_labels=pretrained.labels[:30])
  evaluate(stored(run, **{'data.source': 'npz', 'data.path': str(tmp_path / 'again.npz')}), str(run))
  assert 'CAUTION: 30 of these test examples' in capsys.readouterr().out
  assert {row['num_test_seen'] for row in rows_of(run)} == {30}


def test_features_go_to_an_npz(run):
  with pytest.raises(ValueError, match=r'--embed=features.csv must end in .npz'):
    evaluate(stored(run), str(run), embed='features.csv')


def test_the_results_of_another_evaluation_are_not_the_runs_own(run, capsys):
  train(stored(run), str(run))  # Its own, whatever other tests have left.
  own = rows_of(run)
  evaluate(stored(run, **{'evaluation.knn.k': 1}), str(run))
  assert rows_of(run) != own
  assert not (run / 'report.html').exists() or stored(run).evaluation.pictures
  capsys.readouterr()
  train(stored(run), str(run))
  assert 'k = 1,' not in capsys.readouterr().out
  assert [row['value'] for row in rows_of(run)] == [row['value'] for row in own]


def test_labels_of_one_class_are_none(run, tmp_path, capsys):
  rng = np.random.default_rng(0)
  images = rng.integers(0, 256, (40, 14, 14, 1), np.uint8)
  np.savez(tmp_path / 'same.npz', images=images, labels=np.zeros(40, int))
  evaluate(stored(run, **{'data.source': 'npz', 'data.path': str(tmp_path / 'same.npz')}), str(run))
  assert 'All labels of same are the same: there is nothing to classify.' in capsys.readouterr().out
  assert {row['protocol'] for row in rows_of(run)} == {'geometry'}
