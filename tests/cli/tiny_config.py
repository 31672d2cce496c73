"""A run of seconds, for tests of the command line."""

from ml_collections import ConfigDict


def get_config() -> ConfigDict:
  return ConfigDict({
      'seed': 1,
      'steps': 12,
      'batch_size': 16,
      'init_from': '',
      'data': {
          'source': 'bundled', 'name': 'omniglot', 'path': '', 'engine': 'device',
          'recipe': {'name': 'drawings', 'size': 14},
      },
      'method': {
          'name': 'simclr',
          'temperature': 0.2,
          'objective': 'nt_xent',  # Or 'ml_cpc' (multi-label CPC), with its alpha.
          'alpha': 1.0,
          'chunks': 1,  # Parts of the batch that are encoded one after another, to save memory.
          'encoder': {'name': 'resnet', 'stage_sizes': (1,), 'block': 'basic', 'widths': (8,), 'stem': 'small'},
          'head': {'name': 'mlp', 'features': (8, 8)},
          'optimizer': {
              'name': 'sgd', 'momentum': 0.9,
              'learning_rate': {'name': 'warmup_cosine', 'base': 0.05, 'scaling': 'linear', 'warmup_epochs': 0.01},
          },
      },
      'checkpoint': {'every': 4, 'keep_last': 2, 'keep_every': None},
      'logging': {'every': 2},
      'evaluation': {
          'protocols': ('knn',), 'representation': '', 'batch_size': 256,
          'knn': {'k': 5, 'temperature': 0.1}, 'linear': {'grid': (1e-2,), 'validation': 0.2},
          'sgd': {'epochs': 1, 'batch_size': 256, 'learning_rate': 0.1},
          'finetune': {'epochs': 1, 'batch_size': 256, 'learning_rate': 0.05}, 'fractions': (), 'pictures': False,
      },
      'mesh': {'data': 1, 'model': 1},
  })
