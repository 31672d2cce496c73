"""An autoencoder on Fashion-MNIST: Hinton and Salakhutdinov, Science 2006.

  python train.py --config configs/autoencoder_fashion_mnist.py

Raw pixels are strong here: see configs/simclr_fashion_mnist.py. Not yet measured.
"""

from ml_collections import ConfigDict


def get_config() -> ConfigDict:
  return ConfigDict({
      'seed': 0,
      'steps': 2_000,
      'batch_size': 128,
      'init_from': '',
      'data': {
          'source': 'tfds',
          'name': 'fashion_mnist',
          'path': '',
          'engine': 'device',
          'recipe': {'name': 'crop_flip', 'size': 28, 'area': (1.0, 1.0), 'views': 1},
      },
      'method': {
          'name': 'autoencoder',
          'code_size': 64,
          'likelihood': 'gaussian',  # The loss: squared error; or 'bernoulli', binary cross-entropy.
          'encoder': {'name': 'conv_encoder', 'widths': (32, 64, 128), 'pool': 'flatten'},
          'decoder': {'name': 'conv_decoder', 'widths': (128, 64, 32)},
          'optimizer': {
              'name': 'adamw',
              'weight_decay': 1e-4,
              'learning_rate': {'name': 'warmup_cosine', 'base': 0.002, 'scaling': 'none', 'warmup_epochs': 0.2},
          },
      },
      'checkpoint': {'every': 100, 'keep_last': 3, 'keep_every': 500},
      'logging': {'every': 20},
      'evaluation': {
          'protocols': ('knn', 'linear', 'reconstruction'),  # And 'sgd', 'finetune'.
          'representation': '',  # '': the method's default.
          'batch_size': 512,
          'knn': {'k': 5, 'temperature': 0.1},
          # L2 strengths; the share of the training labels that chooses among them.
          'linear': {'grid': (1e-1, 1e-2, 1e-3, 1e-4, 1e-5), 'validation': 0.2},
          'reconstruction': {'samples': 1},
          'sgd': {'epochs': 90, 'batch_size': 256, 'learning_rate': 10.0},
          'finetune': {'epochs': 60, 'batch_size': 256, 'learning_rate': 1.0},
          'fractions': (),  # Shares of the labels, such as (0.01, 0.1).
          'pictures': True,
      },
      'mesh': {'data': -1, 'model': 1},
  })
