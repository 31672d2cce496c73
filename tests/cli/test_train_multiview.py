"""The commands on several views: of colours, with a memory, and of the user's own paired arrays."""

import os
import sys

import jax
import numpy as np
import pytest

import jaxssl
from jaxssl import export
from jaxssl.build import load_source
from jaxssl.cli import pictures, runs
from jaxssl.cli.eval import evaluate
from jaxssl.cli.export import write
from jaxssl.cli.train import train

sys.path.insert(0, os.path.dirname(__file__))
from processes import rows_of
from tiny_config import get_config

MULTIVIEW = {'name': 'multiview', 'size': 12, 'modalities': ('L', 'ab')}
PAIRED = {'name': 'paired', 'size': 12, 'aligned': False}
BY_SHAPE = {'name': 'by_shape', 'images': {'name': 'resnet', 'stage_sizes': (1,), 'block': 'basic', 'widths': (6,),
                                           'stem': 'small'},
            'vectors': {'name': 'mlp', 'features': (6,)}}


def config(path, recipe, encoder=BY_SHAPE, **overrides):
  made = get_config()
  made.mesh.data = 8
  with made.unlocked():
    made.data = {'source': 'npz', 'name': '', 'path': path, 'engine': 'device', 'recipe': recipe}
    made.method = {
        'name': 'cmc', 'views': 2, 'shared': False, 'graph': 'full', 'contrast': 'batch', 'temperature': 0.2,
        'num_negatives': 8, 'momentum': 0.5, 'encoder': encoder,
        'head': {'name': 'mlp', 'features': (4,), 'output_bn': False, 'output_bias': True},
        'optimizer': {'name': 'sgd', 'learning_rate': {'name': 'step_decay', 'base': 0.05, 'scaling': 'none'}}}
    made.evaluation.update({'protocols': ('knn', 'finetune'), 'batch_size': 32, 'pictures': True})
    made.evaluation.finetune.update({'batch_size': 16})
    made.update_from_flattened_dict(overrides)
  return made


@pytest.fixture(scope='module')
def data(tmp_path_factory):
  path = tmp_path_factory.mktemp('multiview')
  rng = np.random.default_rng(0)
  labels = np.arange(48) % 3
  images = np.clip(80 * labels[:, None, None, None] + rng.integers(0, 90, (48, 12, 12, 3)), 0, 255).astype(np.uint8)
  np.savez(path / 'images.npz', images=images, labels=labels)
  np.savez(path / 'grey.npz', images=images[..., :1], labels=labels)
  np.savez(path / 'views.npz', view_0=images, view_1=labels[:, None] + rng.normal(size=(48, 5)), labels=labels)
  np.savez(path / 'vectors.npz', view_0=rng.normal(size=(48, 7)), view_1=rng.normal(size=(48, 5)))
  return path


@pytest.fixture(scope='module')
def colours(data):
  made = config(str(data / 'images.npz'), MULTIVIEW, **{'method.contrast': 'memory_nce'})
  train(made, str(data / 'colours'))
  return data / 'colours', made


def test_table_and_pictures_of_colours(colours):
  path, _ = colours
  assert {(row['protocol'], row['features'], row['representation']) for row in rows_of(path)} == {
      ('knn', 'raw', 'inputs'), ('knn', 'random', 'h'), ('knn', 'trained', 'h'), ('finetune', 'random', 'h'),
      ('finetune', 'trained', 'h')}
  assert {each.name for each in (path / 'pictures').iterdir()} == {
      'loss.png', 'metrics.png', 'embedding.png', 'neighbours.png'}


def test_the_memory_covers_the_pretraining_examples_and_is_restored(colours):
  path, _ = colours
  memory = runs.restore(str(path)).state.stats['memory']
  assert [bank.shape for bank in memory.banks] == [(39, 4)] * 2 and np.all(memory.normalizers > 0)


@pytest.mark.parametrize('name', ['z_view1', 'stage1'])
def test_eval_of_another_representation(data, name):
  resnet = config(str(data / 'images.npz'), MULTIVIEW, BY_SHAPE['images'], **{
      'evaluation.representation': name, 'evaluation.protocols': ('knn',),
      'evaluation.pictures': False, 'steps': 1})
  train(resnet, str(data / name))
  assert {row['representation'] for row in rows_of(data / name)} == {'inputs', name}


def test_representations_of_different_views_are_evaluated_one_by_one(data):
  both = config(str(data / 'images.npz'), MULTIVIEW, BY_SHAPE['images'], **{
      'evaluation.representation': 'z_view0,z_view1'})
  with pytest.raises(ValueError, match="must be a single one where each is of other views.*; got 'z_view0,z_view1'"):
    train(both, str(data / 'both'))
  assert not (data / 'both').exists()


def test_colours_of_grey_images_are_refused_before_the_run(data):
  with pytest.raises(ValueError, match='config.method does not suit the data: rgb_to_lab needs images with three chan'):
    train(config(str(data / 'grey.npz'), MULTIVIEW), str(data / 'grey'))
  assert not (data / 'grey').exists()


def test_paired_views_from_training_to_the_table(data):
  made = config(str(data / 'views.npz'), PAIRED)
  train(made, str(data / 'paired'))
  found = {row['features']: row['value'] for row in rows_of(data / 'paired') if row['protocol'] == 'knn'}
  assert set(found) == {'raw', 'random', 'trained'}
  assert (data / 'paired' / 'pictures' / 'neighbours.png').exists()
  other = config(str(data / 'views.npz'), PAIRED, **{
      'evaluation.representation': 'h_view1', 'evaluation.protocols': ('knn',), 'evaluation.pictures': False})
  evaluate(other, str(data / 'paired'), embed=str(data / 'features.npz'))
  with np.load(data / 'features.npz') as features:
    assert features['train_features'].shape == (39, 6) and features['test_labels'].shape == (9,)


def program_of(path, out):
  write(str(path), str(out))
  return jax.export.deserialize(bytearray(out.read_bytes()))


def test_a_program_of_several_views_takes_as_many_arrays(data, colours, tmp_path, capsys):
  images, vectors = (np.load(data / 'views.npz')[name] for name in ('view_0', 'view_1'))
  train(config(str(data / 'views.npz'), PAIRED, **{
      'steps': 1, 'evaluation.protocols': ('knn',), 'evaluation.pictures': False}), str(data / 'program'))
  capsys.readouterr()
  program = program_of(data / 'program', tmp_path / 'paired.stablehlo')
  out = capsys.readouterr().out
  assert 'views [b, 12, 12, 3] and [b, 5], float32, as `preprocess`' in out and '.call(view_0, view_1)' in out
  represent, preprocess = jaxssl.load(data / 'program')
  seen = preprocess((images[:4], vectors[:4]))
  np.testing.assert_allclose(program.call(*seen), represent(seen), rtol=1e-5, atol=1e-6)
  wanted = r'images must be a tuple of 2 arrays of the same b, \[b, h, w, 3\] and \[b, 5\], none of them 0, got '
  for given, found in ((images[:4], r'\[4, 12, 12, 3\]'), ((images[:4],), r'\[4, 12, 12, 3\]'),
                       ((images[:4], vectors[:3]), r'\[4, 12, 12, 3\] and \[3, 5\]'),
                       ((images[:4, ..., :1], vectors[:4]), r'\[4, 12, 12, 1\] and \[4, 5\]')):
    with pytest.raises(ValueError, match=wanted + found):
      preprocess(given)
  represent, preprocess = jaxssl.load(colours[0])  # L and ab, of one image.
  seen = preprocess(images[:4])
  with pytest.raises(ValueError, match=r'images must be \[b, h, w, 1 or 3\], none of them 0, got \[\]'):
    preprocess({'view_0': images})
  program = program_of(colours[0], tmp_path / 'colours.stablehlo')
  np.testing.assert_allclose(program.call(*seen), represent(seen), rtol=1e-5, atol=1e-6)


def test_an_encoder_for_each_view_is_the_same_config_when_read_back(data, capsys):
  made = config(str(data / 'views.npz'), PAIRED, (BY_SHAPE['images'], BY_SHAPE['vectors']), **{
      'steps': 2, 'evaluation.protocols': ('knn',), 'evaluation.pictures': False})
  for message in ('Evaluating step 2', 'This run is finished, at step 2'):
    train(made, str(data / 'tuple'))
    assert message in capsys.readouterr().out


def test_weights_are_written_where_the_views_have_one_network(data, tmp_path):
  one = {'evaluation.protocols': ('knn',), 'evaluation.pictures': False, 'steps': 1}
  halves = {'name': 'multiview', 'size': 12, 'modalities': ('top', 'bottom')}
  for shared in (True, False):
    train(config(str(data / 'images.npz'), halves, BY_SHAPE['images'], **one, **{'method.shared': shared}),
          str(tmp_path / str(shared)))
  write(str(tmp_path / 'True'), str(tmp_path / 'encoder.safetensors'))
  run = runs.restore(str(tmp_path / 'True'))
  found = export.load(tmp_path / 'encoder.safetensors', run.experiment.method.encoder, 12)
  jax.tree.map(np.testing.assert_array_equal, found['params'], run.state.params['encoder']['shared'])
  with pytest.raises(ValueError, match='the encoder of cmc is not one network. Write a .stablehlo'):
    write(str(tmp_path / 'False'), str(tmp_path / 'no.safetensors'))
  assert not (tmp_path / 'no.safetensors').exists()


def test_views_without_images_and_labels_end_with_their_geometry_and_retrieval(data, capsys):
  train(config(str(data / 'vectors.npz'), PAIRED), str(data / 'unlabelled'))
  found = rows_of(data / 'unlabelled')
  assert {(row['protocol'], row['features']) for row in found} == {
      *(('geometry', kind) for kind in ('raw', 'random', 'trained')), ('retrieval', 'random'), ('retrieval', 'trained')}
  assert 'z of a view finds its counterpart (of 10)' in capsys.readouterr().out
  assert 'neighbours.png' not in {each.name for each in (data / 'unlabelled' / 'pictures').iterdir()}


def test_other_views_in_the_test_part_are_refused_before_the_run(data):
  rng = np.random.default_rng(0)
  part = lambda name, width: {f'{name}_view_{i}': rng.normal(size=(32, d)) for i, d in enumerate((7, width))}
  np.savez(data / 'other.npz', **part('train', 5), **part('test', 3))
  with pytest.raises(ValueError, match=r'the views of other are \[7\], \[3\]; the run trains on \[7\], \[5\]'):
    train(config(str(data / 'other.npz'), PAIRED), str(data / 'other'))
  assert not (data / 'other').exists()


def test_a_method_of_single_images_is_refused_before_the_run(data):
  made = config(str(data / 'images.npz'), {**MULTIVIEW, 'modalities': ('image', 'image')})
  made.method = get_config().method
  with pytest.raises(ValueError, match='config.method does not suit the data'):
    train(made, str(data / 'single'))
  assert not (data / 'single').exists()


def test_another_number_of_views_is_refused_before_the_run(data):
  with pytest.raises(ValueError, match='does not suit the data: views must be 2, as many as the data have, got 3'):
    train(config(str(data / 'views.npz'), PAIRED, **{'method.views': 3}), str(data / 'three'))
  assert not (data / 'three').exists()


@pytest.mark.parametrize('file, recipe', [
    ('images', MULTIVIEW), ('images', {**MULTIVIEW, 'modalities': ('gradients', 'image', 'left')}), ('views', PAIRED),
    ('vectors', PAIRED)])
def test_preview(data, tmp_path, file, recipe):
  made = config(str(data / f'{file}.npz'), recipe)
  drawn = pictures.preview(made, load_source(made.to_dict(), 'pretrain'), str(tmp_path))
  assert os.path.getsize(drawn) > 1000
