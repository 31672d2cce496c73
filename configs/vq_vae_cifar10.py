"""VQ-VAE on CIFAR-10: van den Oord et al. 2017, https://arxiv.org/abs/1711.00937.

  python train.py --config configs/vq_vae_cifar10.py

The paper's K = 512, beta = 0.25, moving averages of 0.99, an 8x8 grid (two strided convolutions of 32 pixels) with two
residual blocks, Adam at 2e-4 and batch 128 for 250,000 steps. Ours: code_dim 64, widths 128 and 128 (half of the
paper's), 100,000 steps, a warm-up and a cosine, crops and flips, and entries that restart. Not measured here.
"""

from ml_collections import ConfigDict


def get_config() -> ConfigDict:
  return ConfigDict({
      'seed': 0,
      'steps': 100_000,
      'batch_size': 128,
      'init_from': '',  # The work directory of a run, or a .safetensors file, to take the encoder from.
      'data': {
          'source': 'tfds',
          'name': 'cifar10',
          'path': '',
          'engine': 'device',  # Where views are made: 'device', 'host' (tf.data), or 'split' between them.
          'recipe': {'name': 'crop_flip', 'size': 32, 'area': (0.64, 1.0), 'views': 1},
      },
      'method': {
          'name': 'vq_vae',
          'num_codes': 512,  # K
          'code_dim': 64,
          'groups': 1,  # Codes for each place of the grid.
          'commitment': 0.25,  # beta
          'decay': 0.99,  # Of the codebook's moving averages; None: it has a loss of its own, and restart_below is 0.
          'restart_below': 0.1,  # Share of even use below which an entry starts again.
          'encoder': {'name': 'conv_encoder', 'widths': (128, 128), 'residual_blocks': 2, 'pool': 'grid',
                      'batch_norm': False},
          'decoder': {'name': 'conv_decoder', 'widths': (128, 128), 'residual_blocks': 2, 'batch_norm': False},
          'optimizer': {
              'name': 'adamw', 'weight_decay': 0.0,
              'learning_rate': {'name': 'warmup_cosine', 'base': 2e-4, 'scaling': 'none', 'warmup_epochs': 1.0},
          },
      },
      'checkpoint': {'every': 1000, 'keep_last': 3, 'keep_every': 20_000},
      'logging': {'every': 50},
      'evaluation': {
          'protocols': ('knn', 'linear', 'reconstruction'),  # And 'sgd', 'finetune'.
          'representation': '',  # '': the method's default.
          'batch_size': 512,
          'knn': {'k': 200, 'temperature': 0.1},
          # L2 strengths; the share of the training labels that chooses among them.
          'linear': {'grid': (1e-1, 1e-2, 1e-3, 1e-4, 1e-5), 'validation': 0.2},
          'sgd': {'epochs': 90, 'batch_size': 256, 'learning_rate': 0.1},
          'finetune': {'epochs': 60, 'batch_size': 256, 'learning_rate': 0.05},
          'reconstruction': {'samples': 1},
          'fractions': (),  # Shares of the labels, such as (0.01, 0.1).
          'pictures': True,
      },
      'mesh': {'data': -1, 'model': 1},
  })
