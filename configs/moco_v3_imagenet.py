"""MoCo v3 on ImageNet: Chen, Xie and He 2021, https://arxiv.org/abs/2104.02057.

  python train.py --config configs/moco_v3_imagenet.py --config.data.path=TFDS_DIRECTORY

ResNet-50, batch 4096, 1000 epochs, LARS at 0.3 x batch / 256, weight decay 1.5e-6, temperature 1 (the authors' code).
Its linear probe: 74.6 % top-1. TFDS prepares ImageNet from the archives you download; prepare it with
file_format='array_record'. Not measured here: it wants a machine of eight GPUs.
"""

from ml_collections import ConfigDict


def get_config() -> ConfigDict:
  return ConfigDict({
      'seed': 0,
      'steps': 1000 * 1_281_167 // 4096,
      'batch_size': 4096,
      'init_from': '',
      'data': {
          'source': 'tfds',
          'name': 'imagenet2012',
          'path': '',
          'engine': 'split',
          'recipe': {'name': 'byol', 'size': 224, 'area': (0.2, 1.0)},
      },
      'method': {
          'name': 'moco_v3',
          'temperature': 1.0,
          'momentum': {'name': 'cosine', 'start': 0.996, 'end': 1.0},
          'freeze_patches': False,  # Of a ViT.
          'encoder': {'name': 'resnet50', 'dtype': 'bfloat16', 'bn_groups': 1},
          'head': {'name': 'mlp', 'features': (4096, 256), 'output_scale': False, 'dtype': 'bfloat16'},
          'predictor': {'name': 'mlp', 'features': (4096, 256), 'output_bn': False, 'dtype': 'bfloat16'},
          'optimizer': {
              'name': 'lars', 'weight_decay': 1.5e-6,
              'learning_rate': {'name': 'warmup_cosine', 'base': 0.3, 'scaling': 'linear', 'warmup_epochs': 10.0},
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
