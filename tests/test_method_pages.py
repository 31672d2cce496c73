"""docs/methods: every public method has a page, with the headings of the others, its figure, and configs that exist."""

import functools
import importlib
import pathlib
import re

import pytest

from jaxssl import losses, methods

ROOT = pathlib.Path(__file__).parents[1]
FOLDER = ROOT / 'docs' / 'methods'
HEADINGS = ['Idea', 'Loss', 'Figure', 'Config', 'Measured', 'When to use it']
LARGEST = 80_000  # Bytes of a figure, as in benchmarks/method_figures.py.
METHODS = {getattr(methods, name).__module__.rpartition('.')[2]: name for name in methods.__all__}


def text_of(stem):
  return (FOLDER / f'{stem}.md').read_text(encoding='utf-8')


def configs_of(stem):
  return set(re.findall(r'`configs/(\w+)\.py`', text_of(stem)))


def test_there_is_a_page_for_every_public_method_and_no_other():
  assert {page.stem for page in FOLDER.glob('*.md')} - {'index'} == set(METHODS)


@pytest.mark.parametrize('stem', METHODS)
def test_page(stem):
  text = text_of(stem)
  assert re.match(r'# .+\n\n', text)
  assert f'`methods.{METHODS[stem]}`' in text
  assert re.findall(r'^## (.+)$', text, re.MULTILINE) == HEADINGS
  for name in re.findall(r'(?<!/)\blosses\.([\w.]+\w)', text):
    assert functools.reduce(lambda part, each: getattr(part, each, None), name.split('.'), losses), f'losses.{name}'
  for config in configs_of(stem):
    assert (ROOT / 'configs' / f'{config}.py').exists(), config
  assert f'](../figures/methods/{stem}.png)' in text
  assert (FOLDER / f'../figures/methods/{stem}.png').stat().st_size <= LARGEST


@pytest.mark.parametrize('stem', METHODS)
def test_links_lead_somewhere(stem):
  for file, anchor in re.findall(r'\]\((?!https?:)([^)#]+)(?:#([^)]+))?\)', text_of(stem)):
    target = FOLDER / file
    assert target.exists(), file
    if anchor:
      headings = re.findall(r'^#+ (.+)$', target.read_text(encoding='utf-8'), re.MULTILINE)
      assert anchor in [re.sub(r'[^\w -]', '', each.lower()).replace(' ', '-') for each in headings], anchor


@pytest.mark.parametrize('stem', METHODS)
def test_formulas_are_closed(stem):
  """A `$` left open would turn the text behind it into a formula, on GitHub as on the site."""
  for paragraph in re.sub(r'`[^`]*`', '', text_of(stem)).split('\n\n'):
    inside = re.sub(r'\$\$.*?\$\$', '', paragraph, flags=re.DOTALL)
    assert inside.count('$') % 2 == 0, paragraph
    assert all('\n' not in formula for formula in re.findall(r'\$([^$]*)\$', inside)), paragraph


def test_every_config_is_on_a_page():
  assert set().union(*map(configs_of, METHODS)) == {config.stem for config in (ROOT / 'configs').glob('*.py')}


def test_every_method_has_a_recipe_of_its_figure(monkeypatch):
  monkeypatch.syspath_prepend(ROOT / 'benchmarks')
  figures = importlib.import_module('method_figures')
  assert set(figures.FIGURES) == set(METHODS)
  assert {panel for _, panels in figures.FIGURES.values() for panel in panels} <= set(figures.PAINTERS)
  for method, (config, *_) in figures.EXTRA.items():
    assert config in configs_of(method)
    assert f'--config configs/{config}.py' in figures.command(method, 'runs', f'runs/{method}_0')
  assert figures.LARGEST == LARGEST
