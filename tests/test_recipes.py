"""Recipes: the papers' values, and errors that name the argument."""

import dataclasses

import pytest

from jaxssl import recipes
from jaxssl.recipes import Patches, Recipe, View


def test_simclr_is_the_papers():
  recipe = recipes.simclr()
  view = recipe.views[0]
  assert recipe.views == (view, view)
  assert (recipe.input_size, recipe.input_crop) == (224, 0.875)
  assert (view.area, view.ratio, view.flip) == ((0.08, 1.0), (3 / 4, 4 / 3), 0.5)
  assert (view.jitter, view.brightness, view.contrast, view.saturation, view.hue) == (0.8, 0.8, 0.8, 0.8, 0.2)
  assert (view.grey, view.blur, view.sigma, view.kernel_size, view.solarize) == (0.2, 0.5, (0.1, 2.0), 23, 0.0)


def test_small_images_are_neither_blurred_nor_cropped_for_evaluation():
  recipe = recipes.simclr(32, strength=0.5)
  assert recipe.input_crop == 1.0
  assert all(view.blur == 0 for view in recipe.views)
  assert recipe.views[0].hue == pytest.approx(0.1)
  assert recipe.views[0].contrast == pytest.approx(0.4)
  assert recipes.simclr(32, blur=0.5).views[1].blur == 0.5


def test_byol_is_asymmetric():
  first, second = recipes.byol().views
  assert (first.blur, first.solarize, second.blur, second.solarize) == (1.0, 0.0, 0.1, 0.2)
  assert (first.brightness, first.contrast, first.saturation, first.hue) == (0.4, 0.4, 0.2, 0.1)
  assert dataclasses.replace(second, blur=1.0, solarize=0.0) == first


def test_strong_weak_changes_the_colours_of_the_first_view_alone():
  recipe = recipes.strong_weak(32)
  strong, weak = recipe.views
  assert strong == recipes.simclr(32, 0.5, area=(0.2, 1.0)).views[0]
  assert weak == recipes.crop_flip(32, (0.2, 1.0)).views[0]
  assert strong.recolours and not weak.recolours and recipe.input_crop == 1.0


def test_dino_has_byols_pair_and_small_views():
  views = recipes.dino(small_views=3).views
  assert [view.size for view in views] == [224, 224, 96, 96, 96]
  assert [(view.blur, view.solarize) for view in views] == [(1.0, 0.0), (0.1, 0.2)] + [(0.5, 0.0)] * 3
  assert {(view.brightness, view.contrast, view.saturation, view.hue) for view in views} == {(0.4, 0.4, 0.2, 0.1)}
  assert {view.area for view in views} == {(0.4, 1.0), (0.05, 0.4)}
  for recipe in (recipes.dino, recipes.multi_crop):
    with pytest.raises(ValueError, match='small_views must be an integer of at least 0, got -1'):
      recipe(small_views=-1)


def test_multi_crop_is_swavs():
  views = recipes.multi_crop().views
  assert [view.size for view in views] == [224] * 2 + [96] * 6
  assert {view.area for view in views[:2]} == {(0.14, 1.0)}
  assert {view.area for view in views[2:]} == {(0.05, 0.14)}


def test_crop_flip_and_drawings_leave_colours_alone():
  assert not recipes.crop_flip(32).views[0].recolours
  assert not recipes.crop_flip(32).views[0].warps
  view = recipes.drawings(28).views[0]
  assert view.warps and not view.recolours and view.flip == 0


def test_patches_are_cpcs():
  recipe = recipes.patches(
      256, 64, 32, area=((256 / 300) ** 2,) * 2, grey=True, strength=0.0, patch_grey=0.0, patch_flip=0.0,
      color_drop=0.0, shear=0.0, elastic=0.0, subcrop=60 / 64)  # CPC v1.
  assert recipe.patches == Patches(64, 32, subcrop=60 / 64) and recipe.input_grey and recipe.views[0].grey == 1
  assert not recipe.views[0].recolours and recipe.recolours  # It is grey.
  recipe = recipes.patches()
  assert (recipe.views[0].size, recipe.patches.size, recipe.patches.stride) == (260, 80, 36)
  assert recipe.patches.view.warps and recipe.patches.view.recolours and recipe.recolours
  assert not recipes.crop_flip(32).recolours and recipes.simclr(32).recolours
  plain = recipes.patches(strength=0.0, patch_grey=0.0, shear=0.0, elastic=0.0)
  assert plain.patches.view is None and plain.recolours  # By dropping colours.


@pytest.mark.parametrize('name, value', [
    ('size', 0), ('stride', 0), ('flip', 1.5), ('color_drop', -0.1), ('subcrop', 0.0), ('subcrop', 60),
    ('view', View(9))])
def test_patch_errors_name_the_argument(name, value):
  with pytest.raises(ValueError, match=rf'^{name} .*{getattr(value, "size", value)}'):
    Patches(**{'size': 8, 'stride': 4, name: value})


@pytest.mark.parametrize('size', [30, 7])
def test_patches_fit_the_view(size):
  with pytest.raises(ValueError, match=f'size must be the size of a patch, 8, plus a multiple .* 4, got {size}'):
    recipes.patches(size, 8, 4)


@pytest.mark.parametrize('size, kernel', [(224, 23), (96, 9), (32, 3), (28, 3), (10, 1)])
def test_kernel_is_a_tenth_made_odd(size, kernel):
  assert View(size).kernel_size == kernel


@pytest.mark.parametrize('name, value', [
    ('size', 0), ('size', 2.5), ('area', (0.0, 1.0)), ('area', (0.5, 1.5)), ('area', (0.5, 0.2)), ('ratio', (1.0,)),
    ('flip', 1.5), ('jitter', -0.1), ('grey', 2), ('blur', 7), ('solarize', -1), ('hue', 0.6), ('brightness', -0.1),
    ('contrast', -0.1), ('saturation', -0.1), ('sigma', (0.0, 1.0)), ('rotation', -1), ('shear', -1),
    ('log_scale', -1), ('translation', -1), ('elastic', -1), ('elastic_grid', 1), ('thickness', -1)])
def test_view_errors_name_the_argument(name, value):
  with pytest.raises(ValueError, match=rf'^{name} .*{str(value).replace("(", ".").replace(")", ".")}'):
    View(**{'size': 8, name: value})


def test_recipe_errors_name_the_argument():
  with pytest.raises(ValueError, match='^views '):
    Recipe((), 8)
  with pytest.raises(ValueError, match='^input_size .*0'):
    Recipe((View(8),), 0)
  with pytest.raises(ValueError, match='^input_crop .*1.5'):
    Recipe((View(8),), 8, 1.5)
  with pytest.raises(ValueError, match='^strength .*3'):
    recipes.simclr(strength=3)


def test_spectrograms_are_neither_mirrored_nor_recoloured():
  recipe = recipes.spectrogram(32, 8000, 0.5)
  assert len(recipe.views) == 2 and (recipe.input_size, recipe.input_crop) == (32, 1.0) and not recipe.recolours
  assert recipe.spectrogram == recipes.Spectrogram(8000, 0.5) and recipe.spectrogram.length == 4000
  with pytest.raises(ValueError, match='^flip must be 0 of a spectrogram'):
    dataclasses.replace(recipe, views=(View(32),))
  with pytest.raises(ValueError, match='^input_crop must be 1 of a spectrogram, got 0.5'):
    dataclasses.replace(recipe, input_crop=0.5)
  with pytest.raises(ValueError, match='^seconds must be at least 0.004, .* 32 columns .*, got 0.003'):
    recipes.spectrogram(32, 8000, 0.003)


@pytest.mark.parametrize('name, value', [
    ('rate', 0), ('rate', 8000.0), ('seconds', 0.0), ('seconds', float('inf')), ('seconds', float('nan')),
    ('low', -1.0), ('low', 4000.0), ('high', 50.0), ('high', 4001.0), ('dynamic_range', 0.0),
    ('dynamic_range', 130.0)])
def test_spectrogram_errors_name_the_argument(name, value):
  with pytest.raises(ValueError, match=rf'{name} .*{value}'):
    recipes.Spectrogram(**{'rate': 8000, 'seconds': 1.0, name: value})


def test_lists_from_a_config_become_tuples():
  view = View(8, area=[0.2, 0.5], ratio=[1, 1], sigma=[1, 2])
  assert hash(view) == hash(View(8, area=(0.2, 0.5), ratio=(1, 1), sigma=(1, 2)))


def test_speech_is_cpcs_window():
  recipe = recipes.speech(strength=0)
  assert (recipe.rate, recipe.window, recipe.span) == (16000, 20480, 20480)
  assert (recipe.input_length, recipe.frame) == (20480, 512)
  assert recipe == recipes.Audio(16000, 20480)


def test_span_is_enough_for_the_fastest_view():
  recipe = recipes.Audio(8000, 1000, tempo=0.1, speed=0.2, input_seconds=0.5)
  assert (recipe.stretched, recipe.span, recipe.input_length, recipe.frame) == (1222, 1351, 4000, 256)
  strong = recipes.speech(8000, 4096, strength=2.0)
  assert (strong.tempo, strong.speed, strong.noise, strong.gain) == (0.2, 0.0, 1.0, (-12.0, 12.0))


@pytest.mark.parametrize('name, value', [
    ('rate', 0), ('rate', 8000.0), ('window', 0), ('views', 0), ('input_seconds', 0.0), ('tempo', -0.1), ('tempo', 1.5),
    ('speed', 2), ('noise', 1.5), ('snr', (3.0, 1.0)), ('snr', (1.0,)), ('time_mask', -1), ('time_masks', 0),
    ('time_mask_share', 1.5), ('gain', (1.0, -1.0)), ('polarity', 2)])
def test_audio_errors_name_the_argument(name, value):
  with pytest.raises(ValueError, match=rf'^{name} .*{str(value).replace("(", ".").replace(")", ".")}'):
    recipes.Audio(**{'rate': 8000, 'window': 100, name: value})
