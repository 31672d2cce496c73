"""The extras of the installation."""


def command(extra: str) -> str:
  """Returns what installs an extra, for the error of who lacks it."""
  return f'pip install "jaxssl[{extra}]", or in a clone pip install -e ".[{extra}]"'
