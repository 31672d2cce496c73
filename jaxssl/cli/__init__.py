"""The command line: `jaxssl train`, `eval` (train.py, eval.py: the same), `sweep`, `export`, `mutual-information`."""

import importlib
import sys

import jaxssl
from jaxssl import extras

COMMANDS = {
    'train': 'pretrains an encoder by a config; the same command resumes',
    'eval': 'evaluates the last checkpoint of a work directory',
    'sweep': 'trains by several values of keys of a config, and compares them',
    'export': 'writes the encoder of a work directory as .safetensors, or as a StableHLO program',
    'mutual-information': 'estimates the mutual information of two arrays in .npy files',
}
USAGE = f'usage: jaxssl {{{",".join(COMMANDS)}}} [flags]'


def main() -> None:
  """Runs the sub-command that the first argument names."""
  name = sys.argv.pop(1) if len(sys.argv) > 1 else ''
  if name in ('-h', '-help', '--help', '--version'):
    print(f'jaxssl {jaxssl.__version__}' if name == '--version' else _help())
  elif name in COMMANDS:
    sys.argv[0] = f'jaxssl {name}'
    run(name)
  else:
    raise SystemExit(f'{USAGE}; got {name!r}. See jaxssl --help')


def _help() -> str:
  lines = [f'  {name:<20}{what}' for name, what in COMMANDS.items()]
  return '\n'.join([USAGE, '', *lines, '', 'jaxssl COMMAND --help lists the flags of a command.'])


def run(name: str) -> None:
  """Runs one of COMMANDS with the flags on the command line."""
  try:
    command = importlib.import_module(f'jaxssl.cli.{name.replace("-", "_")}')
  except ModuleNotFoundError as error:
    raise SystemExit(f'error: {error.name} is missing: {extras.command("train")}') from error
  command.main()
