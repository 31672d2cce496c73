"""The command line: `jaxssl train`, `eval` (train.py, eval.py: the same), `sweep`, `export`, `mutual-information`."""

import importlib
import sys

COMMANDS = ('train', 'eval', 'sweep', 'export', 'mutual-information')


def main() -> None:
  """Runs the sub-command that the first argument names."""
  name = sys.argv.pop(1) if len(sys.argv) > 1 else ''
  if name not in COMMANDS:
    raise SystemExit(f'usage: jaxssl {{{",".join(COMMANDS)}}} [flags]; got {name!r}. See jaxssl train --help')
  sys.argv[0] = f'jaxssl {name}'
  try:
    command = importlib.import_module(f'jaxssl.cli.{name.replace("-", "_")}')
  except ModuleNotFoundError as error:
    raise SystemExit(f'error: {error.name} is missing: pip install "jaxssl[train]"') from error
  command.main()
