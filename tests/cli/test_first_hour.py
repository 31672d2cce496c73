"""What goes wrong in a user's first hour: one line that names the argument, its value and what to do."""

import os
import sys

import numpy as np
import pytest
from absl import flags
from ml_collections import config_flags

sys.path.insert(0, os.path.dirname(__file__))
from tiny_config import get_config

from jaxssl import build, data
from jaxssl.cli import launch, workdir
from jaxssl.data import _tensorflow, arrays


def config(**section):
  made = get_config().to_dict()
  return made | {'data': made['data'] | section}


@pytest.mark.parametrize('wanted, meant', [
    ('configs/simclr_cifar.py', 'configs/simclr_cifar10.py'),
    ('simclr_cifar10', 'configs/simclr_cifar10.py'),
    ('mine/my_confg.py', 'mine/my_config.py'),
    ('configs/vae', 'configs/vae_omniglot.py'),
])
def test_a_wrong_path_of_a_config_gets_the_nearest(tmp_path, monkeypatch, wanted, meant):
  monkeypatch.chdir(tmp_path)
  for name in ('configs/simclr_cifar10.py', 'configs/vae_omniglot.py', 'mine/my_config.py'):
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).touch()
  with pytest.raises(ValueError) as error:
    workdir.load_config(wanted)
  assert str(error.value) == f'--config={wanted}: there is no such file; did you mean {meant}?'


def test_a_question_ends_with_its_mark(tmp_path, monkeypatch):
  monkeypatch.chdir(tmp_path)
  (tmp_path / 'mine.py').touch()
  with pytest.raises(SystemExit) as error, launch.parsing():
    workdir.load_config('mime.py')
  assert str(error.value) == 'error: --config=mime.py: there is no such file; did you mean mine.py? See --help'


def test_a_path_that_is_like_no_other_gets_no_guess(tmp_path, monkeypatch):
  monkeypatch.chdir(tmp_path)
  with pytest.raises(ValueError, match=r'^--config=elsewhere/x.py: there is no such file$'):
    workdir.load_config('elsewhere/x.py')


@pytest.mark.parametrize('make', [lambda path: path.touch(), lambda path: os.symlink('/proc', path)])
def test_a_work_directory_that_cannot_be_made_is_named(tmp_path, make):
  make(tmp_path / 'parent')
  path = str(tmp_path / 'parent' / 'run')
  with pytest.raises(ValueError) as error, workdir.locked(path):
    pass
  assert str(error.value).startswith(f'--workdir {path} cannot be written: ')


def test_a_package_that_is_missing_is_named_with_the_key(monkeypatch, tmp_path):
  monkeypatch.setitem(sys.modules, 'tensorflow', None)
  monkeypatch.delitem(sys.modules, 'jaxssl.data.tf_pipeline', raising=False)
  monkeypatch.delattr(data, 'tf_pipeline', raising=False)
  _tensorflow.tensorflow.cache_clear()
  with pytest.raises(ImportError, match=r"""^config.data.source='tfds': this needs .*pip install "jaxssl\[data\]"."""):
    build.load_source(config(source='tfds', name='cifar10'), 'pretrain')
  np.savez(tmp_path / 'a.npz', images=np.zeros((20, 8, 8, 3), np.uint8))
  made = config(source='npz', path=str(tmp_path / 'a.npz'), engine='host')
  with pytest.raises(ImportError, match=r"""^config.data.engine='host': this needs .*"jaxssl\[data\]"."""):
    build.stream(made, arrays.load(None, str(tmp_path / 'a.npz'), 'pretrain'))


def parse(define, *arguments):
  values = flags.FlagValues()
  define(values)
  with pytest.raises(SystemExit) as error, launch.parsing():
    values(['jaxssl', *arguments])
  return str(error.value)


def test_a_flag_that_is_missing_or_unknown_is_named():
  required = lambda values: flags.DEFINE_string('workdir', None, '', required=True, flag_values=values)
  assert parse(required) == 'error: the flag --workdir is missing. See --help'
  keys = lambda values: config_flags.DEFINE_config_dict('config', get_config(), flag_values=values, sys_argv=[])
  assert parse(keys, '--steps=3') == (
      'error: unknown flag --steps; the keys of the config are set by --config.KEY=VALUE. See --help')
