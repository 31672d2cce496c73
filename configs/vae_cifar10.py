"""A VAE on CIFAR-10: Kingma and Welling 2013, https://arxiv.org/abs/1312.6114.

  python train.py --config configs/vae_cifar10.py

The encoder has the size of DCGAN's discriminator and 64 latent dimensions, as the VAE that Deep InfoMax compares itself
with (Hjelm et al. 2018, https://arxiv.org/abs/1808.06670, table 1): a perceptron on its latents came to .546 there, on
the layer before them to .605, a linear SVM to .396 and .421. Needs the `data` extra; or bring the images as arrays:
--config.data.source=npz --config.data.path=cifar10.npz. Not yet measured.
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
          'name': 'vae',
          'latent_size': 64,
          'beta': {'name': 'linear_warmup', 'base': 1.0, 'warmup_epochs': 10.0},
          'likelihood': 'gaussian',
          'variance': None,  # Learned, one for all pixels.
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
          'reconstruction': {'samples': 50},  # Of z, for the importance-weighted bound.
          'sgd': {'epochs': 90, 'batch_size': 256, 'learning_rate': 10.0},
          'finetune': {'epochs': 60, 'batch_size': 256, 'learning_rate': 1.0},
          'fractions': (),  # Shares of the labels, such as (0.01, 0.1).
          'pictures': True,
      },
      'mesh': {'data': -1, 'model': 1},
  })
