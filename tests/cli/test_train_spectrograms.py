"""The commands on spectrograms: from an .npz of audio through an autoencoder to table and pictures."""

import json
import os
import sys

import jax
import numpy as np
import pytest

from jaxssl.build import load_source
from jaxssl.cli import pictures
from jaxssl.cli.train import train

sys.path.insert(0, os.path.dirname(__file__))
from tiny_config import get_config

RECIPE = {'name': 'spectrogram', 'size': 12, 'rate': 8000, 'seconds': 0.1, 'views': 1}


@pytest.fixture(scope='module')
def recordings(tmp_path_factory):
  """Tones of many lengths, a class a pitch, two speakers."""
  rng = np.random.default_rng(0)
  lengths = rng.integers(300, 900, 48)
  waves = [np.sin(2 * np.pi * 400 * (1 + i % 3) * np.arange(n) / 8000) + 0.05 * rng.normal(size=n)
           for i, n in enumerate(lengths)]
  path = tmp_path_factory.mktemp('spectrograms') / 'tones.npz'
  np.savez(path, audio=np.concatenate(waves).astype(np.float32) / 2, offsets=np.concatenate([[0], np.cumsum(lengths)]),
           rate=np.array(8000), labels=np.arange(48) % 3, speakers=np.arange(48) // 3 % 2)
  return str(path)


def config(path, **overrides):
  made = get_config()
  made.mesh.data = 8
  with made.unlocked():
    made.data = {'source': 'npz', 'name': '', 'path': path, 'engine': 'device', 'recipe': RECIPE}
    made.method = {
        'name': 'autoencoder', 'code_size': 3,
        'encoder': {'name': 'mlp_encoder', 'features': (8,)}, 'decoder': {'name': 'mlp_decoder', 'features': (8,)},
        'optimizer': {'name': 'adamw', 'learning_rate': {'name': 'constant', 'base': 1e-2}}}
    made.evaluation.protocols, made.evaluation.reconstruction = ('knn', 'reconstruction'), {'samples': 1}
    made.update_from_flattened_dict(overrides)
  return made


@pytest.fixture(scope='module')
def finished(recordings, tmp_path_factory):
  path = tmp_path_factory.mktemp('run')
  with jax.numpy_rank_promotion('raise'):
    train(config(recordings, **{'evaluation.pictures': True}), str(path))
  return path


def test_the_table_is_that_of_images(finished):
  rows = json.loads((finished / 'results.json').read_text())['rows']
  accuracy = {row['features']: row['value'] for row in rows if row['protocol'] == 'knn'}
  assert accuracy.keys() == {'raw', 'random', 'trained', 'pca'} and accuracy['raw'] == 1  # A pitch is a row.
  assert {row['label'] for row in rows if row['protocol'] == 'knn'} == {'class'}
  error = {row['features']: row['value'] for row in rows if row['metric'] == 'squared_error'}
  assert error['trained'] < error['random']


def test_pictures_are_drawn(finished):
  drawn = {each.name for each in (finished / 'pictures').iterdir()}
  assert {'reconstructions.png', 'interpolations.png', 'traversals.png', 'neighbours.png', 'embedding.png'} <= drawn
  assert 'Reconstructions of test images' in (finished / 'report.html').read_text()


def test_preview(recordings, tmp_path):
  made = config(recordings)
  assert os.path.exists(pictures.preview(made, load_source(made.to_dict(), 'pretrain'), str(tmp_path)))


@pytest.mark.parametrize('key, value, message', [
    ('data.source', 'bundled', "config.data.source='bundled' is unknown. The choices are 'tfds', 'folder', 'npz'"),
    ('data.recipe.seconds', 0.001, r'config.data.recipe: seconds must be at least 0.0015, .* 12 columns .* got 0.001'),
    ('data.recipe.rate', 0, 'config.data.recipe: rate must be an integer of at least 1, got 0'),
    ('evaluation.protocols', ('linear_steps',), "must be among knn, linear, .* got 'linear_steps'"),
])
def test_errors_come_before_the_run(recordings, tmp_path, key, value, message):
  with pytest.raises(ValueError, match=message):
    train(config(recordings, **{key: value}), str(tmp_path / 'run'))
  assert not (tmp_path / 'run').exists()
