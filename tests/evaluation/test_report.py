import base64
import html.parser

import numpy as np
import pytest
from PIL import Image

from jaxssl.evaluation import report

ROWS = [{'protocol': 'knn', 'label': 'class', 'split': 'test', 'representation': 'h', 'features': features, 'seed': 0,
         'metric': 'accuracy', 'value': value, 'k': 5, 'temperature': 0.1}
        for features, value in (('trained', 0.78), ('raw', 0.3), ('random', 0.11))]
VOID = {'meta', 'img'}


class _Page(html.parser.HTMLParser):
  """Collects texts and addresses, and checks that every tag is closed."""

  def __init__(self, text):
    super().__init__()
    self.open, self.texts, self.sources = [], [], []
    self.feed(text)
    assert not self.open

  def handle_starttag(self, tag, attrs):
    if tag not in VOID:
      self.open.append(tag)
    self.sources += [value for name, value in attrs if name in ('src', 'href')]

  def handle_endtag(self, tag):
    assert self.open.pop() == tag

  def handle_data(self, data):
    self.texts.append(data.strip())


@pytest.fixture
def picture(tmp_path):
  path = tmp_path / 'picture.png'
  Image.fromarray(np.zeros((2, 2, 3), np.uint8)).save(path)
  return path


def test_only_accuracies_have_a_best(picture):
  spread = [{**row, 'protocol': 'geometry', 'metric': 'uniformity', 'value': -row['value'], 'num_test': 9}
            for row in ROWS]
  assert 'class="best"' not in report.render(title='', rows=spread, config={}, pictures={})


def test_the_report_is_whole_and_self_contained(tmp_path, picture):
  path = tmp_path / 'report.html'
  report.write(path, title='<simclr>', rows=ROWS, config={'seed': 0, 'method': {'name': 'a & b', 'width': {}}},
               pictures={'Loss "curve"': picture}, seconds=254.0, images_per_second=1033.4, facts={'step': 1200},
               warnings=['Collapse <soon>.'])
  page = _Page(path.read_text())
  for text in ('<simclr>', 'Collapse <soon>.', 'Loss "curve"', 'method.name', 'a & b', 'method.width', 'step', '1200',
               'Pretraining: 254 s, 1,033 examples/s, compilation and checkpoints included.',
               'k-NN (cosine, k = 5, weights exp(cos/0.1))'):
    assert text in page.texts
  cells = ('raw pixels', 'random encoder', 'trained encoder', '0.300', '0.110', '0.780')
  order = [page.texts.index(text) for text in cells]
  assert order == sorted(order)
  assert page.sources == ['data:image/png;base64,' + base64.b64encode(picture.read_bytes()).decode()]
  assert 'class="best">0.780<' in path.read_text()
  assert [file.name for file in tmp_path.iterdir()] != [] and not list(tmp_path.glob('*.tmp'))


def test_pictures_may_move(tmp_path):
  path = tmp_path / 'training.gif'
  Image.fromarray(np.zeros((2, 2, 3), np.uint8)).save(path)
  page = _Page(report.render(title='', rows=[], config={}, pictures={'Over training': path}))
  assert page.sources == ['data:image/gif;base64,' + base64.b64encode(path.read_bytes()).decode()]


def test_empty_sections_are_left_out():
  page = _Page(report.render(title='run', rows=[], config={}, pictures={}))
  assert not {'Results', 'Pictures', 'Run', 'Config'} & set(page.texts)


def test_flat_config():
  assert list(report.flat({'a': 1, 'b': {'c': (2,), 'd': {'e': None}}, 'f': {}})) == [
      ('a', 1), ('b.c', (2,)), ('b.d.e', None), ('f', {})]
