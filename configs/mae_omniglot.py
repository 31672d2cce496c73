"""MAE on the bundled drawings: He et al. 2021, https://arxiv.org/abs/2111.06377.

  python train.py --config configs/mae_omniglot.py

Drawings are no good match for MAE: a quarter of the patches of a few strokes on black says little about the rest.
Measured on two cores of a Xeon, busy with other programs (24 minutes of pretraining; 9.7 minutes of processor time in
all), seed 0, tested on drawers 16-20, raw pixels / PCA (128) / random encoder /
trained: k-NN .318 / .350 / .056 / .085, linear probe .272 / .208 / .191 / .209. Masked error .310, of the mean patch
.377. configs/mae_spoken_digit.py and configs/mae_fashion_mnist.py show it where it works: its masked error is a fifth
and 39 % of the mean patch's.
"""

from ml_collections import ConfigDict


def get_config() -> ConfigDict:
  return ConfigDict({
      'seed': 0,
      'steps': 1200,
      'batch_size': 128,
      'init_from': '',  # The work directory of a run to take the encoder from.
      'data': {
          'source': 'bundled',  # Or 'tfds', 'folder', 'npz'.
          'name': 'omniglot',
          'path': '',
          'engine': 'device',  # Where views are made: 'device', 'host' (tf.data), or 'split' between them.
          'recipe': {'name': 'drawings', 'size': 28, 'area': (1.0, 1.0), 'ratio': (1.0, 1.0), 'rotation': 10.0,
                     'shear': 0.15, 'log_scale': 0.15, 'translation': 0.05, 'elastic': 0.02, 'thickness': 0.25,
                     'views': 1},
      },
      'method': {
          'name': 'mae',
          'mask_ratio': 0.75,
          'normalize_targets': True,
          'encoder': {'name': 'vit', 'patch': 4, 'width': 128, 'depth': 4, 'heads': 4},
          'decoder': {'name': 'mae_decoder', 'width': 64, 'depth': 1, 'heads': 4},
          'optimizer': {
              'name': 'adamw', 'b2': 0.95, 'weight_decay': 0.05,
              'learning_rate': {'name': 'warmup_cosine', 'base': 0.002, 'scaling': 'none', 'warmup_epochs': 1.0},
          },
      },
      'checkpoint': {'every': 500, 'keep_last': 3, 'keep_every': 1000},
      'logging': {'every': 10},
      'evaluation': {
          'protocols': ('knn', 'linear', 'reconstruction'),  # And 'sgd', 'finetune'.
          'representation': '',  # '': the method's default.
          'knn': {'k': 5, 'temperature': 0.1},
          # L2 strengths; the share of the training labels that chooses among them.
          'linear': {'grid': (1e-1, 1e-2, 1e-3, 1e-4, 1e-5), 'validation': 0.2},
          'reconstruction': {'samples': 1},
          'sgd': {'epochs': 90, 'batch_size': 256, 'learning_rate': 10.0},
          'finetune': {'epochs': 60, 'batch_size': 256, 'learning_rate': 1.0},
          'fractions': (),  # Shares of the labels, such as (0.01, 0.1).
          'batch_size': 512,
          'pictures': True,
      },
      'mesh': {'data': -1, 'model': 1},
  })
