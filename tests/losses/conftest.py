"""Tiles of four rows, so that small batches make several, the last of them partly filled."""

import pytest

from jaxssl.losses import _tiles


@pytest.fixture(autouse=True)
def small_tiles(monkeypatch):
  monkeypatch.setattr(_tiles, 'TILE', {'cpu': 4})
