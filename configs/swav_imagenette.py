"""SwAV on Imagenette: Caron et al. 2020, https://arxiv.org/abs/2006.09882.

  python train.py --config configs/swav_imagenette.py

Settings of lightly's benchmark on Imagenette: ResNet-18, 2 crops of 128 and 6 of 64 pixels, batch 256, 800 epochs, Adam
(here AdamW) at 1e-3; there k-NN .902 (k = 200, temperature 0.1). The prototypes are frozen for an epoch. Pretrains on
9,469 images and tests on 3,925. Not measured here.
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
          'recipe': {'name': 'multi_crop', 'size': 128, 'small_size': 64, 'small_views': 6, 'area': (0.14, 1.0),
                     'small_area': (0.05, 0.14), 'strength': 0.8, 'blur': 0.5},
      },
      'method': {
          'name': 'swav',
          'temperature': 0.1,
          'epsilon': 0.05,
          'iterations': 3,
          'freeze_steps': 36,  # An epoch.
          'queue_size': 0,
          'queue_start': 0,
          'encoder': {'name': 'resnet18', 'bn_groups': 1},
          'head': {'name': 'mlp', 'features': (2048, 128), 'output_bn': False, 'output_bias': True},
          'prototypes': {'name': 'prototypes', 'count': 3000},
          'optimizer': {
              'name': 'adamw', 'weight_decay': 1e-6,
              'learning_rate': {'name': 'warmup_cosine', 'base': 1e-3, 'scaling': 'linear', 'warmup_epochs': 0.0},
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
