"""SimCLR on six alphabets, evaluated on two that it never saw: https://arxiv.org/abs/2002.05709.

  python train.py --config configs/simclr_omniglot_unseen.py

The default run, pretrained on all drawings of six of the eight bundled alphabets; k-NN and linear probe are fitted on
drawers 1-15 of Balinese and Tagalog (41 characters) and tested on drawers 16-20.

Measured on two cores of a Xeon, seed 0: k-NN .780, linear probe .878 (raw pixels .424 and .351, randomly initialised
encoder .137 and .298) after 276 s of training.
"""

from ml_collections import ConfigDict

from jaxssl.cli import default


def get_config() -> ConfigDict:
  config = default.get_config()
  config.data.name = 'omniglot_unseen'
  return config
