"""LeJEPA on the bundled drawings: Balestriero and LeCun 2025, https://arxiv.org/abs/2511.08544.

  python train.py --config configs/lejepa_omniglot.py

The network, the views and the length are those of configs/default.py. Measured in the 188 steps of one minute on two
cores of a Xeon, mean of three seeds (benchmarks/methods.py): k-NN .597, linear probe .721; raw pixels .318 and .272, a
random encoder .072 and .163. Not measured at full length. Chosen on drawers 13-15 after pretraining on drawers 1-12
(--config.data.name=omniglot_validation), as many steps, one seed; k-NN and linear probe there: rate 0.01 .519/.652,
0.03 .544/.697.
"""

from ml_collections import ConfigDict


def get_config() -> ConfigDict:
  return ConfigDict({
      'seed': 0,
      'steps': 1000,
      'batch_size': 128,
      'init_from': '',  # The work directory of a run, or a .safetensors file, to take the encoder from.
      'data': {
          'source': 'bundled',  # Or 'tfds', 'folder', 'npz'.
          'name': 'omniglot',
          'path': '',
          'engine': 'device',  # Where views are made: 'device', 'host' (tf.data), or 'split' between them.
          'recipe': {'name': 'drawings', 'size': 28, 'area': (0.6, 1.0), 'ratio': (0.9, 1.1), 'rotation': 15.0,
                     'shear': 0.2, 'log_scale': 0.2, 'translation': 0.1, 'elastic': 0.03, 'thickness': 0.25,
                     'views': 2},
      },
      'method': {
          'name': 'lejepa',
          'weight': 0.05,
          'directions': 256,
          'global_views': 2,
          'encoder': {'name': 'resnet', 'stage_sizes': (1, 1, 1), 'block': 'basic', 'widths': (32, 64, 128),
                      'stem': 'strided', 'average_pool_shortcut': True, 'bn_groups': 1},
          'head': {'name': 'mlp', 'features': (256, 256, 32), 'output_bn': False, 'output_bias': True},
          'optimizer': {
              'name': 'adamw', 'weight_decay': 1e-4,
              'learning_rate': {'name': 'warmup_cosine', 'base': 0.03, 'scaling': 'none', 'warmup_epochs': 3.0},
          },
      },
      'checkpoint': {'every': 100, 'keep_last': 3, 'keep_every': 400},
      'logging': {'every': 10},
      'evaluation': {
          'protocols': ('knn', 'linear'),  # And 'sgd', 'finetune'.
          'representation': '',  # '': the method's default.
          'knn': {'k': 5, 'temperature': 0.1},
          # L2 strengths; the share of the training labels that chooses among them.
          'linear': {'grid': (1e-1, 1e-2, 1e-3, 1e-4, 1e-5), 'validation': 0.2},
          'sgd': {'epochs': 90, 'batch_size': 256, 'learning_rate': 10.0},
          'finetune': {'epochs': 60, 'batch_size': 256, 'learning_rate': 1.0},
          'fractions': (),  # Shares of the labels, such as (0.01, 0.1).
          'batch_size': 512,
          'pictures': True,
      },
      'mesh': {'data': -1, 'model': 1},
  })
