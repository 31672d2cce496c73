"""MoCo v2 on CIFAR-10: Chen et al. 2020, https://arxiv.org/abs/2003.04297, and He et al., arXiv:1911.05722.

  python train.py --config configs/moco_cifar10.py

ResNet-18, 200 epochs of batch 512. Queue, momentum, temperature and learning rate are ours for a small set (those of
the paper, for ImageNet: 65,536, 0.999, 0.2 and 0.03 at batch 256). --config.method.objective=ml_cpc trains multi-label
CPC against the queue, as Song and Ermon do (arXiv:2007.09852; there a ResNet-50, queue 65,536, momentum 0.999,
temperature 0.07, a head to 2048, SGD at 0.3 for batch 256). Not measured here at full length.
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
          'name': 'cifar10',
          'path': '',
          'engine': 'device',
          'recipe': {'name': 'simclr', 'size': 32, 'strength': 0.5, 'blur': 0.0},
      },
      'method': {
          'name': 'moco',
          'temperature': 0.1,
          'target_temperature': 0.04,  # Of 'relational'.
          'momentum': 0.99,
          'queue_size': 4096,
          'objective': 'info_nce',  # Or 'relational' (ReSSL), 'ml_cpc' (multi-label CPC), with its alpha.
          'alpha': 1.0,
          'encoder': {'name': 'resnet18', 'stem': 'small'},
          'head': {'name': 'mlp', 'features': (512, 128), 'hidden_bn': False, 'output_bn': False,
                   'output_bias': True},
          'optimizer': {
              'name': 'sgd', 'momentum': 0.9, 'weight_decay': 5e-4,
              'learning_rate': {'name': 'warmup_cosine', 'base': 0.03, 'scaling': 'linear', 'warmup_epochs': 1.0},
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
