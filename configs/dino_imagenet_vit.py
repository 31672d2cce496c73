"""DINO on ImageNet: Caron et al. 2021, https://arxiv.org/abs/2104.14294.

  python train.py --config configs/dino_imagenet_vit.py --config.data.path=TFDS_DIRECTORY

ViT-S/16, batch 1024, 800 epochs, 2 x 224 and 8 x 96 pixels, AdamW at 5e-4 x batch / 256, weight decay from 0.04 to 0.4.
The paper's: k-NN 74.5 %, linear probe 77.0 %. The code clips the gradient of each parameter at 3, this that of all
together. TFDS prepares ImageNet from the archives you download; prepare it with file_format='array_record'. Not
measured here: it wants a machine of eight GPUs.
"""

from ml_collections import ConfigDict


def get_config() -> ConfigDict:
  return ConfigDict({
      'seed': 0,
      'steps': 800 * 1_281_167 // 1024,
      'batch_size': 1024,
      'init_from': '',
      'data': {
          'source': 'tfds',
          'name': 'imagenet2012',
          'path': '',
          'engine': 'split',
          'recipe': {'name': 'dino', 'size': 224, 'small_size': 96, 'small_views': 8, 'area': (0.4, 1.0),
                     'small_area': (0.05, 0.4)},
      },
      'method': {
          'name': 'dino',
          'temperature': 0.1,
          'target_temperature': {'name': 'linear', 'start': 0.04, 'end': 0.07, 'epochs': 30.0},
          'momentum': {'name': 'cosine', 'start': 0.996, 'end': 1.0},
          'center_momentum': 0.9,
          'freeze_steps': 1251,  # An epoch.
          'koleo_weight': 0.0,
          'encoder': {'name': 'vit_small', 'patch': 16, 'drop_path': 0.1, 'dtype': 'bfloat16', 'remat': False},
          'head': {'name': 'mlp', 'features': (2048, 2048, 256), 'hidden_bn': False, 'output_bn': False,
                   'output_bias': True, 'activation': 'gelu', 'dtype': 'bfloat16'},
          'prototypes': {'name': 'prototypes', 'count': 65_536, 'weight_norm': True},
          'optimizer': {
              'name': 'adamw', 'weight_decay': {'name': 'cosine', 'start': 0.04, 'end': 0.4}, 'clip_norm': 3.0,
              'learning_rate': {'name': 'warmup_cosine', 'base': 5e-4, 'scaling': 'linear', 'warmup_epochs': 10.0,
                                'final': 0.002},
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
