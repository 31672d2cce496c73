"""Evaluates a pretrained encoder: python eval.py --workdir DIR [--config.KEY=VALUE]."""

from jaxssl import cli

if __name__ == '__main__':
  cli.run('eval')
