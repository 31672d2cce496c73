import numpy as np
import pytest
from PIL import Image

from jaxssl.evaluation import plots_generative as plots

BLUE = (31, 111, 178)


def pixels(path):
  return np.asarray(Image.open(path).convert('RGB')).astype(int)


def count(found, colour):
  return int(np.sum(np.abs(found - np.array(colour)).max(axis=-1) <= 2))


@pytest.mark.parametrize('shape, size', [
    ((28, 28, 1), (56, 56)), ((14, 14, 3), (56, 56)), ((32, 32, 3), (64, 64)), ((96, 96, 3), (96, 96)),
    ((256, 128, 3), (128, 64)), ((8, 32, 1), (16, 64)), ((1, 500, 1), (1, 128))])
def test_small_images_grow_by_a_whole_number(shape, size):
  assert plots.tile_size(np.zeros(shape)) == size


def test_a_sheet_shows_each_image_clipped_in_its_place(tmp_path):
  values = np.array([[-3.0, 0.25, 7.0], [0.5, 1.0, np.nan]])
  rows = [[np.full((28, 28, 1), value) for value in line] for line in values]
  plots.sheet(rows, tmp_path / 'plain.png')
  found = pixels(tmp_path / 'plain.png')
  assert found.shape == (2 * 8 + 2 * 56 + 4, 2 * 8 + 3 * 56 + 2 * 4, 3)
  shown = [[int(found[8 + 28 + 60 * i, 8 + 28 + 60 * j, 0]) for j in range(3)] for i in range(2)]
  assert shown == [[0, 64, 255], [128, 255, 0]]
  assert tuple(found[8 + 56, 8 + 20]) == (213, 219, 224) and tuple(found[8 + 58, 8 + 20]) == (255, 255, 255)


def test_enlarged_pixels_stay_squares_and_colours_stay(tmp_path):
  image = np.random.default_rng(0).integers(0, 256, (14, 14, 3), np.uint8)
  plots.sheet([[image]], tmp_path / 'one.png')
  np.testing.assert_array_equal(pixels(tmp_path / 'one.png')[8:64, 8:64], image.repeat(4, axis=0).repeat(4, axis=1))


def test_captions_heads_and_divisions_take_room(tmp_path):
  rows = {'original': [np.ones((28, 28, 1))] * 3, 'reconstruction': [np.zeros((28, 28, 1))] * 3}
  plots.sheet(list(rows.values()), tmp_path / 'plain.png')
  plots.sheet(rows, tmp_path / 'full.png', heads=('a', '', 'b'), divided=(1,))
  plain, full = pixels(tmp_path / 'plain.png'), pixels(tmp_path / 'full.png')
  assert full.shape[0] == plain.shape[0] + 18 and full.shape[1] > plain.shape[1] + 90
  left = full.shape[1] - (plain.shape[1] + 10)  # Where the captions end: nothing is cut, nothing overlaps.
  assert (full[:, :left - 4] < 200).any() and (full[:, left - 3:left + 5] > 200).all()
  assert (full[:, :5] == 255).all()


def test_images_of_two_channels_and_of_many_are_drawn(tmp_path):
  for channels in (2, 5):
    plots.sheet([[np.full((28, 28, channels), 0.8)]], tmp_path / f'{channels}.png')
    assert pixels(tmp_path / f'{channels}.png')[30, 30, 0] == 204


@pytest.mark.parametrize('rows', [[], [[]], [[np.ones((4, 4, 1))], []]])
def test_sheets_without_images_are_refused(tmp_path, rows):
  with pytest.raises(ValueError, match='a sheet needs rows of as many images each'):
    plots.sheet(rows, tmp_path / 'none.png')


def test_vectors_are_curves(tmp_path):
  x = np.random.default_rng(0).normal(size=(7, 20))
  plots.curves({'original': x, 'reconstruction': 0.8 * x}, tmp_path / 'two.png')
  plots.curves({'original': x.reshape(7, 5, 4)}, tmp_path / 'one.png')
  assert count(pixels(tmp_path / 'two.png'), BLUE) > 1000 and count(pixels(tmp_path / 'one.png'), BLUE) == 0


def test_bars_are_sorted(tmp_path):
  kl = np.array([0.0, 3.0, 1.0, 0.0, 2.0])
  plots.latent_kl(kl, tmp_path / 'kl.png')
  plots.latent_kl(kl[::-1], tmp_path / 'reversed.png')
  np.testing.assert_array_equal(pixels(tmp_path / 'kl.png'), pixels(tmp_path / 'reversed.png'))
  blue = np.abs(pixels(tmp_path / 'kl.png') - np.array(BLUE)).max(axis=-1) <= 2
  heights = blue.sum(axis=0)
  tops = [int(np.median(part)) for part in np.split(heights, np.flatnonzero(np.diff(heights > 0)) + 1) if part.any()]
  np.testing.assert_allclose(np.array(tops) / tops[0], [1, 2 / 3, 1 / 3], atol=0.02)


@pytest.mark.parametrize('size', [8, 1000])
def test_codebook_of_any_size(tmp_path, size):
  counts = np.arange(size)
  plots.codebook(counts, tmp_path / 'codes.png', 'title')
  even = count(pixels(tmp_path / 'codes.png'), BLUE)
  counts[:-1] = 0
  plots.codebook(counts, tmp_path / 'codes.png', 'title')
  assert count(pixels(tmp_path / 'codes.png'), BLUE) < even / 3


def test_an_animation_shows_each_frame_below_its_caption(tmp_path):
  frames = {}
  for value in (0.0, 0.5, 1.0):
    plots.sheet([[np.full((28, 28, 1), value)] * 2], tmp_path / f'{value}.png')
    frames[f'step {value}'] = tmp_path / f'{value}.png'
  plots.animation(frames, tmp_path / 'all.gif', seconds=0.5, last=2.0)
  with Image.open(tmp_path / 'all.gif') as gif:
    assert gif.n_frames == 3 and gif.size == (132, 88) and gif.info['loop'] == 0
    for i, (value, seconds) in enumerate([(0, 0.5), (128, 0.5), (255, 2)]):
      gif.seek(i)
      frame = np.asarray(gif.convert('RGB')).astype(int)
      assert np.abs(frame[16 + 8 + 20, 30] - value).max() <= 2 and gif.info['duration'] == 1000 * seconds
      assert (frame[:16] < 128).any()  # The caption.
  with pytest.raises(ValueError, match='frames is empty'):
    plots.animation({}, tmp_path / 'none.gif')
