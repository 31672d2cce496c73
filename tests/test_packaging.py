"""The distributions as pip gets them: what is in them, that the wheel works by itself, and its types."""

import email
import fnmatch
import os
import pathlib
import shutil
import subprocess
import sys
import tarfile
import tomllib
import venv
import zipfile

import pytest

import jaxssl
from jaxssl import extras

ROOT = pathlib.Path(__file__).parents[1]
NOT_SOURCES = ('.git', '.venv*', '*.egg-info', '__pycache__', 'build', 'dist', 'runs', '.*_cache')
LICENCES = ('LICENSE', 'NOTICE', 'jaxssl/data/OMNIGLOT_LICENSE.txt')
# What lies about in a checkout that was worked in.
STRAY = ('runs/default/config.json', 'docs/_build/html/index.html', 'build/lib/jaxssl/old.py',
         'tests/__pycache__/a.pyc', '.venv/pyvenv.cfg')


def files(folder, pattern='*'):
  return {str(path.relative_to(ROOT)) for path in (ROOT / folder).rglob(pattern)
          if path.is_file() and not {'__pycache__', '_build'} & {*path.parts}}


def run(*command, **options):
  environment = {'PATH': os.environ['PATH'], 'JAX_PLATFORMS': 'cpu'}
  return subprocess.run(list(map(str, command)), env=environment, capture_output=True, text=True, **options)


def test_the_oldest_versions_are_the_lower_bounds():
  project = tomllib.loads((ROOT / 'pyproject.toml').read_text())['project']
  extras = project['optional-dependencies']
  wanted = [*project['dependencies'], *extras['train'], *extras['audio'], *extras['data'],
            *(each for each in extras['dev'] if each.startswith(('hypothesis', 'pytest')))]
  bounds = dict(each.partition(',')[0].split('>=') for each in wanted)
  lines = (ROOT / '.ci' / 'oldest.txt').read_text().splitlines()
  pinned = dict(line.split('==') for line in lines if line and not line.startswith('#'))
  parts = lambda version: [int(part) for part in (version + '.0.0').split('.')[:3]]
  assert {name: parts(version) for name, version in pinned.items()} == {
      name: parts(version) for name, version in bounds.items()}


@pytest.fixture(scope='module')
def built(tmp_path_factory):
  """The paths of the wheel and of the source distribution that it is made of, from a copy of the checkout."""
  pytest.importorskip('build')
  path = tmp_path_factory.mktemp('packaging')
  shutil.copytree(ROOT, path / 'checkout', ignore=shutil.ignore_patterns(*NOT_SOURCES))
  for name in STRAY:
    (path / 'checkout' / name).parent.mkdir(parents=True, exist_ok=True)
    (path / 'checkout' / name).touch()
  made = run(sys.executable, '-m', 'build', '--no-isolation', '--outdir', path / 'dist', path / 'checkout', cwd=path)
  assert made.returncode == 0, made.stdout + made.stderr
  name = f'jaxssl-{jaxssl.__version__}'
  assert {each.name for each in (path / 'dist').iterdir()} == {f'{name}-py3-none-any.whl', f'{name}.tar.gz'}
  return path / 'dist' / f'{name}-py3-none-any.whl', path / 'dist' / f'{name}.tar.gz'


@pytest.fixture(scope='module')
def environment(built, tmp_path_factory):
  """The interpreter of an environment that has the wheel and nothing else."""
  path = tmp_path_factory.mktemp('environment')
  venv.create(path, with_pip=False)
  (packages,) = path.glob('lib/python*/site-packages')
  with zipfile.ZipFile(built[0]) as wheel:
    wheel.extractall(packages)
  return path / 'bin' / 'python'


def test_the_wheel_holds_the_package_and_nothing_else(built):
  with zipfile.ZipFile(built[0]) as wheel:
    names = {name for name in wheel.namelist() if not name.endswith('/')}
    (metadata,) = [name for name in names if name.endswith('dist-info/METADATA')]
    about = email.message_from_bytes(wheel.read(metadata))
  package = {name for name in names if '.dist-info/' not in name}
  assert package == {*files('jaxssl', '*.py'), *files('jaxssl', '*.npz'), *files('jaxssl', '*.txt'), 'jaxssl/py.typed'}
  assert {metadata.replace('METADATA', f'licenses/{name}') for name in LICENCES} <= names
  assert (about['Name'], about['Version'], about['Requires-Python']) == ('jaxssl', jaxssl.__version__, '>=3.11')
  assert about['License-Expression'] == 'Apache-2.0' and set(about.get_all('License-File')) == set(LICENCES)
  project = tomllib.loads((ROOT / 'pyproject.toml').read_text())['project']
  assert set(about.get_all('Provides-Extra')) == set(project['optional-dependencies'])


def test_the_source_distribution_holds_the_checkout(built):
  with tarfile.open(built[1]) as archive:
    names = {name.partition('/')[2] for name in archive.getnames()}
  for folder in ('jaxssl', 'tests', 'configs', 'docs', 'benchmarks', 'examples', 'scripts', '.ci'):
    assert files(folder) - names == set(), folder
  assert {*LICENCES, 'README.md', 'CHANGELOG.md', 'CONTRIBUTING.md', 'pyproject.toml', 'train.py', 'eval.py'} <= names
  assert [name for name in names for pattern in STRAY if fnmatch.fnmatch(name, pattern)] == []


def test_without_extras_the_command_names_the_one_to_install(environment, tmp_path):
  command = environment, '-m', 'jaxssl'
  made = run(*command, 'train', cwd=tmp_path)
  assert made.returncode == 1 and made.stderr == f'error: jax is missing: {extras.command("train")}\n'
  assert run(*command, '--version').stdout == f'jaxssl {jaxssl.__version__}\n'
  made = run(environment, '-c', 'import jaxssl; jaxssl.load("run")', cwd=tmp_path)
  assert made.stderr.endswith(f'jaxssl.load needs jax: {extras.command("train")}\n')
  assert run(*command, '--help').stdout.startswith('usage: jaxssl {train,eval,')
  made = run(*command, 'trian')
  assert made.returncode == 1 and 'usage: jaxssl {train,eval,' in made.stderr and "got 'trian'" in made.stderr


USER = '''
import jaxssl
from jaxssl.losses import nt_xent

loss = nt_xent([1], [2], temperatur=0.1)
jaxssl.losses.info_nce()
jaxssl.load(3)
encoder = jaxssl.load('runs/default')
encoder.represents
'''


def test_a_user_of_the_wheel_sees_our_types(environment, tmp_path):
  (tmp_path / 'user.py').write_text(USER)
  made = run(sys.executable, '-m', 'mypy', '--python-executable', environment, '--no-error-summary', 'user.py',
             cwd=tmp_path)
  for line, error in (
      (5, 'Unexpected keyword argument "temperatur" for "nt_xent"'),
      (6, 'Missing positional arguments "query", "key" in call to "info_nce"'),
      (7, 'Argument 1 to "load" has incompatible type "int"'),
      (9, '"Loaded" has no attribute "represents"')):
    assert f'user.py:{line}: error: {error}' in made.stdout, made.stdout + made.stderr
  assert made.stdout.count(' error: ') == 4, made.stdout
