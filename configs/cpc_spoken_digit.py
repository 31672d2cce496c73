"""CPC on spoken digits, 8 kHz: van den Oord et al. 2018, https://arxiv.org/abs/1807.03748.

  pip install -e ".[train,data,audio]"
  python train.py --config configs/cpc_spoken_digit.py

Measured on two cores of a Xeon, seeds 0, 1 and 2: mean, and in brackets from where to where. Digits and speakers of
the customary test takes (0 to 4), and digits of each speaker in turn whom the classifier has not heard; linear probe
and k-NN (k = 5) on mean and standard deviation over time. With the machine to itself, pretraining takes 399 s and the
whole command 8 minutes (seed 0, with the same bits as beside other programs, where it took 12 to 18 minutes).

  linear probe  digit             speaker            digit, unheard speaker
  MFCC          .941 [.940-.943]  1.000              .586 [.577-.599]
  random z      .558 [.547-.577]   .928 [.923-.933]  .380 [.374-.390]
  random c      .660 [.627-.717]   .957 [.950-.963]  .430 [.398-.448]
  CPC z         .973 [.963-.990]   .999 [.997-1.00]  .515 [.451-.548]
  CPC c         .993 [.990-.997]   .999 [.997-1.00]  .659 [.597-.722]

  k-NN          digit             speaker            digit, unheard speaker
  MFCC          .977               .993              .375
  random z      .442 [.420-.477]   .746 [.730-.760]  .295 [.292-.299]
  random c      .452 [.433-.463]   .740 [.737-.743]  .285 [.276-.292]
  CPC z         .958 [.947-.970]   .998 [.997-1.00]  .436 [.429-.447]
  CPC c         .979 [.970-.987]   .998 [.997-1.00]  .590 [.564-.617]

c wins where it matters: digits of unheard speakers, and single steps (linear probe of digits .853, MFCC .399, z .466;
of speakers .985, .755, .887). z is level with it on speakers. With a context of 128, as wide as z, c had .988, .999 and
.641 by linear probe, .968, .997 and .554 by k-NN, and .764 for digits of single steps.

Tried on takes 5 to 9 (not the test takes), seed 0, 400 steps; linear probe of c, digit / speaker / unheard:
- the paper's settings but for the size and the drawn negatives, context 128: .960/.987/.465 (.917/.987/.426 by the mean
  over time alone);
- context 256: .953/.977/.551, chosen; an LSTM of 128: .937/.977/.451; a transformer of 128: .943/.990/.519;
- 6 steps ahead: .913/.980/.427; 20 steps: .947/.990/.483;
- windows of 1 s, batch 32: .950/.983/.503;
- 32 negatives: .943/.993/.455; 512: .947/.993/.525, at half the speed;
- negatives 'others': .943/.990/.504; norm 'channel': .950/.987/.534;
- gain, polarity and noise: .947/.983/.527; all three for 800 steps: .950/.993/.527;
- context 128 for 1,000 steps: .970/.993/.623. Longer training counts most.
- a log-mel encoder instead of raw audio, 500 steps: .997/1.000/.744 (random: .983/.997/.615). It learns most and
  fastest, but leaves little to gain over its random self; raw audio shows what is learnt.
"""

from ml_collections import ConfigDict, config_dict


def get_config() -> ConfigDict:
  return ConfigDict({
      'seed': 0,
      'steps': 1500,
      'batch_size': 64,
      'init_from': '',  # The work directory of a run, or a .safetensors file, to take the encoder from.
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
