"""SimSiam on CIFAR-10: Chen and He 2020, https://arxiv.org/abs/2011.10566.

  python train.py --config configs/simsiam_cifar10.py

The paper's appendix D: ResNet-18, a projection of two layers, SGD at 0.03 x batch / 256, weight decay 5e-4, batch 512;
there 91.8 % by a linear probe after 800 epochs. Here 200. For CIFAR-100: --config.data.name=cifar100. Not measured here
at full length.
"""

from ml_collections import ConfigDict


def get_config() -> ConfigDict:
  return ConfigDict({
      'seed': 0,
      'steps': 200 * 50_000 // 512,
      'batch_size': 512,
      'init_from': '',
      'data': {
          'source': 'tfds',
          'name': 'cifar10',  # Or 'cifar100'.
          'path': '',
          'engine': 'device',
          'recipe': {'name': 'simclr', 'size': 32, 'strength': 0.5, 'blur': 0.0},
      },
      'method': {
          'name': 'simsiam',
          'encoder': {'name': 'resnet18', 'stem': 'small', 'bn_groups': 1},
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
