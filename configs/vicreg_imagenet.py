"""VICReg on ImageNet: Bardes et al. 2022, https://arxiv.org/abs/2105.04906.

  python train.py --config configs/vicreg_imagenet.py --config.data.path=TFDS_DIRECTORY

ResNet-50, batch 2048, 1000 epochs, LARS at 0.2 x batch / 256, weight decay 1e-6 (section 4.2). The paper's linear
probe: 73.2 % top-1. TFDS prepares ImageNet from the archives you download; prepare it with file_format='array_record'.
Not measured here: it wants a machine of eight GPUs.
"""

from ml_collections import ConfigDict


def get_config() -> ConfigDict:
  return ConfigDict({
      'seed': 0,
      'steps': 1000 * 1_281_167 // 2048,
      'batch_size': 2048,
      'init_from': '',
      'data': {
          'source': 'tfds',
          'name': 'imagenet2012',
          'path': '',
          'engine': 'split',
          'recipe': {'name': 'byol', 'size': 224},
      },
      'method': {
          'name': 'vicreg',
          'invariance': 25.0,
          'variance': 25.0,
          'covariance': 1.0,
          'encoder': {'name': 'resnet50', 'dtype': 'bfloat16', 'bn_groups': 1},
          'head': {'name': 'mlp', 'features': (8192, 8192, 8192), 'output_bn': False, 'dtype': 'bfloat16'},
          'optimizer': {
              'name': 'lars', 'weight_decay': 1e-6,
              'learning_rate': {'name': 'warmup_cosine', 'base': 0.2, 'scaling': 'linear', 'warmup_epochs': 10.0,
                                'final': 0.001},
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
