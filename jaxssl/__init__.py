"""Self-supervised learning in JAX: small pure functions, exact losses, honest evaluation.

`jaxssl.losses`, `jaxssl.models` and the other parts are imported when first used: whoever wants the losses alone waits
for the losses alone, and only `jaxssl.data` ever imports TensorFlow. `jaxssl.load(workdir)` is a pretrained encoder.
"""

import importlib
import pkgutil

__version__ = '0.1.0.dev0'


def __getattr__(name: str):
  if name == 'load':
    return importlib.import_module(f'{__name__}.cli.loading').load
  if name not in __dir__():
    raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
  return importlib.import_module(f'{__name__}.{name}')


def __dir__() -> list[str]:
  return ['__version__', 'load', *(module.name for module in pkgutil.iter_modules(__path__))]
