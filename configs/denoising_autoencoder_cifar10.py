"""A denoising autoencoder on CIFAR-10: Vincent et al. 2010, JMLR 11.

  python train.py --config configs/denoising_autoencoder_cifar10.py

Needs the `data` extra; or bring the images as arrays: --config.data.source=npz --config.data.path=cifar10.npz. Not yet
measured.
"""

from ml_collections import ConfigDict


def get_config() -> ConfigDict:
  return ConfigDict({
      'seed': 0,
      'steps': 100 * 50_000 // 128,
      'batch_size': 128,
      'init_from': '',
      'data': {
          'source': 'tfds',
          'name': 'cifar10',
          'path': '',
          'engine': 'device',
          'recipe': {'name': 'crop_flip', 'size': 32, 'area': (1.0, 1.0), 'views': 1},
      },
      'method': {
          'name': 'autoencoder',
          'code_size': 256,
          'likelihood': 'gaussian',  # The loss: squared error; or 'bernoulli', binary cross-entropy.
          'corruption': {'name': 'gaussian', 'sigma': 0.1},  # Or 'masking', 'salt_and_pepper', with rate.
          'encoder': {'name': 'conv_encoder', 'widths': (64, 128, 256), 'pool': 'flatten', 'batch_norm': False},
          'decoder': {'name': 'conv_decoder', 'widths': (256, 128, 64), 'batch_norm': False},
          'optimizer': {
              'name': 'adamw',
              'weight_decay': 1e-4,
              'learning_rate': {'name': 'warmup_cosine', 'base': 0.001, 'scaling': 'none', 'warmup_epochs': 1.0},
          },
      },
      'checkpoint': {'every': 500, 'keep_last': 3, 'keep_every': 5000},
      'logging': {'every': 50},
      'evaluation': {
          'protocols': ('knn', 'linear', 'reconstruction'),  # And 'sgd', 'finetune'.
          'representation': '',  # '': the method's default.
          'batch_size': 512,
          'knn': {'k': 200, 'temperature': 0.1},
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
