"""An adversarial autoencoder with clusters on Fashion-MNIST: Makhzani et al. 2015, https://arxiv.org/abs/1511.05644.

  python train.py --config configs/adversarial_autoencoder_fashion_mnist.py

30 clusters, found without labels, beside a code of 16 numbers, as in the paper's experiments on MNIST with 16 and 30 of
them. Not yet measured.
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
          'name': 'adversarial_autoencoder',
          'code_size': 16,
          'categories': 30,  # Clusters, found beside the code.
          'prior': 'normal',  # Or 'uniform', 'mixture'.
          'prior_scale': 1.0,
          'divergence': 'jensen_shannon',
          'encoder': {'name': 'conv_encoder', 'widths': (32, 64, 128), 'pool': 'flatten'},
          'decoder': {'name': 'conv_decoder', 'widths': (128, 64, 32)},
          'discriminator': {'name': 'mlp_discriminator', 'features': (256, 256)},
          'optimizer': {'name': 'adamw', 'b1': 0.9, 'b2': 0.999, 'weight_decay': 0.0,
                        'learning_rate': {'name': 'constant', 'base': 1e-3}},
          'discriminator_optimizer': {'name': 'adamw', 'b1': 0.5, 'b2': 0.999, 'weight_decay': 0.0,
                                      'learning_rate': {'name': 'constant', 'base': 5e-4}},
          'encoder_optimizer': {'name': 'adamw', 'b1': 0.5, 'b2': 0.999, 'weight_decay': 0.0,
                                'learning_rate': {'name': 'constant', 'base': 5e-4}},
      },
      'checkpoint': {'every': 100, 'keep_last': 3, 'keep_every': 500},
      'logging': {'every': 20},
      'evaluation': {
          'protocols': ('knn', 'linear', 'reconstruction', 'samples'),  # And 'sgd', 'finetune'.
          'representation': 'z,h,y',  # The code, the layer before it, the clusters.
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
