"""Every Python example in the documentation runs, top to bottom."""

import pathlib
import re

import jax
import pytest

ROOT = pathlib.Path(__file__).parents[1]


@pytest.mark.parametrize('page', ['README.md', *(f'docs/{path.name}' for path in sorted(ROOT.glob('docs/*.md')))])
def test_examples_run(page, capsys):
  blocks = re.findall(r'^```python\n(.*?)^```', (ROOT / page).read_text(encoding='utf-8'), re.DOTALL | re.MULTILINE)
  assert blocks
  names: dict = {}
  with jax.numpy_rank_promotion('allow'):
    for block in blocks:
      try:
        exec(compile(block, page, 'exec'), names)
      except ModuleNotFoundError as error:
        assert error.name == 'equinox', 'only another library may be missing'
