"""MoCo v3 on ImageNet: Chen, Xie and He 2021, https://arxiv.org/abs/2104.02057.

  python train.py --config configs/moco_v3_imagenet_vit.py --config.data.path=TFDS_DIRECTORY

ViT-S/16, batch 4096, 300 epochs, AdamW at 1.5e-4 x batch / 256, weight decay 0.1, warm-up 40 epochs, temperature 0.2, a
random map of patches. The paper's linear probe: 73.2 % top-1 (with 12 heads; here 6). TFDS prepares ImageNet from the
archives you download; prepare it with file_format='array_record'. Not measured here: it wants a machine of eight GPUs.
"""

from ml_collections import ConfigDict


def get_config() -> ConfigDict:
  return ConfigDict({
      'seed': 0,
      'steps': 300 * 1_281_167 // 4096,
      'batch_size': 4096,
      'init_from': '',
      'data': {
          'source': 'tfds',
          'name': 'imagenet2012',
          'path': '',
          'engine': 'split',
          'recipe': {'name': 'byol', 'size': 224},
      },
      'method': {
          'name': 'moco_v3',
          'temperature': 0.2,
          'momentum': {'name': 'cosine', 'start': 0.99, 'end': 1.0},
          'freeze_patches': True,
          'encoder': {'name': 'vit_small', 'patch': 16, 'dtype': 'bfloat16', 'remat': False},
          'head': {'name': 'mlp', 'features': (4096, 4096, 256), 'output_scale': False, 'dtype': 'bfloat16'},
          'predictor': {'name': 'mlp', 'features': (4096, 256), 'output_scale': False, 'dtype': 'bfloat16'},
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
