"""SimSiam on STL-10: Chen and He 2020, https://arxiv.org/abs/2011.10566.

  python train.py --config configs/simsiam_stl10.py

Pretrains for 200 epochs on the 100,000 unlabelled and the 5,000 training images; the evaluation learns from the 5,000
and tests on 8,000. Crops of 64 pixels, with blur, and a ResNet-18 whose first layer has stride 2; the rest as in
configs/simsiam_cifar10.py. The choice is ours, and is not measured yet.
"""

from ml_collections import ConfigDict


def get_config() -> ConfigDict:
  return ConfigDict({
      'seed': 0,
      'steps': 200 * 105_000 // 512,
      'batch_size': 512,
      'init_from': '',
      'data': {
          'source': 'tfds',
          'name': 'stl10',
          'path': '',
          'engine': 'split',
          'recipe': {'name': 'simclr', 'size': 64, 'strength': 0.5, 'blur': 0.5},
      },
      'method': {
          'name': 'simsiam',
          'encoder': {'name': 'resnet18', 'stem': 'strided', 'bn_groups': 1},
          'head': {'name': 'mlp', 'features': (2048, 2048), 'output_scale': False},
          'predictor': {'name': 'mlp', 'features': (512, 2048), 'output_bn': False, 'output_bias': True},
          'predictor_optimizer': {
              'name': 'sgd', 'momentum': 0.9, 'weight_decay': 5e-4, 'decay_all': True,
              'learning_rate': {'name': 'constant', 'base': 0.03, 'scaling': 'linear'},
          },
          'optimizer': {
              'name': 'sgd', 'momentum': 0.9, 'decay_all': True, 'weight_decay': 5e-4,
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
