"""benchmarks/mutual_information.py: its data and schedule, and a run of a few steps that is not computed again."""

import importlib
import math
import pathlib

import jax
import numpy as np
import pytest

ROOT = pathlib.Path(__file__).parents[1]


@pytest.fixture
def benchmark(monkeypatch):
  monkeypatch.syspath_prepend(ROOT / 'benchmarks')
  return importlib.import_module('mutual_information')


def test_gaussians_hold_the_information_they_should(benchmark):
  x, y = benchmark.sample(jax.random.key(0), 4.0, 20_000)
  rho = np.mean(np.asarray(x) * np.asarray(y), axis=0)
  assert -0.5 * np.sum(np.log(1 - rho**2)) == pytest.approx(4, abs=0.1)
  assert np.std(y) == pytest.approx(1, abs=0.01)
  np.testing.assert_allclose(benchmark.sample(jax.random.key(0), 4.0, 9, cubic=True)[1],
                             benchmark.sample(jax.random.key(0), 4.0, 9)[1]**3, rtol=1e-5)
  x, y = benchmark.SITUATIONS['processed'](jax.random.key(0), 4.0, 8)
  assert x.shape == (8, 10) and y.shape == (8, 20)


def test_schedule(benchmark):
  truth = benchmark.staircase_of(20_000)
  # The very first step is at 0.5, which rounds to 0, as in the demo.
  assert truth[0] == 0 and [np.sum(truth[1:] == level) for level in benchmark.LEVELS] == [3999, *[4000] * 4]
  np.testing.assert_allclose(benchmark.plateaus(truth), benchmark.LEVELS)
  curve = np.where(np.arange(20_000) % 4000 < 3001, 100.0, 1.0)  # Only the last 999 or 1,000 steps of each count.
  curve[3000::4000] = 1
  np.testing.assert_allclose(benchmark.plateaus(curve), 1)


def test_families(benchmark):
  parse = benchmark.mi.Estimator.parse
  found = benchmark.families([parse(text) for text in ('info_nce', 'smile:1', 'js', 'nwj')])
  assert [tuple(map(str, family)) for family in found] == [('smile:1', 'js'), ('info_nce',), ('nwj',)]


def tables(text):
  return [line for line in text.splitlines() if line.startswith('|')]


def test_a_few_steps_are_kept(benchmark, monkeypatch, tmp_path, capsys):
  arguments = ['--estimators', 'info_nce', 'smile:5', '--steps', '20', '--seeds', '1', '--batch_size', '8']
  monkeypatch.setattr('sys.argv', ['mutual_information.py', *arguments, '--out', str(tmp_path)])
  benchmark.main()
  printed = capsys.readouterr().out
  assert f'| info_nce | {math.log(8):.2f} |' in printed and '| smile:5 | none |' in printed
  assert (tmp_path / 'separable-8-20.png').exists()
  monkeypatch.setattr(benchmark, 'run', None)  # Nothing is left to compute.
  benchmark.main()
  assert tables(capsys.readouterr().out) == tables(printed)


def test_differences_to_what_is_published(benchmark):
  means = np.array([[1.6, 2.8, 3.6, 4.0, 4.0], [1.8, 3.0, 3.6, 4.0, 4.0]])
  published = benchmark.PUBLISHED[64, 'separable']['info_nce']
  row = benchmark.row(benchmark.mi.Estimator('info_nce'), 64, means, published)
  assert row.startswith('| info_nce | 4.16 | 1.70 ± 0.14 [1.64, +0.06] | 2.90 ± 0.14 [2.87, +0.03] | 3.60 ± 0.00')


def test_ratios_of_consistency(benchmark, monkeypatch, tmp_path, capsys):
  values = iter([2.0, 0.5, 3.0, 5.0])  # One pair, independent, processed, two pairs.
  monkeypatch.setattr(benchmark, 'run', lambda key, truths, **_: np.full((len(truths), 1), next(values)))
  arguments = ['--parts', 'consistency', '--estimators', 'nwj', '--steps', '40', '--seeds', '1']
  monkeypatch.setattr('sys.argv', ['mutual_information.py', *arguments, '--out', str(tmp_path)])
  benchmark.main()
  assert '| nwj | 2.00 | 0.50 | 1.50 | 2.50 |' in tables(capsys.readouterr().out)
