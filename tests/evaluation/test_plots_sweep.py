"""The picture of a sweep: what stands where."""

import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image

from jaxssl.evaluation import plots_sweep

SETTINGS = {
    'method.temperature': [0.1, 0.1, 0.2, 0.2, 0.2],
    'method.optimizer.learning_rate.base': [0.001, 0.1, 0.001, 0.1, 1e6],
    'method.encoder.widths': [(8, 16), (8, 16), (8,), (8,), (8,)],
    'method.name': ['$a$', '_b', '_b', 'x' * 100, '_b'],
}


@pytest.fixture
def drawn(monkeypatch):
  """The figures that are saved."""
  figures, save = [], Figure.savefig
  monkeypatch.setattr(Figure, 'savefig', lambda self, path: (figures.append(self), save(self, path)))
  return figures


def test_a_panel_a_key(tmp_path, drawn):
  plots_sweep.over_keys(SETTINGS, [0.5, 0.7, 0.6, 0.8, None], tmp_path / 'sweep.png', name='accuracy', best=3)
  assert np.asarray(Image.open(tmp_path / 'sweep.png')).std() > 5
  panels = drawn[0].axes
  assert [axes.get_title('left') for axes in panels[:4]] == [key.removeprefix('method.') for key in SETTINGS]
  assert [axes.get_visible() for axes in panels] == [True] * 4 + [False] * 2
  line = panels[0].lines[0]
  np.testing.assert_allclose(line.get_xydata(), [(0.1, 0.6), (0.2, 0.7)])
  assert panels[0].get_xscale() == 'linear' and panels[1].get_xscale() == 'log'
  assert panels[1].get_xlim()[1] >= 1e6, 'the trial that failed is within the panel'
  points, ring, crosses = panels[1].collections
  assert len(points.get_offsets()) == 4 and ring.get_offsets().tolist() == [[0.1, 0.8]]
  assert crosses.get_offsets().tolist() == [[1e6, 0]]
  assert [text.get_text() for text in panels[2].get_xticklabels()] == ['(8, 16)', '(8,)']
  assert panels[0].get_xticks().tolist() == [0.1, 0.2]
  assert [text.get_text() for text in panels[3].get_xticklabels()] == ['$a$', '_b', f'{"x" * 40}…']
  assert 'crosses' in drawn[0].get_supxlabel() and 'line: ' in drawn[0].get_supxlabel()


def test_without_failures_nothing_is_said_of_them(tmp_path, drawn):
  plots_sweep.over_keys({'seed': [0, 1]}, [0.5, 0.7], tmp_path / 'sweep.png', name='accuracy')
  assert 'crosses' not in drawn[0].get_supxlabel() and 'line' not in drawn[0].get_supxlabel()
  assert not drawn[0].axes[0].lines


def test_nothing_to_draw(tmp_path):
  with pytest.raises(ValueError, match='no figure to draw'):
    plots_sweep.over_keys({'seed': [0]}, [None], tmp_path / 'sweep.png', name='accuracy')
