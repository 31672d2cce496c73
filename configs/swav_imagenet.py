"""SwAV on ImageNet: Caron et al. 2020, https://arxiv.org/abs/2006.09882.

  python train.py --config configs/swav_imagenet.py --config.data.path=TFDS_DIRECTORY

ResNet-50, batch 4096, 800 epochs, 2 x 224 and 6 x 96 pixels, LARS at 4.8 falling to 0.0048, weight decay 1e-6, 3,000
prototypes. The paper's linear probe: 75.3 % top-1. TFDS prepares ImageNet from the archives you download; prepare it
with file_format='array_record'. Not measured here: it wants a machine of eight GPUs.
"""

from ml_collections import ConfigDict


def get_config() -> ConfigDict:
  return ConfigDict({
      'seed': 0,
      'steps': 800 * 1_281_167 // 4096,
      'batch_size': 4096,
      'init_from': '',
      'data': {
          'source': 'tfds',
          'name': 'imagenet2012',
          'path': '',
          'engine': 'split',
          'recipe': {'name': 'multi_crop', 'size': 224, 'small_size': 96, 'small_views': 6, 'area': (0.14, 1.0),
                     'small_area': (0.05, 0.14), 'strength': 1.0, 'blur': 0.5},
      },
      'method': {
          'name': 'swav',
          'temperature': 0.1,
          'epsilon': 0.05,
          'iterations': 3,
          'freeze_steps': 313,  # An epoch.
          'queue_size': 0,
          'queue_start': 0,
          'encoder': {'name': 'resnet50', 'dtype': 'bfloat16', 'bn_groups': 1},
          'head': {'name': 'mlp', 'features': (2048, 128), 'output_bn': False, 'output_bias': True,
                   'dtype': 'bfloat16'},
          'prototypes': {'name': 'prototypes', 'count': 3000},
          'optimizer': {
              'name': 'lars', 'weight_decay': 1e-6,
              'learning_rate': {'name': 'warmup_cosine', 'base': 0.3, 'scaling': 'linear', 'warmup_epochs': 10.0,
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
