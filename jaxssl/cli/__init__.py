"""The command line: `jaxssl train` and `jaxssl eval`; train.py and eval.py of the repository call the same."""

import sys


def main() -> None:
  """Runs the sub-command that the first argument names."""
  from jaxssl.cli import eval as eval_command
  from jaxssl.cli import train as train_command

  commands = {'train': train_command.main, 'eval': eval_command.main}
  name = sys.argv.pop(1) if len(sys.argv) > 1 else ''
  if name not in commands:
    raise SystemExit(f'usage: jaxssl {{{",".join(commands)}}} [flags]; got {name!r}. See jaxssl train --help')
  sys.argv[0] = f'jaxssl {name}'
  commands[name]()
