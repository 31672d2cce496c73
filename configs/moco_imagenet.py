"""MoCo v2 on ImageNet: Chen et al. 2020, https://arxiv.org/abs/2003.04297, and He et al., arXiv:1911.05722.

  python train.py --config configs/moco_imagenet.py --config.data.path=TFDS_DIRECTORY

ResNet-50, batch 256, 200 epochs, SGD at 0.03 with a cosine, weight decay 1e-4 on everything, a queue of 65,536,
momentum 0.999, temperature 0.2 (section 4 of v1, table 1 of v2, and the code). The paper's linear probe: 67.5 %
top-1; 800 epochs (--config.steps=4003646): 71.1 %. The code's colour jitter (0.4, 0.4, 0.4, 0.1) is that of strength
0.5, and its cosine falls by the epoch. Batch norm there is of 32 images, shuffled over eight GPUs, here of all 256.
TFDS prepares ImageNet from the archives you download; prepare it with file_format='array_record'. Not measured here:
it wants a machine of eight GPUs.
"""

from ml_collections import ConfigDict


def get_config() -> ConfigDict:
  return ConfigDict({
      'seed': 0,
      'steps': 200 * 1_281_167 // 256,
      'batch_size': 256,
      'init_from': '',
      'data': {
          'source': 'tfds',
          'name': 'imagenet2012',
          'path': '',
          'engine': 'split',
          'recipe': {'name': 'simclr', 'size': 224, 'strength': 0.5, 'blur': 0.5, 'area': (0.2, 1.0)},
      },
      'method': {
          'name': 'moco',
          'temperature': 0.2,
          'target_temperature': 0.04,  # Of 'relational'.
          'momentum': 0.999,
          'queue_size': 65_536,
          'objective': 'info_nce',  # Or 'relational' (ReSSL), 'ml_cpc' (multi-label CPC), with its alpha.
          'alpha': 1.0,
          'encoder': {'name': 'resnet50', 'dtype': 'bfloat16', 'bn_groups': 1},
          'head': {'name': 'mlp', 'features': (2048, 128), 'hidden_bn': False, 'output_bn': False, 'output_bias': True,
                   'dtype': 'bfloat16'},
          'optimizer': {
              'name': 'sgd', 'momentum': 0.9, 'decay_all': True, 'weight_decay': 1e-4,
              'learning_rate': {'name': 'warmup_cosine', 'base': 0.03, 'scaling': 'linear', 'warmup_epochs': 0.0},
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
