"""What a run says of itself."""

import importlib.util
import pathlib

import pytest
from ml_collections import ConfigDict

from jaxssl.build import build
from jaxssl.cli import pretrain, runs

CONFIGS = pathlib.Path(__file__).parents[2] / 'configs'


@pytest.mark.parametrize('text, expected', [
    ('', ()), ('z', ('z',)), ('z,c', ('z', 'c')), (' c , z ', ('c', 'z')), ('z,', ('z',)), ('z,c,z', ('z', 'c')),
    (',', ())])
def test_representations_are_listed_with_commas(text, expected):
  assert runs.representations(ConfigDict({'representation': text})) == expected


@pytest.mark.parametrize('stem, compares', [
    ('simclr_cifar10', True), ('cpc_cifar10', True), ('i_jepa_cifar10', False), ('mae_cifar10', False),
    ('gan_cifar10', False)])
def test_methods_that_compare_views_are_told_of_colours_that_no_view_changes(stem, compares):
  spec = importlib.util.spec_from_file_location(stem, CONFIGS / f'{stem}.py')
  module = importlib.util.module_from_spec(spec)
  spec.loader.exec_module(module)
  assert pretrain._compares(build(module.get_config().to_dict(), 50_000)) == compares
