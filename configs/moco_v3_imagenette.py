"""MoCo v3 on Imagenette: Chen, Xie and He 2021, https://arxiv.org/abs/2104.02057.

  python train.py --config configs/moco_v3_imagenette.py

ViT-S/16 on crops of 128 pixels for 200 epochs; rate, decay, warm-up and heads are those of the paper for ImageNet. With
the same network and length stable-pretraining reports 82.6 % (k-NN) and 84.7 % (linear probe), at a size and with
settings of its own. Pretrains on 9,469 images and tests on 3,925. Not measured here.
"""

from ml_collections import ConfigDict


def get_config() -> ConfigDict:
  return ConfigDict({
      'seed': 0,
      'steps': 200 * 9_469 // 256,
      'batch_size': 256,
      'init_from': '',
      'data': {
          'source': 'tfds',
          'name': 'imagenette/160px-v2',
          'path': '',
          'engine': 'split',
          'recipe': {'name': 'byol', 'size': 128},
      },
      'method': {
          'name': 'moco_v3',
          'temperature': 0.2,
          'momentum': {'name': 'cosine', 'start': 0.99, 'end': 1.0},
          'freeze_patches': True,
          'encoder': {'name': 'vit_small', 'patch': 16, 'remat': False},
          'head': {'name': 'mlp', 'features': (4096, 4096, 256), 'output_scale': False},
          'predictor': {'name': 'mlp', 'features': (4096, 256), 'output_bn': False},
          'optimizer': {
              'name': 'adamw', 'weight_decay': 0.1,
              'learning_rate': {'name': 'warmup_cosine', 'base': 1.5e-4, 'scaling': 'linear', 'warmup_epochs': 40.0},
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
