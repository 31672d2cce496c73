"""The commands on an adversarial autoencoder and on BiGAN: clusters and the inverse in the table, rates in the log."""

import csv
import os
import sys

import jax
import numpy as np
import pytest

from jaxssl.build import load_source
from jaxssl.cli import runs
from jaxssl.cli.train import train
from jaxssl.evaluation import table
from jaxssl.evaluation.clustering import clustering_accuracy

sys.path.insert(0, os.path.dirname(__file__))
from processes import rows_of
from tiny_config import get_config

MLP = {'name': 'mlp_discriminator', 'features': (8,)}
AUTOENCODER = {
    'name': 'adversarial_autoencoder', 'code_size': 2, 'categories': 5, 'discriminator': MLP,
    'decoder': {'name': 'mlp_decoder', 'features': (8,)}}
BIGAN = {
    'name': 'bigan', 'latent_size': 3, 'discriminator': {'name': 'mlp_joint_discriminator', 'features': (8,)},
    'generator': {'name': 'generator', 'decoder': {'name': 'mlp_decoder', 'features': (8,)}, 'output': 'linear'}}


def config(method, data, *optimizers, **overrides):
  made = get_config()
  made.mesh.data = 8
  rate = {'name': 'step_decay', 'base': 0.01, 'scaling': 'none'}
  with made.unlocked():
    made.data = {'source': 'npz', 'name': '', 'path': str(data), 'engine': 'device',
                 'recipe': {'name': 'paired', 'size': 12}}
    made.method = {**method, 'encoder': {'name': 'mlp_encoder', 'features': (8,)},
                   **{name: {'name': 'rmsprop', 'learning_rate': rate} for name in optimizers}}
    made.evaluation.update({'protocols': ('knn', 'reconstruction'), 'reconstruction': {'samples': 2}})
    made.update_from_flattened_dict(overrides)
  return made


@pytest.fixture(scope='module')
def vectors(tmp_path_factory):
  """200 vectors of 6 numbers in four groups, with and without labels."""
  path = tmp_path_factory.mktemp('vectors')
  rng = np.random.default_rng(0)
  labels = np.arange(200) % 4
  x = 3 * rng.normal(size=(4, 6))[labels] + 0.3 * rng.normal(size=(200, 6))
  np.savez(path / 'labelled.npz', view_0=x, labels=labels)
  np.savez(path / 'alone.npz', view_0=x)
  return path


@pytest.fixture(scope='module')
def clustered(vectors):
  with jax.numpy_rank_promotion('raise'):
    train(config(AUTOENCODER, vectors / 'labelled.npz', 'optimizer', 'discriminator_optimizer', 'encoder_optimizer',
                 **{'evaluation.pictures': True}), str(vectors / 'clustered'))
  return vectors / 'clustered'


def test_clusters_have_rows_where_there_are_labels(clustered):
  rows = [row for row in rows_of(clustered) if row['protocol'] == 'clustering']
  assert [row['features'] for row in rows] == ['random', 'trained'] and all(row['clusters'] == 5 for row in rows)
  assert 'with the label of most: accuracy' in table.format(rows_of(clustered))
  run = runs.restore(str(clustered))
  sources = [load_source(run.config.to_dict(), split) for split in ('train', 'test')]
  for row, state in zip(rows, (run.initial, run.state), strict=True):
    found = [(np.asarray(run.experiment.method.clusters(state, source.inputs[np.arange(len(source))])), source.labels)
             for source in sources]
    assert row['value'] == clustering_accuracy(*found[0], *found[1])
    assert (row['num_train'], row['num_test'], row['num_classes']) == (160, 40, 4)


def test_a_code_of_two_numbers_has_a_map_whatever_stands_beside_it(clustered):
  assert (clustered / 'pictures' / 'codes.png').exists()


def test_every_rate_is_logged(clustered):
  with open(clustered / 'metrics.csv', encoding='utf-8') as f:
    last = list(csv.DictReader(f))[-1]
  rates = {'learning_rate', 'discriminator_learning_rate', 'encoder_learning_rate'}
  assert rates <= last.keys() and all(float(last[name]) > 0 for name in rates)
  assert {'loss', 'discriminator_loss', 'encoder_loss', 'divergence', 'category_divergence'} <= last.keys()


def test_bigan_has_the_error_of_its_inverse(vectors):
  made = config(BIGAN, vectors / 'alone.npz', 'optimizer', 'discriminator_optimizer')
  train(made, str(vectors / 'bigan'))
  rows = rows_of(vectors / 'bigan')
  found = {(row['metric'], row['features']) for row in rows if row['protocol'] == 'reconstruction'}
  assert {(f'{name}_error', features) for name in ('squared', 'latent') for features in ('random', 'trained')} < found
  assert 'clustering' not in {row['protocol'] for row in rows}
  assert 'Latent error' in table.format(rows)
