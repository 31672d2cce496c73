"""A run as two functions, and as files for other projects."""

import os
import sys

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jaxssl
from jaxssl import evaluation, export, methods, models
from jaxssl.cli import measure, runs
from jaxssl.cli.export import _counterpart, write
from jaxssl.cli.train import train
from jaxssl.data import load as load_data

sys.path.insert(0, os.path.dirname(__file__))
from tiny_config import get_config


@pytest.fixture(scope='module')
def run(tmp_path_factory):
  path = tmp_path_factory.mktemp('run')
  config = get_config()
  config.mesh.data, config.steps = 8, 2
  with jax.numpy_rank_promotion('raise'):
    train(config, str(path))
  return path


def test_features_are_those_of_the_evaluation(run):
  images = load_data('bundled', 'omniglot', '', 'test').inputs[:5]
  represent, preprocess = jaxssl.load(run)
  expected = evaluation.extract(measure.encoders(runs.restore(str(run)))['trained'], images, batch_size=5)
  np.testing.assert_allclose(represent(preprocess(images)), expected, atol=1e-6)
  np.testing.assert_allclose(
      represent(preprocess(np.float32(images) / 255)), expected, atol=1e-6, err_msg='floats in [0, 1]')
  assert jaxssl.load(run, representation='z').represent(preprocess(images)).shape == (5, 8)


def test_what_cannot_be_loaded_is_named(run, tmp_path):
  with pytest.raises(ValueError, match="representation must be one of 'h', .*'z', got 'c'"):
    jaxssl.load(run, representation='c')
  with pytest.raises((ValueError, FileNotFoundError), match=str(tmp_path)):
    jaxssl.load(tmp_path / 'nothing')


@pytest.mark.parametrize('change, message', [
    (lambda x: x[..., 0], r'images must be \[b, h, w, 1 or 3\], none of them 0, got \[5, 28, 28\]'),
    (lambda x: x[0], r'\[28, 28, 1\]'),
    (lambda x: x[:0], r'\[0, 28, 28, 1\]'),
    (lambda x: np.concatenate([x, x], axis=-1), r'\[5, 28, 28, 2\]'),
    (list, r'got \[28, 28, 1\] and \[28, 28, 1\]'),
    (lambda x: x.astype(np.float32), r'images must be uint8, or floats in \[0, 1\], got float32 from 0 to 255'),
    (lambda x: np.full(x.shape, np.nan, np.float32), 'got float32 from nan to nan'),
    (lambda x: None, r'got \[\]$'),
    (lambda x: [[[1, 2], [3]]], 'images must be an array, got .*list'),
    (lambda x: x.astype(int), r'images must be uint8, or floats in \[0, 1\], got int64'),
])
def test_images_that_are_none_are_named(run, change, message):
  with pytest.raises(ValueError, match=message):
    jaxssl.load(run).preprocess(change(load_data('bundled', 'omniglot', '', 'test').inputs[:5]))


def test_what_was_not_prepared_is_refused(run):
  with pytest.raises(ValueError, match='inputs must be what preprocess returns, in float32, got uint8'):
    jaxssl.load(run).represent(np.zeros((2, 14, 14, 1), np.uint8))


def test_what_it_sees_can_be_a_part_of_a_compiled_function(run):
  images = np.float32(load_data('bundled', 'omniglot', '', 'test').inputs[:2]) / 255
  represent, preprocess = jaxssl.load(run)
  together = lambda x: represent(preprocess(x))
  np.testing.assert_allclose(jax.jit(together)(images), together(images), atol=1e-5)
  assert jnp.any(jax.grad(lambda x: together(x).sum())(jnp.asarray(images)) != 0)


def test_weights_and_program_are_those_of_the_run(run, tmp_path, capsys):
  represent, preprocess = jaxssl.load(run)
  x = preprocess(load_data('bundled', 'omniglot', '', 'test').inputs[:3])
  write(str(run), str(tmp_path / 'new' / 'encoder.safetensors'))
  assert 'encoder.safetensors: SimCLR, step 2, images of 14 x 14 with 1 channel' in capsys.readouterr().out
  encoder = runs.restore(str(run)).experiment.method.encoder
  variables = export.load(tmp_path / 'new' / 'encoder.safetensors', encoder, 14)
  np.testing.assert_allclose(encoder.apply(variables, x), represent(x), atol=1e-6)
  write(str(run), str(tmp_path / 'encoder.stablehlo'))
  program = jax.export.deserialize(bytearray((tmp_path / 'encoder.stablehlo').read_bytes()))
  np.testing.assert_allclose(program.call(jnp.asarray(x)), represent(x), rtol=1e-5, atol=1e-6)


def test_what_leaves_a_run_is_what_is_evaluated_where_it_is_a_moving_average(run, tmp_path, monkeypatch):
  encoder = models.ViT(7, 8, 1, 2, class_token=False, pool='mean')
  method = methods.IJEPA(encoder, models.JEPAPredictor(8, 1, 2), optax.sgd(0.1), momentum=0.5)
  images = np.random.default_rng(0).random((2, 14, 14, 1), np.float32)
  state = jax.jit(method.init)(jax.random.key(0), {'views': (images,)})
  state = state._replace(params=jax.tree.map(lambda x: x + 0.1, state.params), step=jnp.int32(3))
  made = runs.restore(str(run))
  made.config.evaluation.representation = ''
  made = made._replace(experiment=made.experiment._replace(method=method), state=state)
  monkeypatch.setattr(runs, 'restore', lambda *args: made)
  write(str(run), str(tmp_path / 'encoder.safetensors'))
  learned = encoder.clone(positions='learned')
  features = learned.apply(export.load(tmp_path / 'encoder.safetensors', learned, 14), images)
  np.testing.assert_allclose(features, method.represent(state, images), atol=1e-6)
  assert np.abs(features - method.represent(state, images, 'online')).max() > 1e-3
  fresh = jax.jit(method.init)(jax.random.key(1), {'views': (images,)})
  started = runs.start_from(fresh, str(run), made.experiment)
  jax.tree.map(np.testing.assert_array_equal, started.params['encoder'], method.backbone(state)[1]['params'])


def test_an_export_that_fails_leaves_the_old_file(run, tmp_path, monkeypatch):
  for kind in ('safetensors', 'stablehlo'):
    file = tmp_path / f'encoder.{kind}'
    file.write_text('old')
    with monkeypatch.context() as patch:
      patch.setattr(os, 'replace', lambda *args: (_ for _ in ()).throw(OSError(28, 'No space left on device')))
      with pytest.raises(OSError, match=f'encoder.{kind} cannot be written: No space left on device'):
        write(str(run), str(file))
    assert file.read_text() == 'old' and sorted(path.name for path in tmp_path.iterdir())[-1] == file.name


@pytest.mark.parametrize('encoder, size, channels, expected', [
    (models.resnet18(), 96, 3, "timm.create_model('resnet18', in_chans=3, num_classes=0)"),
    (models.resnet50(stem='d', average_pool_shortcut=True), 224, 3, "timm.create_model('resnet50d', in_chans=3"),
    (models.resnet34(stem='small'), 32, 1, 'torchvision.models.resnet34() with conv1 = torch.nn.Conv2d(1, 64, 3'),
    (models.ResNet((1, 1), 'basic', (4, 8)), 28, 1, 'no model of torchvision or timm'),
    (models.vit_tiny(16, registers=4), 96, 3, 'VisionTransformer(img_size=96, patch_size=16, in_chans=3'),
])
def test_the_model_that_takes_the_weights_is_named(encoder, size, channels, expected):
  assert expected in _counterpart(encoder, size, channels)


def test_files_of_another_kind_are_refused(run, tmp_path):
  with pytest.raises(ValueError, match='--out .*checkpoints/e.safetensors must lie outside .*checkpoints'):
    write(str(run), str(run / 'checkpoints' / 'e.safetensors'))
  with pytest.raises(ValueError, match='--out encoder.pt must end in .safetensors or .stablehlo'):
    write(str(run), 'encoder.pt')
  with pytest.raises(ValueError, match='--representation is for a .stablehlo'):
    write(str(run), 'encoder.safetensors', representation='z')
  (tmp_path / 'file').touch()
  with pytest.raises(OSError, match='encoder.safetensors cannot be written: '):
    write(str(run), str(tmp_path / 'file' / 'encoder.safetensors'))
