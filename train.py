"""Pretrains an encoder: python train.py --config configs/FILE.py [--config.KEY=VALUE] [--workdir DIR]."""

from jaxssl.cli import train

if __name__ == '__main__':
  train.main()
