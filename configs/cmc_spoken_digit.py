"""CMC on spoken digits, the waveform and its log-mel spectrum: Tian, Krishnan, Isola 2020, arXiv:1906.05849.

  pip install -e ".[train,data,audio]"
  python train.py --config configs/cmc_spoken_digit.py

Each clip is a scene of two views: raw samples, under an encoder of strided convolutions, and the log-mel spectrum,
under one of its own; both are changed in level, noise and tempo by themselves. Two microphones, or any signals of one
length, come as paired arrays: take configs/cmc_views.py with the encoders of this file.

A glimpse, 150 steps, seed 0, on two CPU cores beside other programs: digits by k-NN .970 (random encoders .943, MFCC
.977), of unheard speakers .412 (.363, .375); by linear probe .967 (.953, .940) and .512 (.561, .583).
"""

from ml_collections import ConfigDict, config_dict


def get_config() -> ConfigDict:
  return ConfigDict({
      'seed': 0,
      'steps': 600,
      'batch_size': 128,
      'init_from': '',  # The work directory of a run, or a .safetensors file, to take the encoder from.
      'data': {
          'source': 'tfds',
          'name': 'spoken_digit',
          'path': '',
          'engine': 'device',  # The one for audio.
          'recipe': {'name': 'speech', 'rate': 8000, 'window': 4000, 'strength': 1.0, 'views': 2,
                     'input_seconds': 1.2},
      },
      'method': {
          'name': 'cmc',
          'views': 2,
          'shared': False,
          'graph': 'full',
          'contrast': 'batch',  # Or with a memory of all examples: 'memory', 'memory_nce'.
          'temperature': 0.1,
          'num_negatives': 1024,  # Of a memory.
          'momentum': 0.5,  # Of a memory.
          'encoder': (
              {'name': 'pooled', 'encoder': {'name': 'audio', 'features': 128, 'kernels': (10, 8, 4, 4),
                                             'strides': (5, 4, 2, 2), 'norm': 'batch'}},
              {'name': 'pooled', 'encoder': {'name': 'log_mel', 'features': 128, 'rate': 8000}},
          ),
          'head': {'name': 'mlp', 'features': (128,), 'output_bn': False, 'output_bias': True},
          'optimizer': {
              'name': 'adamw', 'weight_decay': 1e-4,
              'learning_rate': {'name': 'warmup_cosine', 'base': 1e-3, 'scaling': 'none', 'warmup_epochs': 2.0},
          },
      },
      'checkpoint': {'every': 200, 'keep_last': 3, 'keep_every': config_dict.placeholder(int)},
      'logging': {'every': 10},
      'evaluation': {
          'protocols': ('knn', 'linear'),
          'representation': 'h',  # Of both views; 'h_view0', 'z', …; '': all, one after another.
          'knn': {'k': 5, 'temperature': 0.1},
          'linear': {'grid': (1e-2, 1e-3, 1e-4), 'validation': 0.2},
          'fractions': (),  # Shares of the labels, such as (0.01, 0.1).
          'batch_size': 256,
          'pictures': True,
      },
      'mesh': {'data': -1, 'model': 1},
  })
