"""Evaluates a pretrained encoder: python eval.py --workdir DIR [--config.KEY=VALUE]."""

from jaxssl.cli import eval as evaluate

if __name__ == '__main__':
  evaluate.main()
