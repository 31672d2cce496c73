import doctest
import importlib
import pkgutil

import pytest

from jaxssl import losses

MODULES = [f'jaxssl.losses.{module.name}' for module in pkgutil.iter_modules(losses.__path__)]


@pytest.mark.parametrize('name', MODULES)
def test_examples(name):
  assert doctest.testmod(importlib.import_module(name)).failed == 0


@pytest.mark.parametrize('name', losses.__all__)
def test_every_public_loss_has_an_example(name):
  assert doctest.DocTestFinder(recurse=False).find(getattr(losses, name))[0].examples
