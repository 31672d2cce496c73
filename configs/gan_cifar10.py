"""SNGAN on CIFAR-10: Miyato et al. 2018, https://arxiv.org/abs/1802.05957.

  python train.py --config configs/gan_cifar10.py

The residual networks, the hinge loss and the spectral norms of the paper, five updates of the discriminator on 64
images each for one of the generator. Needs the `data` extra; or bring the images as arrays: --config.data.source=npz
--config.data.path=cifar10.npz. Not yet measured.
"""

from ml_collections import ConfigDict


def get_config() -> ConfigDict:
  return ConfigDict({
      'seed': 0,
      'steps': 50_000,
      'batch_size': 320,
      'init_from': '',
      'data': {
          'source': 'tfds',
          'name': 'cifar10',
          'path': '',
          'engine': 'device',
          'recipe': {'name': 'crop_flip', 'size': 32, 'area': (1.0, 1.0), 'views': 1},
      },
      'method': {
          'name': 'gan',
          'latent_size': 128,
          'divergence': 'hinge',
          'n_critic': 5,
          'discriminator': {'name': 'resnet_discriminator', 'widths': (128, 128, 128, 128), 'spectral_norm': True},
          'generator': {'name': 'generator', 'decoder': {'name': 'resnet_decoder', 'widths': (256, 256, 256, 256)}},
          'optimizer': {'name': 'adamw', 'b1': 0.0, 'b2': 0.9, 'weight_decay': 0.0,
                        'learning_rate': {'name': 'constant', 'base': 2e-4}},
          'generator_optimizer': {'name': 'adamw', 'b1': 0.0, 'b2': 0.9, 'weight_decay': 0.0,
                                  'learning_rate': {'name': 'constant', 'base': 2e-4}},
      },
      'checkpoint': {'every': 500, 'keep_last': 3, 'keep_every': 5000},
      'logging': {'every': 50},
      'evaluation': {
          'protocols': ('knn', 'linear', 'samples'),  # And 'sgd', 'finetune'.
          'representation': 'pooled',  # Or a block, 'layer1' to 'layer4', or 'all'.
          'batch_size': 512,
          'knn': {'k': 200, 'temperature': 0.1},
          # L2 strengths; the share of the training labels that chooses among them.
          'linear': {'grid': (1e-1, 1e-2, 1e-3, 1e-4, 1e-5), 'validation': 0.2},
          'sgd': {'epochs': 90, 'batch_size': 256, 'learning_rate': 10.0},
          'finetune': {'epochs': 60, 'batch_size': 256, 'learning_rate': 1.0},
          'fractions': (),  # Shares of the labels, such as (0.01, 0.1).
          'pictures': True,
      },
      'mesh': {'data': -1, 'model': 1},
  })
