"""BiGAN on CIFAR-10: Donahue et al. 2016, https://arxiv.org/abs/1605.09782.

  python train.py --config configs/bigan_cifar10.py

Networks of DCGAN's size and 64 latent dimensions, as the BiGAN that Deep InfoMax compares itself with (Hjelm et al.
2018, https://arxiv.org/abs/1808.06670, table 1): a perceptron on its last convolution, the h of this config, came to
.626, and on its 64 numbers to .525. Needs the `data` extra; or bring the images as arrays: --config.data.source=npz
--config.data.path=cifar10.npz. Not yet measured.
"""

from ml_collections import ConfigDict


def get_config() -> ConfigDict:
  return ConfigDict({
      'seed': 0,
      'steps': 200 * 50_000 // 128,
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
          'name': 'bigan',
          'latent_size': 64,
          'latent': 'normal',
          'objective': 'joint',  # Or 'unary', BigBiGAN's.
          'r1': 1.0,  # Of the discriminator's slopes at pairs (x, E(x)).
          'stochastic': False,
          'encoder': {'name': 'conv_encoder', 'widths': (64, 128, 256), 'pool': 'flatten', 'batch_norm': True},
          'generator': {'name': 'generator',
                        'decoder': {'name': 'conv_decoder', 'widths': (256, 128, 64), 'batch_norm': True}},
          'discriminator': {
              'name': 'joint_discriminator',
              'of_x': {'name': 'conv_discriminator', 'widths': (64, 128, 256)},
              'of_z': {'name': 'mlp_discriminator', 'features': (512,)},
              'joint': {'name': 'mlp_discriminator', 'features': (1024, 1024)}},
          'optimizer': {'name': 'adamw', 'b1': 0.0, 'b2': 0.9, 'weight_decay': 0.0,
                        'learning_rate': {'name': 'warmup_cosine', 'base': 2e-4, 'scaling': 'none',
                                          'warmup_epochs': 0.0}},
          'discriminator_optimizer': {'name': 'adamw', 'b1': 0.0, 'b2': 0.9, 'weight_decay': 0.0,
                                      'learning_rate': {'name': 'warmup_cosine', 'base': 8e-4, 'scaling': 'none',
                                                        'warmup_epochs': 0.0}},
      },
      'checkpoint': {'every': 500, 'keep_last': 3, 'keep_every': 5000},
      'logging': {'every': 50},
      'evaluation': {
          'protocols': ('knn', 'linear', 'reconstruction', 'samples'),  # And 'sgd', 'finetune'.
          'representation': 'h,z',  # The last hidden layer of the encoder, and its output.
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
