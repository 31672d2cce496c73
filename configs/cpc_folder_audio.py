"""CPC on a folder of recordings of your own: van den Oord et al. 2018, https://arxiv.org/abs/1807.03748.

  pip install -e ".[train,audio]"
  python train.py --config configs/cpc_folder_audio.py --config.data.path=DIRECTORY --preview
  python train.py --config configs/cpc_folder_audio.py --config.data.path=DIRECTORY

Any directory of wav, flac, ogg or mp3 files, nested or not, of any rate; one sub-directory a class if there are labels
to evaluate with. A fifth of the files is held out, unless there is test/. Sized for two CPU cores. Measured there on
the 3,000 spoken digits (0.4 s each) as wav files, seed 0, a fifth held out, beside a long test run: 17 minutes (23
clips a second; 60 alone, over 200 steps, makes 7). Linear probe / k-NN of digits: c .978 / .967, z .977 / .955,
MFCC .925 / .947, random c .570 / .397, random z .477 / .402.
"""

from ml_collections import ConfigDict, config_dict


def get_config() -> ConfigDict:
  return ConfigDict({
      'seed': 0,
      'steps': 1500,
      'batch_size': 16,
      'init_from': '',  # The work directory of a run, or a .safetensors file, to take the encoder from.
      'data': {
          'source': 'folder',
          'name': '',
          'path': '',
          'engine': 'device',  # The one for audio.
          'recipe': {'name': 'speech', 'rate': 16_000, 'window': 20_480, 'strength': 0.0, 'input_seconds': 4.0},
      },
      'method': {
          'name': 'cpc',
          'negatives': 'batch',  # Or 'sequence', 'others'; with speakers (.npz, TFDS) 'group', 'group_others'.
          'num_negatives': 128,  # Drawn for each sequence; not set: all steps of the batch, which is slow on a CPU.
          'objective': 'info_nce',  # Or 'ml_cpc', with its alpha.
          'alpha': 1.0,
          'encoder': {'name': 'audio', 'features': 128, 'kernels': (10, 8, 4, 4, 4), 'strides': (5, 4, 2, 2, 2),
                      'norm': 'channel'},
          'context': {'name': 'rnn', 'kind': 'gru', 'features': 256},
          'predictor': {'name': 'linear_predictor', 'steps': 12, 'features': 128},
          'optimizer': {
              'name': 'adamw', 'weight_decay': 0.0,
              'learning_rate': {'name': 'warmup_cosine', 'base': 1e-3, 'scaling': 'none', 'warmup_epochs': 2.0},
          },
      },
      'checkpoint': {'every': 200, 'keep_last': 3, 'keep_every': config_dict.placeholder(int)},
      'logging': {'every': 10},
      'evaluation': {
          'protocols': ('knn', 'linear'),
          'representation': '',  # 'z' or 'c'; '': both.
          'knn': {'k': 5, 'temperature': 0.1},
          'linear': {'grid': (1e-2, 1e-3, 1e-4), 'validation': 0.2},
          'fractions': (),  # Shares of the labels, such as (0.01, 0.1).
          'batch_size': 64,
          'pictures': True,
      },
      'mesh': {'data': -1, 'model': 1},
  })
