"""CPC on spoken digits, 8 kHz: van den Oord et al. 2018, https://arxiv.org/abs/1807.03748.

  pip install -e ".[train,data,audio]"
  python train.py --config configs/cpc_spoken_digit.py

Measured on two busy cores of a Xeon, one seed, 435 s of pretraining: digits and speakers of the customary test takes
(0 to 4), and digits of each speaker in turn whom the classifier has not heard; linear probe / k-NN (k = 5) on mean and
standard deviation over time.

              digit        speaker       digit, unheard speaker
  MFCC        .940 / .977  1.000 / .993  .583 / .375
  random z    .550 / .420   .927 / .760  .390 / .292
  random c    .600 / .437   .930 / .693  .412 / .288
  CPC z       .980 / .967   .997 / .997  .552 / .451
  CPC c       .983 / .967  1.000 / .997  .686 / .573

c wins where it matters: digits of unheard speakers, and single steps (linear probe .755 against z's .465 and MFCC's
.403 for digits, .979, .882 and .755 for speakers).

Tried on takes 5 to 9 (not the test takes), seed 0, 400 steps; linear probe of c, digit / speaker / unheard:
- these settings, the paper's but for the size and the drawn negatives: .960/.987/.465;
- negatives 'others': .943/.990/.504; norm 'channel': .950/.987/.534;
- gain, polarity and noise: .947/.983/.527; all three for 800 steps: .950/.993/.527;
- these settings for 1,000 steps: .970/.993/.623. Longer training counts most.
- a log-mel encoder instead of raw audio, 500 steps: .997/1.000/.744 (random: .983/.997/.615). It learns most and
  fastest, but leaves little to gain over its random self; raw audio shows what is learnt.
"""

from ml_collections import ConfigDict, config_dict


def get_config() -> ConfigDict:
  return ConfigDict({
      'seed': 0,
      'steps': 1500,
      'batch_size': 64,
      'init_from': '',  # The work directory of a run to take the encoder from.
      'data': {
          'source': 'tfds',
          'name': 'spoken_digit',
          'path': '',
          'engine': 'device',  # The one for audio.
          'recipe': {'name': 'speech', 'rate': 8000, 'window': 4000, 'strength': 0.0, 'input_seconds': 1.2},
      },
      'method': {
          'name': 'cpc',
          'negatives': 'batch',  # Or 'sequence', 'group' (the same speaker), 'others', 'group_others'.
          'num_negatives': 128,  # Drawn for each sequence; not set: all steps of the batch, which is slow on a CPU.
          'objective': 'info_nce',  # Or 'ml_cpc', with its alpha.
          'alpha': 1.0,
          'encoder': {'name': 'audio', 'features': 128, 'kernels': (10, 8, 4, 4), 'strides': (5, 4, 2, 2),
                      'norm': 'batch'},
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
          'protocols': ('knn', 'linear', 'linear_steps'),
          'representation': '',  # 'z' or 'c'; '': both.
          'knn': {'k': 5, 'temperature': 0.1},
          'linear': {'grid': (1e-2, 1e-3, 1e-4), 'validation': 0.2},
          'fractions': (),  # Shares of the labels, such as (0.01, 0.1).
          'batch_size': 256,
          'pictures': True,
      },
      'mesh': {'data': -1, 'model': 1},
  })
