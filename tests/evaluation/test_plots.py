import sys

import numpy as np
import pytest
from PIL import Image
from sklearn.decomposition import PCA
from sklearn.neighbors import KNeighborsClassifier

from jaxssl.evaluation import plots

ROWS = [{'step': 5 * i, 'loss': 3 / (1 + i), 'learning_rate': 0.1, 'note': 'text'} for i in range(100)]


def _pixels(path):
  return np.asarray(Image.open(path).convert('RGB')).astype(int)


def _count(pixels, colour):
  return int(np.sum(np.abs(pixels - np.array(colour)).max(axis=-1) <= 2))


def test_pca_against_sklearn():
  x = np.random.default_rng(0).normal(size=(40, 6)) * np.array([5, 4, 1, 1, 1, 1])
  np.testing.assert_allclose(np.abs(plots.pca(x)), np.abs(PCA(2, svd_solver='full').fit_transform(x)), atol=1e-9)
  np.testing.assert_allclose(plots.pca(-x + 3), -plots.pca(x), atol=1e-9)


def _clusters():
  rng = np.random.default_rng(0)
  labels = np.arange(60) % 3
  return rng.normal(size=(3, 16))[labels] * 4 + rng.normal(size=(60, 16)), labels


def test_tsne_keeps_clusters_together_and_repeats():
  pytest.importorskip('openTSNE')
  features, labels = _clusters()
  points, method = plots.project(features)
  assert method == 't-SNE'
  assert KNeighborsClassifier(5).fit(points, labels).score(points, labels) == 1
  np.testing.assert_array_equal(points, plots.project(features)[0])


def test_a_feature_of_one_dimension_has_a_map(tmp_path):
  points = plots.pca(np.arange(6.0)[:, None])
  np.testing.assert_allclose(points, np.stack([np.arange(6) - 2.5, np.zeros(6)], axis=1))
  plots.embedding_map(points, None, tmp_path / 'map.png')
  assert (tmp_path / 'map.png').exists()


def test_pca_stands_in_for_tsne(monkeypatch):
  features, _ = _clusters()
  assert plots.project(features[:20])[1] == 'PCA'
  monkeypatch.setitem(sys.modules, 'openTSNE', None)
  points, method = plots.project(features)
  assert method == 'PCA'
  np.testing.assert_array_equal(points, plots.pca(features))


def test_metric_names_are_the_numbers():
  assert plots.metric_names(ROWS) == ['loss', 'learning_rate']
  assert plots.metric_names([{'step': 1, 'loss': None}, {'step': 2, 'late': 1.0}]) == ['late']


def test_moving_average():
  np.testing.assert_allclose(plots._smooth(np.array([0.0, 3, 6, 9]), 3), [1.5, 3, 6, 7.5])


def test_curves_are_drawn(tmp_path):
  plots.loss_curve(ROWS, tmp_path / 'loss.png')
  plots.metric_curves([*ROWS, {'step': 1000, 'loss': None}], tmp_path / 'all.png')
  for name in ('loss', 'all'):
    assert _count(_pixels(tmp_path / f'{name}.png'), (31, 111, 178)) > 100
  assert _pixels(tmp_path / 'all.png').shape[:2] == (276, 864)


def test_the_map_colours_a_class_and_leaves_the_rest_grey(tmp_path):
  points = np.random.default_rng(0).normal(size=(200, 2))
  plots.embedding_map(points, None, tmp_path / 'plain.png')
  plots.embedding_map(points, np.arange(200) % 2, tmp_path / 'two.png', class_names=('cat', 'dog'))
  plots.embedding_map(points, np.arange(200) % 100, tmp_path / 'many.png', title='t-SNE')
  blue = [_count(_pixels(tmp_path / f'{name}.png'), (31, 119, 180)) for name in ('plain', 'two', 'many')]
  grey = [_count(_pixels(tmp_path / f'{name}.png'), (213, 219, 224)) for name in ('plain', 'two', 'many')]
  assert blue[1] > 1000 > blue[2] > 20 > blue[0]
  assert grey[2] > 1000


def test_neighbours_are_framed_by_class(tmp_path):
  images = np.full((2, 8, 8, 1), 128, np.uint8)
  found = np.full((2, 3, 8, 8, 1), 128, np.uint8)
  plots.neighbours_sheet(images, np.array([4, 5]), found, np.array([[4, 4, 5], [5, 5, 5]]), tmp_path / 'a.png', size=40)
  pixels = _pixels(tmp_path / 'a.png')
  frame = 40 * 40 - 32 * 32
  assert _count(pixels, plots.RIGHT) == 5 * frame
  assert _count(pixels, plots.WRONG) == frame
  assert _count(pixels, (128, 128, 128)) >= 8 * 32 * 32
  plots.neighbours_sheet(images, None, found, None, tmp_path / 'b.png', size=40)
  pixels = _pixels(tmp_path / 'b.png')
  assert _count(pixels, plots.RIGHT) == _count(pixels, plots.WRONG) == 0
  with pytest.raises(ValueError, match='queries is empty'):
    plots.neighbours_sheet(images[:0], None, found[:0], None, tmp_path / 'c.png')


def test_preview_shows_originals_beside_views_of_any_size(tmp_path):
  images = np.zeros((2, 8, 8, 3), np.uint8)
  images[..., 0] = 200
  small = np.full((2, 4, 2, 1), 0.5, np.float32)
  large = np.zeros((2, 300, 300, 3), np.float32)
  large[..., 2] = 1.0
  plots.preview(images, [small, large], tmp_path / 'p.png', size=48)
  pixels = _pixels(tmp_path / 'p.png')
  assert _count(pixels, (200, 0, 0)) == 2 * 40 * 40
  assert _count(pixels, (128, 128, 128)) >= 2 * 40 * 20
  assert _count(pixels, (0, 0, 255)) == 2 * 40 * 40
  with pytest.raises(ValueError, match='2 images and 0 views'):
    plots.preview(images, [], tmp_path / 'p.png')


def test_patches_lie_as_in_the_image():
  image = np.arange(6 * 4, dtype=np.uint8).reshape(6, 4, 1)
  patches = image.reshape(3, 2, 2, 2, 1).swapaxes(1, 2)
  joined = plots.mosaic(patches)
  assert joined.shape == (8, 5, 1)
  lines = np.zeros((8, 5), bool)
  lines[2::3], lines[:, 2] = True, True
  assert (joined[lines] == 255).all()
  np.testing.assert_array_equal(joined[~lines], image.reshape(-1, 1))
  assert plots.mosaic(np.zeros((2, 2, 3, 3, 1), np.float32)).max() == 1


def test_preview_joins_patches(tmp_path):
  red = np.zeros((1, 3, 3, 4, 4, 3), np.float32)
  red[..., 0] = 1
  plots.preview(np.zeros((1, 12, 12, 3), np.uint8), [red], tmp_path / 'p.png', size=8 + 14 * 3)
  assert _count(_pixels(tmp_path / 'p.png'), (255, 0, 0)) == 9 * 12 * 12


def test_the_distance_is_drawn(tmp_path):
  plots.by_distance({'accuracy': [0.9, 0.5, 0.2], 'bound': [2.0, 1.0, -0.1]}, tmp_path / 'b.png')
  assert _pixels(tmp_path / 'b.png').std() > 10


def test_errors():
  with pytest.raises(ValueError, match="no row has the metric 'los'; there are loss, learning_rate"):
    plots.loss_curve(ROWS, 'unused.png', name='los')
  with pytest.raises(ValueError, match='no metric to draw'):
    plots.metric_curves([{'step': 1}], 'unused.png')
