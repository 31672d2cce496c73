"""An adversarial autoencoder on CIFAR-10: Makhzani et al. 2015, https://arxiv.org/abs/1511.05644.

  python train.py --config configs/adversarial_autoencoder_cifar10.py

Networks of DCGAN's size and a code of 64 numbers, as the AAE that Deep InfoMax compares itself with (Hjelm et al.
2018, https://arxiv.org/abs/1808.06670, table 1): a perceptron on its last convolution, the h of this config, came to
.594, and on its 64 numbers to .528. Needs the `data` extra; or bring the images as arrays: --config.data.source=npz
--config.data.path=cifar10.npz. Not yet measured.
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
          'name': 'adversarial_autoencoder',
          'code_size': 64,
          'categories': 0,
          'prior': 'normal',  # Or 'uniform', 'mixture'.
          'prior_scale': 1.0,
          'divergence': 'jensen_shannon',
          'encoder': {'name': 'conv_encoder', 'widths': (64, 128, 256), 'pool': 'flatten'},
          'decoder': {'name': 'conv_decoder', 'widths': (256, 128, 64)},
          'discriminator': {'name': 'mlp_discriminator', 'features': (256, 256)},
          'optimizer': {'name': 'adamw', 'b1': 0.9, 'b2': 0.999, 'weight_decay': 0.0,
                        'learning_rate': {'name': 'constant', 'base': 1e-3}},
          'discriminator_optimizer': {'name': 'adamw', 'b1': 0.5, 'b2': 0.999, 'weight_decay': 0.0,
                                      'learning_rate': {'name': 'constant', 'base': 5e-4}},
          'encoder_optimizer': {'name': 'adamw', 'b1': 0.5, 'b2': 0.999, 'weight_decay': 0.0,
                                'learning_rate': {'name': 'constant', 'base': 5e-4}},
      },
      'checkpoint': {'every': 500, 'keep_last': 3, 'keep_every': 5000},
      'logging': {'every': 50},
      'evaluation': {
          'protocols': ('knn', 'linear', 'reconstruction', 'samples'),  # And 'sgd', 'finetune'.
          'representation': 'z,h',  # The code, and the layer before it.
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
