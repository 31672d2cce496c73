"""What a run says of itself."""

import pytest
from ml_collections import ConfigDict

from jaxssl.cli import runs


@pytest.mark.parametrize('text, expected', [
    ('', ()), ('z', ('z',)), ('z,c', ('z', 'c')), (' c , z ', ('c', 'z')), ('z,', ('z',)), ('z,c,z', ('z', 'c')),
    (',', ())])
def test_representations_are_listed_with_commas(text, expected):
  assert runs.representations(ConfigDict({'representation': text})) == expected
