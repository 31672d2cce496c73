from ml_collections import ConfigDict


def get_config() -> ConfigDict:
  return ConfigDict({
      'seed': 0,
      'steps': 40,
      'batch_size': 64,
      'init_from': '',
      'data': {
          'source': 'tfds', 'name': 'spoken_digit', 'path': '', 'engine': 'device',
          'recipe': {'name': 'speech', 'rate': 8000, 'window': 4000, 'strength': 0.0, 'input_seconds': 1.2},
      },
      'method': {
          'name': 'cpc',
          'negatives': 'batch',
          'num_negatives': 128,
          'encoder': {'name': 'audio', 'features': 128, 'kernels': (10, 8, 4, 4), 'strides': (5, 4, 2, 2),
                      'norm': 'batch'},
          'context': {'name': 'rnn', 'kind': 'gru', 'features': 128},
          'predictor': {'name': 'linear_predictor', 'steps': 12, 'features': 128},
          'optimizer': {
              'name': 'adamw', 'weight_decay': 0.0,
              'learning_rate': {'name': 'warmup_cosine', 'base': 1e-3, 'scaling': 'none', 'warmup_epochs': 2.0},
          },
      },
      'checkpoint': {'every': 200, 'keep_last': 3, 'keep_every': None},
      'logging': {'every': 10},
      'evaluation': {
          'protocols': ('knn', 'linear', 'linear_steps'),
          'representation': '',  # '': z and c.
          'knn': {'k': 5, 'temperature': 0.1},
          'linear': {'grid': (1e-2, 1e-3, 1e-4), 'validation': 0.2},
          'fractions': (),
          'batch_size': 256,
          'pictures': True,
      },
      'mesh': {'data': -1, 'model': 1},
  })
