"""Imports point down only; TensorFlow stays in jaxssl/data; the base installation suffices for losses and models."""

import ast
import importlib.util
import pathlib
import subprocess
import sys

import pytest

import jaxssl

ROOT = pathlib.Path(jaxssl.__file__).parent

# Part of jaxssl -> the parts it may import, itself aside.
ALLOWED = {
    '__main__': {'cli'},
    'cli': {'build', 'training', 'evaluation', 'export', 'core', 'models', 'schema', 'extras'},
    'export': {'models'},
    'build': {
        'training', 'evaluation', 'methods', 'losses', 'models', 'data', 'augment', 'recipes', 'core', 'ops', 'schema'},
    'methods': {'losses', 'models', 'core', 'ops'},
    'evaluation': {'losses', 'models', 'augment', 'training', 'recipes', 'core', 'ops', 'spectral'},
    'training': {'core'},
    'augment': {'recipes', 'ops'},
    'data': {'recipes', 'ops', 'spectral', 'extras'},  # Audio as images.
    'losses': {'ops'},
    'models': {'ops', 'spectral'},
    'core': set(),
    'ops': set(),
    'spectral': set(),
    'recipes': set(),
    'schema': set(),
    'extras': set(),
}
# Parts that need the base installation alone.
BASE = ('losses', 'models', 'methods', 'augment', 'core', 'ops', 'spectral')


def imported_modules(source, package):
  """Yields the dotted name of all that `source`, a module of `package`, imports, also inside functions."""
  for node in ast.walk(ast.parse(source)):
    if isinstance(node, ast.Import):
      yield from (alias.name for alias in node.names)
    elif isinstance(node, ast.ImportFrom):
      above = package.split('.')[:len(package.split('.')) - node.level + 1] if node.level else []
      module = '.'.join([*above, *([node.module] if node.module else [])])
      yield from (f'{module}.{alias.name}' for alias in node.names)


def violations(root):
  """Returns a message for each import in the package at `root` that breaks a rule."""
  found = []
  for path in sorted(root.rglob('*.py')):
    relative = path.relative_to(root)
    part = relative.parts[0].removesuffix('.py')
    if part == '__init__':
      continue
    for name in imported_modules(path.read_text(), '.'.join(['jaxssl', *relative.parts[:-1]])):
      top, _, rest = name.partition('.')
      target = rest.split('.')[0]
      if top == 'jaxssl' and target in ALLOWED and target not in ALLOWED[part] | {part}:
        found.append(f'{relative}: {part} may not import {target}')
      if top in ('tensorflow', 'tensorflow_datasets') and part != 'data':
        found.append(f'{relative}: only jaxssl/data may import {top}')
  return found


def test_imports_point_down():
  assert violations(ROOT) == []


def test_every_part_has_its_rule():
  parts = {path.stem for path in ROOT.iterdir() if path.suffix == '.py' or (path / '__init__.py').exists()}
  assert parts - {'__init__'} <= set(ALLOWED)


@pytest.mark.parametrize('path, source, message', [
    ('losses/bad.py', 'from jaxssl import models', 'losses may not import models'),
    ('losses/bad.py', 'import jaxssl.core', 'losses may not import core'),
    ('methods/bad.py', 'def f():\n  from jaxssl.data.sources import load', 'methods may not import data'),
    ('models/deep/bad.py', 'from ...methods import simclr', 'models may not import methods'),
    ('core.py', 'from . import ops', 'core may not import ops'),
    ('training/bad.py', 'def f():\n  import tensorflow as tf', 'only jaxssl/data may import tensorflow'),
])
def test_a_planted_violation_is_found(tmp_path, path, source, message):
  (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
  (tmp_path / path).write_text(source)
  assert violations(tmp_path) == [f'{path}: {message}']


# Imports every module of the parts named on the command line, in an interpreter that has the base dependencies and the
# standard library only: whatever other distribution is installed cannot be found.
IMPORT_ALL = '''
import importlib, importlib.metadata, pkgutil, re, sys

def closure(names):
  found = set()
  while names:
    name = names.pop()
    if name in found:
      continue
    found.add(name)
    try:
      requires = importlib.metadata.requires(name) or []
    except importlib.metadata.PackageNotFoundError:
      continue
    requires = [re.match('[A-Za-z0-9_.-]+', line)[0] for line in requires if 'extra ==' not in line]
    names += [require.lower().replace('_', '-') for require in requires]
  return found

base = closure(['jax', 'flax', 'optax', 'numpy'])

class Hidden:
  """Finds nothing of a distribution outside the base installation."""
  owners = importlib.metadata.packages_distributions()

  def find_spec(self, name, path=None, target=None):
    owners = {owner.lower().replace('_', '-') for owner in self.owners.get(name.split('.')[0], [])}
    if owners and not owners & (base | {'jaxssl'}):
      raise ModuleNotFoundError(f'{name} is not in the base installation', name=name)

sys.meta_path.insert(0, Hidden())
import jaxssl
for part in sys.argv[1:]:
  module = importlib.import_module(part)
  for child in pkgutil.walk_packages(getattr(module, '__path__', []), part + '.'):
    importlib.import_module(child.name)
print(*sorted({name.split('.')[0] for name in sys.modules}))
'''


def import_all(*modules, path=None):
  environment = {'PATH': '/usr/bin:/bin', 'JAX_PLATFORMS': 'cpu', 'PYTHONPATH': str(path or ROOT.parent)}
  return subprocess.run([sys.executable, '-c', IMPORT_ALL, *modules], env=environment, capture_output=True, text=True)


def test_the_base_installation_suffices():
  result = import_all(*(f'jaxssl.{part}' for part in BASE))
  assert result.returncode == 0, result.stderr
  assert 'jaxssl' in result.stdout.split() and 'tensorflow' not in result.stdout.split()


@pytest.mark.parametrize('package', ['tensorflow', 'matplotlib'])
def test_a_planted_import_is_found(tmp_path, package):
  if importlib.util.find_spec(package) is None:
    pytest.skip(f'{package} is not installed')
  (tmp_path / 'planted.py').write_text(f'import {package}')
  result = import_all('planted', path=f'{tmp_path}:{ROOT.parent}')
  assert f'{package} is not in the base installation' in result.stderr


def test_parts_are_imported_on_first_use():
  code = 'import sys, jaxssl; assert "jax" not in sys.modules; jaxssl.losses.nt_xent; assert "flax" not in sys.modules'
  assert subprocess.run([sys.executable, '-c', code], cwd=ROOT.parent).returncode == 0
  with pytest.raises(AttributeError, match='no attribute'):
    _ = jaxssl.lossses
  assert {'losses', 'models', '__version__'} <= set(dir(jaxssl))
