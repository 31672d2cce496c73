"""VICReg on Imagenette: Bardes et al. 2022, https://arxiv.org/abs/2105.04906.

  python train.py --config configs/vicreg_imagenette.py

Settings of lightly's benchmark on Imagenette: ResNet-18, crops of 128 pixels, batch 256, 800 epochs; there k-NN .845 (k
= 200, temperature 0.1). Pretrains on 9,469 images and tests on 3,925. Not measured here.
"""

from ml_collections import ConfigDict


def get_config() -> ConfigDict:
  return ConfigDict({
      'seed': 0,
      'steps': 800 * 9_469 // 256,
      'batch_size': 256,
      'init_from': '',
      'data': {
          'source': 'tfds',
          'name': 'imagenette/160px-v2',
          'path': '',
          'engine': 'split',
          'recipe': {'name': 'simclr', 'size': 128, 'strength': 0.5, 'blur': 0.5},
      },
      'method': {
          'name': 'vicreg',
          'invariance': 25.0,
          'variance': 25.0,
          'covariance': 1.0,
          'encoder': {'name': 'resnet18', 'bn_groups': 1},
          'head': {'name': 'mlp', 'features': (2048, 2048, 2048), 'output_bn': False},
          'optimizer': {
              'name': 'lars', 'weight_decay': 1e-4,
              'learning_rate': {'name': 'warmup_cosine', 'base': 0.3, 'scaling': 'linear', 'warmup_epochs': 40.0},
          },
      },
      'checkpoint': {'every': 500, 'keep_last': 3, 'keep_every': 5000},
      'logging': {'every': 50},
      'evaluation': {
          'protocols': ('knn', 'linear'),  # And 'sgd', 'finetune'.
          'representation': '',  # '': the method's default.
          'batch_size': 512,
          'knn': {'k': 200, 'temperature': 0.1},
          # L2 strengths; the share of the training labels that chooses among them.
          'linear': {'grid': (1e-1, 1e-2, 1e-3, 1e-4, 1e-5), 'validation': 0.2},
          'sgd': {'epochs': 90, 'batch_size': 256, 'learning_rate': 0.1},
          'finetune': {'epochs': 60, 'batch_size': 256, 'learning_rate': 0.05},
          'fractions': (),  # Shares of the labels, such as (0.01, 0.1).
          'pictures': True,
      },
      'mesh': {'data': -1, 'model': 1},
  })
