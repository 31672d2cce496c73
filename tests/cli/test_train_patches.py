"""The commands on CPC of images: table, pictures, every representation, preview, and errors before the run."""

import os
import sys

import numpy as np
import pytest

from jaxssl.build import load_source
from jaxssl.cli import pictures
from jaxssl.cli.eval import evaluate
from jaxssl.cli.train import train

sys.path.insert(0, os.path.dirname(__file__))
from processes import rows_of
from tiny_config import get_config


def config(path, **overrides):
  made = get_config()
  made.mesh.data = 8
  with made.unlocked():
    made.data = {'source': 'npz', 'name': '', 'path': path, 'engine': 'device',
                 'recipe': {'name': 'patches', 'size': 12, 'patch_size': 4, 'patch_stride': 2, 'shear': 0.0,
                            'elastic': 0.0}}
    made.method = {
        'name': 'cpc_image', 'negatives': 'batch', 'num_negatives': 8,
        'encoder': {
            'name': 'patches', 'size': 4, 'stride': 2,
            'network': {'name': 'resnet', 'stage_sizes': (1,), 'block': 'basic', 'widths': (6,), 'stem': 'small',
                        'norm': 'layer'}},
        'predictor': {
            'name': 'grid', 'directions': ('down', 'up'), 'skip': 1, 'target_features': 4,
            'context': {'name': 'row_gru', 'features': 5},
            'predictor': {'name': 'linear_predictor', 'steps': 2, 'features': 4}},
        'optimizer': {'name': 'adamw', 'learning_rate': {'name': 'constant', 'base': 1e-3}}}
    made.evaluation.update({'protocols': ('knn', 'finetune'), 'batch_size': 32, 'pictures': True})
    made.evaluation.finetune.update({'batch_size': 16})
    made.update_from_flattened_dict(overrides)
  return made


@pytest.fixture(scope='module')
def finished(tmp_path_factory):
  path = tmp_path_factory.mktemp('patches')
  rng = np.random.default_rng(0)
  labels = np.arange(48) % 3
  images = np.clip(80 * labels[:, None, None, None] + rng.integers(0, 90, (48, 12, 12, 3)), 0, 255)
  np.savez(path / 'set.npz', images=images.astype(np.uint8), labels=labels)
  made = config(str(path / 'set.npz'))
  train(made, str(path / 'run'))
  return path, made


def test_table_and_pictures(finished):
  path, _ = finished
  rows = rows_of(path / 'run')
  assert {(row['protocol'], row['features'], row['representation']) for row in rows} == {
      ('knn', 'raw', 'inputs'), ('knn', 'random', 'z'), ('knn', 'trained', 'z'), ('finetune', 'random', 'z'),
      ('finetune', 'trained', 'z')}
  drawn = {each.name for each in (path / 'run' / 'pictures').iterdir()}
  assert drawn == {'loss.png', 'metrics.png', 'embedding.png', 'neighbours.png', 'distance.png'}
  assert 'By the distance of what is predicted, on test images' in (path / 'run' / 'report.html').read_text()


def test_eval_of_the_other_representations(finished, capsys):
  path, made = finished
  other = config(made.data.path, **{'evaluation.representation': 'c, h', 'evaluation.protocols': ('knn',),
                                    'evaluation.pictures': False})
  evaluate(other, str(path / 'run'))
  rows = rows_of(path / 'run')
  assert [(row['features'], row['representation']) for row in rows] == [
      ('raw', 'inputs'), ('random', 'c'), ('trained', 'c'), ('random', 'h'), ('trained', 'h')]
  assert [line.count('-') for line in capsys.readouterr().out.splitlines() if line.startswith('k-NN')] == [1, 1]


def test_eval_on_images_of_other_channels(finished):
  path, made = finished
  grey = np.load(made.data.path)
  np.savez(path / 'grey.npz', images=grey['images'][..., :1], labels=grey['labels'])
  other = config(str(path / 'grey.npz'), **{'evaluation.protocols': ('knn',)})
  evaluate(other, str(path / 'run'))
  assert 'grey' in (path / 'run' / 'report.html').read_text()


def test_preview(finished, tmp_path):
  _, made = finished
  assert os.path.exists(pictures.preview(made, load_source(made.to_dict(), 'pretrain'), str(tmp_path)))


@pytest.mark.parametrize('key, value, message', [
    ('method.encoder.stride', 4, r'encoder cuts inputs .* into patches .3, 3, 4, 4, 3., but the recipe cuts views'),
    ('method.predictor.skip', 4, "skip must leave two rows in direction 'down'"),
    ('method.predictor.predictor.steps', 9, 'predictor foresees 9 rows down, but the grid has only 3 past the first'),
    ('method.predictor.predictor.features', 3, 'predictor must predict 4 features, as many as its targets have, got 3'),
    ('method.negatives', 'group', "negatives must be one of 'batch', 'image', got 'group'"),
    ('method.encoder', {'name': 'mlp', 'features': (4,)},
     'config.method.encoder must be a section that makes a PatchEncoder, got MLP'),
    ('data.recipe.patch_stride', 5, r'config.data.recipe: size must be .* plus a multiple of their stride, 5, got 12'),
    ('evaluation.representation', 'y', "must be among z, c, h, or several .*; got 'y'"),
])
def test_errors_come_before_the_run(finished, tmp_path, key, value, message):
  _, made = finished
  with pytest.raises(ValueError, match=message):
    train(config(made.data.path, **{key: value}), str(tmp_path / 'run'))
  assert not (tmp_path / 'run').exists()
