"""The command line: `jaxssl train`, `eval` (train.py, eval.py: the same), `sweep`, `export`, `mutual-information`."""

import importlib
import sys

import jaxssl

COMMANDS = ('train', 'eval', 'sweep', 'export', 'mutual-information')
USAGE = f'usage: jaxssl {{{",".join(COMMANDS)}}} [flags]'


def main() -> None:
  """Runs the sub-command that the first argument names."""
  name = sys.argv.pop(1) if len(sys.argv) > 1 else ''
  if name in ('-h', '-help', '--help', '--version'):
    print(f'jaxssl {jaxssl.__version__}' if name == '--version' else f'{USAGE}. See jaxssl train --help')
  elif name in COMMANDS:
    sys.argv[0] = f'jaxssl {name}'
    run(name)
  else:
    raise SystemExit(f'{USAGE}; got {name!r}. See jaxssl train --help')


def run(name: str) -> None:
  """Runs one of COMMANDS with the flags on the command line."""
  try:
    command = importlib.import_module(f'jaxssl.cli.{name.replace("-", "_")}')
  except ModuleNotFoundError as error:
    raise SystemExit(f'error: {error.name} is missing: pip install "jaxssl[train]"') from error
  command.main()
