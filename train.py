"""Pretrains an encoder: python train.py --config configs/FILE.py [--config.KEY=VALUE] [--workdir DIR]."""

from jaxssl import cli

if __name__ == '__main__':
  cli.run('train')
