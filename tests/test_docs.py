"""The documentation: every Python example runs, top to bottom; every link leads somewhere; the site builds."""

import importlib
import os
import pathlib
import re
import subprocess
import sys

import jax
import pytest

ROOT = pathlib.Path(__file__).parents[1]
DOCS = ROOT / 'docs'
PAGES = ['README.md', *sorted(
    path.relative_to(ROOT).as_posix() for path in DOCS.rglob('*.md') if '_build' not in path.parts)]
NOTEBOOKS = [page for page in PAGES if page.startswith('docs/examples/')]  # Run when the site is built.
FENCE = re.compile(r'^ *```.*?^ *```', re.DOTALL | re.MULTILINE)


def read(page):
  return (ROOT / page).read_text(encoding='utf-8')


def blocks(page):
  return re.findall(r'^```python\n(.*?)^```', read(page), re.DOTALL | re.MULTILINE)


WITH_BLOCKS = [page for page in PAGES if page not in NOTEBOOKS and blocks(page)]


def test_examples_are_found():
  assert {'README.md', 'docs/losses.md', 'docs/own_data.md', 'docs/evaluation.md'} <= set(WITH_BLOCKS)
  assert len(NOTEBOOKS) == 3


@pytest.mark.parametrize('page', WITH_BLOCKS)
def test_examples_run(page, capsys):
  names: dict = {}
  with jax.numpy_rank_promotion('allow'):
    for block in blocks(page):
      try:
        exec(compile(block, page, 'exec'), names)
      except ModuleNotFoundError as error:
        assert error.name == 'equinox', 'only another library may be missing'


def anchors(text):
  """Those of GitHub: lower case, spaces to dashes, no punctuation."""
  headings = re.findall(r'^#+ +(.+)$', FENCE.sub('', text), re.MULTILINE)
  return {re.sub(r'[^\w\- ]', '', heading.lower()).replace(' ', '-') for heading in headings}


@pytest.mark.parametrize('page', PAGES)
def test_links_lead_somewhere(page):
  for target in re.findall(r'\]\(([^()\s]+)\)', FENCE.sub('', read(page))):
    if re.match(r'https?:', target):
      continue
    path, _, anchor = target.partition('#')
    file = (ROOT / page).parent / path if path else ROOT / page
    assert file.is_file(), f'{target}: no such file'
    assert not anchor or anchor in anchors(file.read_text(encoding='utf-8')), f'{target}: no such heading'


def test_every_config_named_in_the_documentation_exists():
  for page in PAGES:
    for config in set(re.findall(r'\bconfigs/\w+\.py', read(page))):
      assert (ROOT / config).is_file(), f'{page} names {config}'


@pytest.mark.parametrize('package, page', [
    ('losses', 'losses'), ('losses.mutual_information', 'losses'), ('models', 'models'), ('methods', 'methods'),
    ('augment', 'augment'), ('recipes', 'augment'), ('data', 'data'), ('evaluation', 'evaluation'),
    ('export', 'export')])
def test_the_reference_has_every_public_name(package, page):
  module = importlib.import_module(f'jaxssl.{package}')
  shown = set(re.findall(r'^\.\. auto(?:function|class):: (\w+)', read(f'docs/api/{page}.rst'), re.MULTILINE))
  public = getattr(module, '__all__', None) or [
      name for name, value in vars(module).items()
      if not name.startswith('_') and getattr(value, '__module__', None) == module.__name__]
  functions = {name for name in public if callable(getattr(module, name))}
  assert functions and functions <= shown, f'not in docs/api/{page}.rst: {sorted(functions - shown)}'


@pytest.mark.slow
def test_the_site_builds_without_a_warning(tmp_path):
  """But for the notebooks, which are not run here; TensorFlow is hidden, as where only the extra `docs` is there."""
  pytest.importorskip('sphinx')
  (tmp_path / 'tensorflow.py').write_text('raise ModuleNotFoundError(name="tensorflow")')
  paths = os.pathsep.join([str(tmp_path), str(ROOT), os.environ.get('PYTHONPATH', '')])
  done = subprocess.run(
      [sys.executable, '-m', 'sphinx', '-W', '--keep-going', '-b', 'html', '-D', 'nb_execution_mode=off',
       str(DOCS), str(tmp_path / 'html')],
      capture_output=True, text=True, env={**os.environ, 'PYTHONPATH': paths}, timeout=1200)
  assert done.returncode == 0, done.stderr
  for page in (tmp_path / 'html').rglob('*.html'):
    text = page.read_text(encoding='utf-8')
    assert not re.search(r':(param|type|rtype|returns|raises)\b[^;]*?:|problematic|system-message', text), page.name
