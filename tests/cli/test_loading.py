"""A run as two functions, and as files for other projects."""

import os
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxssl
from jaxssl import evaluation, export
from jaxssl.cli import measure, runs
from jaxssl.cli.export import write
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


def test_files_of_another_kind_are_refused(run, tmp_path):
  with pytest.raises(ValueError, match='--out encoder.pt must end in .safetensors or .stablehlo'):
    write(str(run), 'encoder.pt')
  with pytest.raises(ValueError, match='--representation is for a .stablehlo'):
    write(str(run), 'encoder.safetensors', representation='z')
  (tmp_path / 'file').touch()
  with pytest.raises(OSError, match='encoder.safetensors cannot be written: '):
    write(str(run), str(tmp_path / 'file' / 'encoder.safetensors'))
