"""How good samples are, and pictures of them over training: rows, files, what is kept, what is refused."""

import os
import shutil
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from jaxssl.build import load_source
from jaxssl.cli import evaluation_options, measure_generative, pictures_samples, runs
from jaxssl.cli.eval import evaluate
from jaxssl.cli.train import train
from jaxssl.evaluation import feature_network
from jaxssl.training.checkpoints import checksum

sys.path.insert(0, os.path.dirname(__file__))
from processes import rows_of
from tiny_config import get_config

FIGURES = ('frechet_distance', 'precision', 'recall')


def optimizer():
  return {'name': 'adamw', 'learning_rate': {'name': 'constant', 'base': 0.002, 'scaling': 'none'}}


def gan(**fields):
  return {'name': 'gan', 'latent_size': 4, 'discriminator': {'name': 'mlp_discriminator', 'features': (8,)},
          'generator': {'name': 'generator', 'decoder': {'name': 'mlp_decoder', 'features': (8,)}},
          'optimizer': optimizer(), 'generator_optimizer': optimizer(), **fields}


def config(data, method=None, **overrides):
  made = get_config()
  made.mesh.data = 8
  with made.unlocked():
    recipe = {'name': 'paired'} if 'vectors' in str(data) else {'name': 'crop_flip', 'views': 1}
    made.data = {'source': 'npz', 'name': '', 'path': str(data), 'engine': 'device', 'recipe': {**recipe, 'size': 12}}
    made.method = method or gan()
    made.steps, made.checkpoint.every = 4, 2
    made.evaluation.update({'protocols': ('samples',), 'samples': {'count': 50, 'steps': 2}})
    made.update_from_flattened_dict(overrides)
  return made


def values(path):
  return {(row['metric'], row['features']): row['value'] for row in rows_of(path) if row['protocol'] == 'samples'}


@pytest.fixture(scope='module', autouse=True)
def small_judge():
  """Convolutions take long where nothing is optimised."""
  with pytest.MonkeyPatch.context() as patch:
    patch.setattr(feature_network, 'WIDTHS', (4, 4, 8))
    patch.setattr(feature_network, 'BATCH_SIZE', 8)
    yield


@pytest.fixture(scope='module')
def images(tmp_path_factory):
  """Of 20 kinds of bundled drawings six to train on and three to test on."""
  data = get_config().data.to_dict()
  data['recipe']['size'] = 12
  arrays = {}
  for split, count in (('train', 6), ('test', 3)):
    source = load_source({'data': data}, split)
    kept = np.concatenate([np.flatnonzero(source.labels == label)[:count] for label in range(20)])
    arrays |= {f'{split}_images': source.inputs[kept], f'{split}_labels': source.labels[kept]}
  path = tmp_path_factory.mktemp('images') / 'drawings.npz'
  np.savez(path, **arrays)
  return path


@pytest.fixture(scope='module')
def drawings(images, small_judge):
  path = images.parent / 'run'
  with jax.numpy_rank_promotion('raise'):
    train(config(images, **{'evaluation.pictures': True}), str(path))
  return path


@pytest.fixture(scope='module')
def vectors(tmp_path_factory, small_judge):
  """200 vectors of 6 numbers in four heaps, with labels and without."""
  path = tmp_path_factory.mktemp('vectors')
  rng = np.random.default_rng(0)
  labels = np.arange(200) % 4
  x = 3 * rng.normal(size=(4, 6))[labels] + rng.normal(size=(200, 6))
  np.savez(path / 'labelled.npz', view_0=x, labels=labels)
  np.savez(path / 'alone.npz', view_0=x)
  return path


def test_every_figure_has_its_row(drawings):
  found = values(drawings)
  assert set(found) == {(metric, features) for metric in FIGURES for features in ('train', 'random', 'trained')}
  assert 0 < found['frechet_distance', 'train'] < found['frechet_distance', 'random']
  assert found['precision', 'train'] > 0.3 > found['recall', 'random']
  common = {'num_samples': 50, 'num_test': 60, 'network': 'classifier', 'data': 'drawings', 'step': 4, 'seed': 1,
            'network_chance': 1 / 20}
  assert all(common.items() <= row.items() and 0 <= row['network_accuracy'] <= 1 for row in rows_of(drawings))


def test_the_judge_is_kept_and_samples_do_not_depend_on_their_batch(drawings, images, tmp_path, capsys):
  path = tmp_path / 'copy'
  shutil.copytree(drawings, path)
  before, written = values(path), (path / 'fidelity.npz').read_bytes()
  evaluate(config(images, **{'evaluation.batch_size': 17}), str(path))
  out = capsys.readouterr().out
  assert 'Training the classifier' not in out and (path / 'fidelity.npz').read_bytes() == written
  for key, value in values(path).items():
    np.testing.assert_allclose(value, before[key], rtol=1e-3)
  (path / 'fidelity.npz').write_bytes(written[:2000])
  evaluate(config(images), str(path))
  out = capsys.readouterr().out
  assert 'fidelity.npz is damaged' in out and 'Training the classifier whose features judge samples, 2 steps' in out
  assert values(path) == before and (path / 'fidelity.npz').read_bytes() == written
  evaluate(config(images, **{'evaluation.samples.count': None, 'evaluation.samples.steps': 1}), str(path))
  assert 'fidelity.npz was trained on other data, or in another way. Training' in capsys.readouterr().out
  assert {row['num_samples'] for row in rows_of(path)} == {60}


def test_pictures_over_training_and_between_draws(drawings):
  names = {each.name for each in (drawings / 'samples').iterdir()}
  assert names == {'0.png', '2.png', '4.png'}
  assert (drawings / 'samples' / '4.png').read_bytes() == (drawings / 'pictures' / 'samples.png').read_bytes()
  shown = [np.asarray(Image.open(drawings / 'samples' / name)).astype(int) for name in ('0.png', '2.png', '4.png')]
  assert all(np.abs(shown[i] - shown[i + 1]).max() > 0 for i in (0, 1))
  with Image.open(drawings / 'pictures' / 'training.gif') as gif:
    assert gif.n_frames == 3 and gif.size == (shown[0].shape[1], shown[0].shape[0] + 16)
  with Image.open(drawings / 'pictures' / 'latents.png') as latents:
    assert latents.size == (12 * 64 + 12, 6 * 64 + 12)
  page = (drawings / 'report.html').read_text()
  assert 'data:image/gif;base64' in page and 'Samples over training, of the same draws of z, from step 0 to 4' in page
  assert 'From one draw of z to another, along the great circle' in page and 'training examples' in page


def test_a_run_without_pictures_ends_in_the_same_state(drawings, images, tmp_path):
  train(config(images, **{'evaluation.protocols': ('knn',)}), str(tmp_path / 'plain'))
  assert not (tmp_path / 'plain' / 'samples').exists()
  assert checksum(runs.restore(str(tmp_path / 'plain')).state) == checksum(runs.restore(str(drawings)).state)


def test_a_resumed_run_keeps_the_earlier_frames(drawings, images, tmp_path):
  path = tmp_path / 'resumed'
  shutil.copytree(drawings, path)
  last = (path / 'samples' / '4.png').read_bytes()
  kept = {name: (path / 'samples' / name).stat().st_mtime_ns for name in ('0.png', '2.png')}
  for each in ('checkpoints/4', 'samples/4.png', 'pictures/training.gif', 'results.json'):
    shutil.rmtree(path / each) if (path / each).is_dir() else (path / each).unlink()
  train(config(images, **{'evaluation.pictures': True}), str(path))
  assert kept == {name: (path / 'samples' / name).stat().st_mtime_ns for name in kept}
  assert (path / 'samples' / '4.png').read_bytes() == last
  with Image.open(path / 'pictures' / 'training.gif') as gif:
    assert gif.n_frames == 3


def test_vectors_are_judged_by_an_mlp(vectors):
  path, method = vectors / 'run', gan()
  method['generator']['output'] = 'linear'
  train(config(vectors / 'labelled.npz', method, **{
      'evaluation.samples.steps': 60, 'evaluation.samples.count': 40}), str(path))
  found = values(path)
  assert found['frechet_distance', 'train'] < found['frechet_distance', 'trained']
  assert found['precision', 'train'] > 0.5 and rows_of(path)[0]['network_accuracy'] > 0.5


def test_without_labels_the_network_is_random(vectors, capsys):
  train(config(vectors / 'alone.npz', **{'steps': 1}), str(vectors / 'unlabelled'))
  rows = [row for row in rows_of(vectors / 'unlabelled') if row['protocol'] == 'samples']
  assert len(rows) == 9 and all(row['network'] == 'random' and 'network_accuracy' not in row for row in rows)
  assert 'a network with random weights' in capsys.readouterr().out
  assert not (vectors / 'unlabelled' / 'fidelity.npz').exists()


def test_vectors_have_a_map_of_codes_of_two_dimensions_and_no_samples_to_see(vectors):
  vae = {'name': 'vae', 'latent_size': 2, 'likelihood': 'gaussian',
         'encoder': {'name': 'mlp_encoder', 'features': (8,)},
         'decoder': {'name': 'mlp_decoder', 'features': (8,)}, 'optimizer': optimizer()}
  train(config(vectors / 'labelled.npz', vae, **{'evaluation.pictures': True}), str(vectors / 'vae'))
  assert {('frechet_distance', 'trained'), ('recall', 'train')} <= set(values(vectors / 'vae'))
  assert (vectors / 'vae' / 'pictures' / 'codes.png').exists()
  assert not (vectors / 'vae' / 'samples').exists() and not (vectors / 'vae' / 'pictures' / 'training.gif').exists()
  assert 'Codes z of test examples, as they are' in (vectors / 'vae' / 'report.html').read_text()


@pytest.mark.parametrize('overrides, message', [
    ({'evaluation.samples.count': 3}, 'config.evaluation.samples.count must be an integer from 4 on, got 3'),
    ({'evaluation.samples': {'count': 8.0}}, 'config.evaluation.samples.count must be an integer from 4 on, got 8.0'),
    ({'evaluation.samples': 3}, 'config.evaluation.samples must be a section of count and steps, got 3'),
    ({'evaluation.samples.steps': 0}, 'config.evaluation.samples.steps must be an integer from 1 on, got 0'),
    ({'evaluation.samples': {'draws': 5}}, "config.evaluation.samples has count and steps alone; got 'draws'"),
    ({'method': get_config().method}, "'samples' is for methods that generate; SimCLR does not"),
])
def test_what_does_not_fit_is_refused_before_the_run(images, tmp_path, overrides, message):
  made = config(images)
  with made.unlocked():
    for key, value in overrides.items():
      section, _, last = key.rpartition('.')
      owner = made if not section else made.evaluation if section == 'evaluation' else made.evaluation.samples
      if last in owner:
        del owner[last]  # A section takes no number.
      owner[last] = value
  with pytest.raises(ValueError, match=message):
    train(made, str(tmp_path / 'refused'))
  assert not (tmp_path / 'refused').exists()


def test_too_few_test_examples_are_refused_before_the_run(tmp_path):
  x = np.random.default_rng(0).normal(size=(20, 6))
  np.savez(tmp_path / 'few_vectors.npz', train_view_0=x, test_view_0=x[:3])
  with pytest.raises(ValueError, match="'samples' needs at least 4 test examples; few_vectors has 3"):
    train(config(tmp_path / 'few_vectors.npz'), str(tmp_path / 'refused'))
  assert not (tmp_path / 'refused').exists()


@pytest.mark.parametrize('given, expected', [
    (None, {'count': None, 'steps': 500}), ({}, {'count': None, 'steps': 500}),
    ({'count': None, 'steps': 7}, {'count': None, 'steps': 7}), ({'count': 9}, {'count': 9, 'steps': 500})])
def test_the_section_can_be_set_from_the_command_line(given, expected):
  options = config('').evaluation
  with options.unlocked():
    del options['samples']
    if given is not None:
      options.samples = given
    evaluation_options.complete(options)
  assert options.samples.to_dict() == expected
  options.samples.count = 50
  options.samples.steps = 8
  assert options.samples.to_dict() == {'count': 50, 'steps': 8}


def test_other_methods_have_no_such_section():
  options = get_config().evaluation
  evaluation_options.complete(options)
  assert 'samples' not in options


class Generator:
  """A stand-in whose samples, or what it makes of z, have another shape."""

  representations = ('h',)

  def __init__(self, wrong):
    self.wrong = wrong

  def sample(self, state, key, n, shape):
    return jnp.zeros((n, *shape, *([1] if self.wrong == 'sample' else [])))

  def latents(self, key, n):
    return jnp.zeros((n, 3))

  def generate(self, state, z, shape):
    return jnp.zeros((len(z), 2)) if self.wrong == 'generate' else jnp.zeros((len(z), *shape))


@pytest.mark.parametrize('wrong', ['sample', 'generate'])
def test_wrong_shapes_show_in_the_trace(drawings, wrong):
  experiment = runs.restore(str(drawings)).experiment._replace(method=Generator(wrong))
  with pytest.raises(ValueError, match=rf'{wrong} must return inputs, \[2, 12, 12, 1\], got shape \[2, '):
    measure_generative.trace(experiment, None, jax.ShapeDtypeStruct((16, 12, 12, 1), jnp.float32))


def test_ways_between_draws():
  rng = np.random.default_rng(0)
  start, end, weights = rng.normal(size=(5, 7)), rng.normal(size=(5, 7)), np.linspace(0, 1, 9)
  for way in (pictures_samples.straight, pictures_samples.great_circle):
    found = way(start, end, weights)
    np.testing.assert_allclose(found[:, 0], start, atol=1e-12)
    np.testing.assert_allclose(found[:, -1], end, atol=1e-12)
  unit = lambda x: x / np.linalg.norm(x, axis=-1, keepdims=True)
  found = pictures_samples.great_circle(unit(start), unit(end), weights)
  np.testing.assert_allclose(np.linalg.norm(found, axis=-1), 1, atol=1e-12)
  turned = np.sum(found[:, 1:] * found[:, :-1], axis=-1)  # Equal steps.
  np.testing.assert_allclose(turned, np.repeat(turned[:, :1], 8, axis=1), atol=1e-12)
  assert np.linalg.norm(pictures_samples.straight(unit(start), unit(end), weights), axis=-1).min() < 0.95
  for factor in (2.0, -1.0, 0.0):  # In one direction, in opposite ones, to the origin.
    np.testing.assert_allclose(pictures_samples.great_circle(start, factor * start, weights),
                               pictures_samples.straight(start, factor * start, weights), atol=1e-6)


def test_a_long_run_has_a_short_animation(tmp_path):
  assert pictures_samples.animate(str(tmp_path), 10, str(tmp_path / 'none.gif')) == {}
  folder = tmp_path / 'samples'
  folder.mkdir()
  for step in range(0, 2000, 10):
    Image.new('L', (20, 20), step // 10).save(folder / f'{step}.png')
  (folder / '.990.png').write_bytes(b'half a pic')
  (folder / 'note.txt').write_text('mine')
  assert pictures_samples.animate(str(tmp_path), 5, str(tmp_path / 'none.gif')) == {}
  found = pictures_samples.animate(str(tmp_path), 1000, str(tmp_path / 'training.gif'))
  assert list(found) == ['Samples over training, of the same draws of z, from step 0 to 1,000']
  with Image.open(tmp_path / 'training.gif') as gif:
    assert gif.n_frames == 40
    gif.seek(39)
    assert gif.convert('L').getpixel((10, 30)) == 100 and gif.info['duration'] == 3000
