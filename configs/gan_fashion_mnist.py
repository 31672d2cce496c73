"""DCGAN on Fashion-MNIST: Radford et al. 2015, https://arxiv.org/abs/1511.06434.

  python train.py --config configs/gan_fashion_mnist.py

Not yet measured.
"""

from ml_collections import ConfigDict


def get_config() -> ConfigDict:
  return ConfigDict({
      'seed': 0,
      'steps': 9_000,
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
          'name': 'gan',
          'latent_size': 100,
          'divergence': 'jensen_shannon',
          'r1': 0.0,
          'n_critic': 1,
          'discriminator': {'name': 'conv_discriminator', 'widths': (64, 128, 256), 'norm': 'batch'},
          'generator': {'name': 'generator',
                        'decoder': {'name': 'conv_decoder', 'widths': (128, 64), 'batch_norm': True}},
          'optimizer': {'name': 'adamw', 'b1': 0.5, 'b2': 0.999, 'weight_decay': 0.0,
                        'learning_rate': {'name': 'constant', 'base': 2e-4}},
          'generator_optimizer': {'name': 'adamw', 'b1': 0.5, 'b2': 0.999, 'weight_decay': 0.0,
                                  'learning_rate': {'name': 'constant', 'base': 2e-4}},
      },
      'checkpoint': {'every': 100, 'keep_last': 3, 'keep_every': 500},
      'logging': {'every': 20},
      'evaluation': {
          'protocols': ('knn', 'linear', 'samples'),  # And 'sgd', 'finetune'.
          'representation': 'layer3,all',  # The last layer, and all three side by side.
          'batch_size': 512,
          'knn': {'k': 5, 'temperature': 0.1},
          # L2 strengths; the share of the training labels that chooses among them.
          'linear': {'grid': (1e-1, 1e-2, 1e-3, 1e-4, 1e-5), 'validation': 0.2},
          'sgd': {'epochs': 90, 'batch_size': 256, 'learning_rate': 10.0},
          'finetune': {'epochs': 60, 'batch_size': 256, 'learning_rate': 1.0},
          'fractions': (),  # Shares of the labels, such as (0.01, 0.1).
          'pictures': True,
      },
      'mesh': {'data': -1, 'model': 1},
  })
