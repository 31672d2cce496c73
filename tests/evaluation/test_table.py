import json

import pytest

from jaxssl.evaluation import table


def _row(protocol, features, value, **own):
  return {'protocol': protocol, 'label': 'class', 'split': 'test', 'representation': 'h', 'features': features,
          'seed': 0, 'metric': 'accuracy', 'value': value, **own}


ROWS = [
    _row('knn', 'trained', 0.7812, k=5, temperature=0.1, num_train=3630, num_test=1210, num_classes=242),
    _row('knn', 'random', 0.11, k=5, temperature=0.1),
    _row('knn', 'raw', 0.31, k=5, temperature=0.1),
    _row('linear', 'trained', 0.87, solver='lbfgs', l2=0.01, l2_chosen=True, fraction=1.0),
    _row('linear', 'trained', 0.5, solver='lbfgs', l2=0.1, l2_chosen=True, fraction=0.1),
    _row('finetune', 'trained', 0.9, epochs=60, fraction=0.01),
]


def test_baselines_stand_first_and_columns_align():
  lines = table.format(ROWS, seconds=254.4, images_per_second=1234.5).splitlines()
  assert lines == [
      'accuracy                                    raw pixels  random encoder  trained encoder',
      '---------------------------------------------------------------------------------------',
      'k-NN (cosine, k = 5, weights exp(cos/0.1))       0.310           0.110            0.781',
      'linear probe (L-BFGS)                                -               -            0.870',
      'linear probe (L-BFGS), 10 % of labels                -               -            0.500',
      'fine-tuning (60 epochs), 1 % of labels               -               -            0.900',
      '3,630 training and 1,210 test examples, 242 classes.',
      'L2 of the linear probe, chosen on held-out training examples: 0.01 trained encoder.',
      'Pretraining: 254 s, 1,234 examples/s, compilation and checkpoints included.',
  ]


def test_seeds_are_averaged_and_labels_and_metrics_named():
  rows = [_row('knn', 'trained', value, k=5, temperature=0.1) for value in (0.2, 0.4)]
  rows += [{**_row('reconstruction', 'pca', 0.5), 'metric': 'mse', 'label': 'speaker'}]
  text = table.format(rows)
  assert 'class: k-NN (cosine, k = 5, weights exp(cos/0.1))' in text
  assert '0.300' in text
  assert 'speaker: reconstruction: mse' in text
  assert text.splitlines()[0].split() == ['PCA', 'trained', 'encoder']


def test_notes_name_the_data_and_warn_of_images_that_were_pretrained_on():
  about = {'data': 'omniglot', 'step': 1000, 'num_test_seen': 0}
  rows = [{**ROWS[0], **about}]
  assert table.notes(rows) == [
      'omniglot, step 1000, representation h: 3,630 training and 1,210 test examples, 242 classes.']
  seen = table.notes([{**rows[0], 'num_test_seen': 1200}])
  assert seen[1:] == ['CAUTION: 1,200 of these test examples stand among the pretraining examples too.']
  spread = {**_row('geometry', 'trained', 3.0, num_test=50), 'metric': 'uniformity', **about}
  assert table.notes([spread])[0] == 'omniglot, step 1000, representation h: 50 test examples without labels.'


def test_clusters_and_the_inverse_of_a_generator_are_explained():
  rows = [_row('clustering', 'trained', 0.25, clusters=1200, num_train=9, num_test=5, num_classes=3),
          {**_row('reconstruction', 'trained', 0.0625), 'metric': 'latent_error', 'representation': table.NONE}]
  text = table.format(rows)
  assert '1,200 clusters, each with the label of most: accuracy' in text
  assert 'reconstruction: latent error' in text and 'Latent error: how far E(G(z)) is from z' in text


def test_samples_stand_beside_training_examples_and_name_their_judge():
  own = {'label': 'none', 'representation': 'none', 'num_samples': 500, 'num_test': 1210, 'data': 'omniglot',
         'step': 9, 'network': 'classifier', 'network_accuracy': 0.8512, 'network_chance': 0.004}
  rows = [{**_row('samples', features, value), **own, 'metric': metric, **({'k': 3} if metric == 'recall' else {})}
          for features, value in (('trained', 12.3456), ('train', 0.0123456), ('random', 345.67))
          for metric in ('frechet_distance', 'recall')]
  lines = table.format(rows).splitlines()
  assert [line.split()[-1] for line in lines[2:4]] == ['12.35', '12.346']
  assert lines[0].split() == ['training', 'examples', 'random', 'encoder', 'trained', 'encoder']
  assert lines[2].startswith('samples: Fréchet distance') and lines[3].startswith('samples: recall (k = 3)')
  assert lines[2].split()[3:] == ['0.01235', '345.7', '12.35'] and lines[4] == 'omniglot, step 9: 1,210 test examples.'
  assert lines[5].startswith('Samples: 500 of the generator') and len(lines) == 7
  assert lines[6] == 'Samples are judged by features of a classifier of accuracy 0.851 on test examples.'
  poor = table.notes([{**row, 'network_accuracy': 0.103} for row in rows])
  assert poor[-1].startswith('CAUTION: this classifier is hardly better than chance')
  assert 'random weights' in table.notes([{**row, 'network': 'random'} for row in rows])[-1]
  few = table.notes([{**row, 'num_samples': 32 if row['features'] == 'train' else 40, 'num_test': 8} for row in rows])
  assert 'Samples: 40 of the generator' in few[1] and 'and 32 training examples, beside 8 test' in few[1]
  assert few[2].startswith('CAUTION: with fewer than 100 samples or test examples')


def test_no_rows():
  assert table.format([]) == 'No results.'


def test_write_is_json_and_replaces_at_once(tmp_path, monkeypatch):
  path = tmp_path / 'results.json'
  table.write(path, ROWS, 254.4, 1234.5)
  assert json.loads(path.read_text()) == {'rows': ROWS, 'seconds': 254.4, 'images_per_second': 1234.5}
  with pytest.raises(TypeError):
    table.write(path, [{'value': object()}], 1.0, 1.0)
  assert json.loads(path.read_text())['seconds'] == 254.4
  table.write(path, [], None, None)
  assert json.loads(path.read_text()) == {'rows': [], 'seconds': None, 'images_per_second': None}
