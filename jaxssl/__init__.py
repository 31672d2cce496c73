"""Self-supervised learning in JAX: small pure functions, exact losses, honest evaluation.

- `jaxssl.losses`: pure functions of arrays, for any JAX project.
- `jaxssl.models`: networks, as Flax Linen modules.
- `jaxssl.methods`: one file a paper, with `init`, `step` and `represent`.
- `jaxssl.recipes`, `jaxssl.augment`: which views to make of an example, and making them on the device.
- `jaxssl.data`: examples and batches, from arrays, folders, TFDS or the bundled set.
- `jaxssl.evaluation`: k-NN, probes, fine-tuning, beside raw inputs and a random encoder.
- `jaxssl.training`, `jaxssl.build`: the parts of a run, and a run's objects from its config.
- `jaxssl.export`: weights in and out; `jaxssl.load(workdir)`: a pretrained encoder.

They are imported when first used: whoever wants the losses alone waits for the losses alone, and only `jaxssl.data`
ever imports TensorFlow.
"""

import importlib
import pkgutil
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # What `__getattr__` finds, for type checkers.
  from jaxssl import augment as augment
  from jaxssl import core as core
  from jaxssl import data as data
  from jaxssl import evaluation as evaluation
  from jaxssl import export as export
  from jaxssl import losses as losses
  from jaxssl import methods as methods
  from jaxssl import models as models
  from jaxssl import ops as ops
  from jaxssl import recipes as recipes
  from jaxssl import training as training
  from jaxssl.cli.loading import load as load

__version__ = '0.1.0'


def __getattr__(name: str):
  if name == 'load':
    try:
      return importlib.import_module(f'{__name__}.cli.loading').load
    except ModuleNotFoundError as error:
      from jaxssl import extras
      raise ImportError(f'jaxssl.load needs {error.name}: {extras.command("train")}') from error
  if name not in __dir__():
    raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
  return importlib.import_module(f'{__name__}.{name}')


def __dir__() -> list[str]:
  return ['__version__', 'load', *(module.name for module in pkgutil.iter_modules(__path__))]
