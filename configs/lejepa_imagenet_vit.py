"""LeJEPA on ImageNet: Balestriero and LeCun 2025, https://arxiv.org/abs/2511.08544.

  python train.py --config configs/lejepa_imagenet_vit.py --config.data.path=TFDS_DIRECTORY

ViT-L/14, 2 x 224 and 6 x 98 pixels, AdamW at 5e-4, weight decay 0.05, lambda 0.05, 1,024 directions; batch, length and
the head's size are ours. The paper's linear probe of a ViT-H/14: 79 % top-1. TFDS prepares ImageNet from the archives
you download; prepare it with file_format='array_record'. Not measured here: it wants a machine of eight GPUs.
"""

from ml_collections import ConfigDict


def get_config() -> ConfigDict:
  return ConfigDict({
      'seed': 0,
      'steps': 100 * 1_281_167 // 1024,
      'batch_size': 1024,
      'init_from': '',
      'data': {
          'source': 'tfds',
          'name': 'imagenet2012',
          'path': '',
          'engine': 'split',
          'recipe': {'name': 'multi_crop', 'size': 224, 'small_size': 98, 'small_views': 6, 'area': (0.3, 1.0),
                     'small_area': (0.05, 0.3), 'strength': 0.5, 'blur': 0.5},
      },
      'method': {
          'name': 'lejepa',
          'weight': 0.05,
          'directions': 1024,
          'global_views': 2,
          'encoder': {'name': 'vit_large', 'patch': 14, 'drop_path': 0.0, 'dtype': 'bfloat16', 'remat': False},
          'head': {'name': 'mlp', 'features': (2048, 2048, 64), 'output_bn': False, 'output_bias': True,
                   'dtype': 'bfloat16'},
          'optimizer': {
              'name': 'adamw', 'weight_decay': 0.05,
              'learning_rate': {'name': 'warmup_cosine', 'base': 5e-4, 'scaling': 'none', 'warmup_epochs': 10.0},
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
