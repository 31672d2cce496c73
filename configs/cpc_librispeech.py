"""CPC on LibriSpeech as in the paper: van den Oord et al. 2018, https://arxiv.org/abs/1807.03748, section 3.1.

  pip install -e ".[train,data,audio]" "jax[cuda13]"
  python train.py --config configs/cpc_librispeech.py

The 100 hours of TFDS's first training split (train_clean100), all settings the paper's: eight GPUs with eight windows
each, about 300,000 updates. The paper's negatives are those of a GPU's own eight windows; here they are the global
batch's. It reports a linear probe of single steps: 97.4 % of 251 speakers (this evaluation's `linear_steps`), 64.6 % of
41 phones, whose alignments TFDS does not have. A fifth of every speaker's recordings is held out. Not measured: it
takes days of GPUs.
"""

from ml_collections import ConfigDict, config_dict


def get_config() -> ConfigDict:
  return ConfigDict({
      'seed': 0,
      'steps': 300_000,
      'batch_size': 64,
      'init_from': '',  # The work directory of a run, or a .safetensors file, to take the encoder from.
      'data': {
          'source': 'tfds',
          'name': 'librispeech',
          'path': '',
          'engine': 'device',  # The one for audio.
          'recipe': {'name': 'speech', 'rate': 16_000, 'window': 20_480, 'strength': 0.0, 'input_seconds': 15.0},
      },
      'method': {
          'name': 'cpc',
          'negatives': 'batch',  # Or 'sequence', 'group' (the same speaker), 'others', 'group_others'.
          'num_negatives': config_dict.placeholder(int),  # Not set: all steps of the batch.
          'objective': 'info_nce',  # Or 'ml_cpc', with its alpha.
          'alpha': 1.0,
          'encoder': {'name': 'audio', 'features': 512, 'kernels': (10, 8, 4, 4, 4), 'strides': (5, 4, 2, 2, 2),
                      'norm': 'batch'},
          'context': {'name': 'rnn', 'kind': 'gru', 'features': 256},
          'predictor': {'name': 'linear_predictor', 'steps': 12, 'features': 512},
          'optimizer': {
              'name': 'adamw', 'weight_decay': 0.0,
              'learning_rate': {'name': 'constant', 'base': 2e-4},
          },
      },
      'checkpoint': {'every': 5000, 'keep_last': 3, 'keep_every': config_dict.placeholder(int)},
      'logging': {'every': 10},
      'evaluation': {
          'protocols': ('knn', 'linear', 'linear_steps'),
          'representation': '',  # 'z' or 'c'; '': both.
          'knn': {'k': 5, 'temperature': 0.1},
          'linear': {'grid': (1e-2, 1e-3, 1e-4), 'validation': 0.2},
          'fractions': (),  # Shares of the labels, such as (0.01, 0.1).
          'batch_size': 16,
          'pictures': True,
      },
      'mesh': {'data': -1, 'model': 1},
  })
