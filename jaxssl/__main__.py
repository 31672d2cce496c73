"""python -m jaxssl: the same as the command `jaxssl`."""

from jaxssl.cli import main

if __name__ == '__main__':
  main()
