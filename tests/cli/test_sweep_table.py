"""The table of a sweep: which figure, which order, and what is said of it."""

import re

import pytest

from jaxssl.cli import sweep_table
from jaxssl.cli.sweep_table import Sweep, figures
from jaxssl.evaluation import table

CONFIG = {'seed': 0, 'method': {'name': 'simclr', 'temperature': 0.5}}


def results(value, data='omniglot', **fields):
  row = {'protocol': 'knn', 'label': 'class', 'split': 'test', 'representation': 'h', 'features': 'trained', 'seed': 0,
         'metric': 'accuracy', 'value': value, 'k': 5, 'temperature': 0.1, 'num_test': 100, 'data': data, 'step': 4}
  row |= fields
  return [{**row, 'features': 'raw', 'value': 0.3}, {**row, 'features': 'random', 'value': 0.1}, row]


def trial(name, value, status='finished', error='', data='omniglot', **values):
  return {'trial': name, 'directory': f'{name}-dir', 'values': values, 'status': status, 'error': error,
          'seconds': None if value is None else 1234.5, 'results': [] if value is None else results(value, data)}


ROWS = [trial('a', 0.5, seed=0), trial('b', 0.7, seed=1),
        trial('c', 0.65, **{'method.temperature': 0.1}), trial('d', None, 'failed', 'no memory', seed=2)]


def test_best_first_beside_the_baselines():
  rows = [trial('a', 0.5, **{'method.temperature': 0.1}), trial('b', 0.7, **{'method.temperature': 0.2}),
          trial('c', None, 'failed', 'no memory', **{'method.temperature': 0.3}), trial('d', 0.6, steps=9)]
  sweep = Sweep({**CONFIG, 'steps': 4}, rows)
  assert [' '.join(line) for line in sweep.grid()] == [
      'trial method.temperature steps raw pixels random encoder trained encoder seconds status',
      'b 0.2 4 0.300 0.100 0.700 1,234 finished', 'd 0.5 9 0.300 0.100 0.600 1,234 finished',
      'a 0.1 4 0.300 0.100 0.500 1,234 finished', 'c 0.3 4 - - - - failed']
  assert sweep.best['trial'] == 'b'
  assert Sweep(CONFIG, rows, minimize=True).best['trial'] == 'a'
  first, caution, failed = sweep.notes()
  assert first == ('k-NN (cosine, k = 5, weights exp(cos/0.1)), accuracy; label class, representation h; 100 test '
                   'examples of omniglot.')
  assert 'CAUTION: the best of 3' in caution and '--config.data.name=omniglot_validation' in caution
  assert failed == 'failed: c-dir: no memory'


def test_seeds_are_ranked_by_their_mean():
  sweep = Sweep(CONFIG, ROWS)
  assert [row['trial'] for row in sweep.rows] == ['c', 'a', 'b', 'd'], 'not the luckiest seed'
  head, *lines = sweep.grid()
  at = head.index('mean over seeds')
  assert [line[at] for line in lines] == ['0.650 (1)', '0.600 (2 of 3)', '0.600 (2 of 3)', '-']


def test_nothing_is_finished():
  sweep = Sweep(CONFIG, ROWS[3:])
  assert sweep.best is None and sweep.grid()[1] == ['d', '2', '-', '-', 'failed']
  assert list(sweep.notes()) == ['failed: d-dir: no memory']


@pytest.mark.parametrize('data, words', [
    ('omniglot_validation', 'on a validation split, so the best figure is too good for a report: train its keys once '
     'with --config.data.name=omniglot,'),
    ('mine.npz', 'CAUTION: .*on a validation split .data without the test set.')])
def test_a_choice_flatters(data, words):
  made = [trial('a', 0.5, data=data, seed=0), trial('b', 0.6, data=data, seed=1)]
  assert re.search(words, list(Sweep(CONFIG, made).notes())[1])
  assert len(list(Sweep(CONFIG, made[:1]).notes())) == 1, 'there was no choice'


def test_the_figure_is_named_by_fields():
  rows = [*results(0.5), *results(0.6, representation='z')[2:], *results(0.4, fraction=0.1),
          *results(0.2, fraction=0.1), *results(3.5, protocol='geometry', metric='effective_rank')]
  chosen = lambda *fields: figures(rows, sweep_table.parse(fields))
  assert chosen() == {'raw': 0.3, 'random': 0.1, 'trained': 0.5}
  assert chosen('representation=z') == {'raw': 0.3, 'trained': 0.6}
  assert chosen('fraction=0.1')['trained'] == pytest.approx(0.3), 'the mean of several'
  assert chosen('protocol=geometry', 'metric=effective_rank')['trained'] == 3.5
  with pytest.raises(ValueError, match=r'(?s)--metric=protocol=linear,.*have no such figure; they have:.*'
                     'protocol=knn,label=class,representation=z,features=trained,metric=accuracy'):
    chosen('protocol=linear')
  for wrong in ('linear', '=linear', 'protocol='):
    with pytest.raises(ValueError, match=f'--metric={wrong}: it must be FIELD=VALUE'):
      sweep_table.parse([wrong])


def test_the_table_is_aligned():
  lines = table.aligned(Sweep(CONFIG, ROWS).grid())
  assert len(lines) == 6 and len({len(line) for line in lines}) == 1
