"""VQ-VAE on the bundled drawings: van den Oord et al. 2017, https://arxiv.org/abs/1711.00937.

  python train.py --config configs/vq_vae_omniglot.py

Measured on two cores of a Xeon in 3.8 minutes (2.5 of pretraining), seed 0, tested on drawers 16-20, raw pixels / PCA
of as many numbers as h / random encoder / trained: k-NN .318 / .327 / .335 / .460, linear probe .272 / .091 / .383 /
.470. Squared error of a pixel .00966 from 64 codes (448 bits) a drawing, the training mean's is .0452; all 128 entries
used, perplexity 95.2. An earlier run, on another day, came to .464, .446 and .00952; the cause of the difference is not
known.

Chosen on drawers 13-15 after pretraining on drawers 1-12
(--config.data.name=omniglot_validation), seed 0, trials of 400 steps; 5-NN there of the encoder's output h, raw pixels
.295, the randomly initialised encoder .296; error and perplexity of the last training batch, of 128 entries:
- this config with batch norm in encoder and decoder, .328, squared error .0196, perplexity 95;
- without, .424 (z .411, of a random encoder .183; z averaged over places .052), .0072, 96, all entries used. On the
  drawings of drawers 13-15 themselves, not warped, the squared error is .0142.
- One code of 32 dimensions for each place, batch norm, a residual block, decay .99, 300 steps: .289, .0271, 67: 112
  bits are too few for a drawing. In that trial the linear probe of h was .317, of a random encoder .318, of raw pixels
  .237; of the others it was not measured.
The encoder's output is therefore the default representation.
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
          'recipe': {'name': 'drawings', 'size': 28, 'area': (1.0, 1.0), 'ratio': (1.0, 1.0), 'rotation': 10.0,
                     'shear': 0.15, 'log_scale': 0.15, 'translation': 0.05, 'elastic': 0.02, 'thickness': 0.25,
                     'views': 1},
      },
      'method': {
          'name': 'vq_vae',
          'num_codes': 128,  # K
          'code_dim': 16,
          'groups': 4,  # Codes for each place of the 4x4 grid: 448 bits in all.
          'commitment': 0.25,
          'decay': 0.95,  # Of the codebook's moving averages; None: it has a loss of its own, and restart_below is 0.
          'restart_below': 0.1,  # Share of even use below which an entry starts again.
          'encoder': {'name': 'conv_encoder', 'widths': (32, 64, 128), 'pool': 'grid', 'batch_norm': False},
          'decoder': {'name': 'conv_decoder', 'widths': (128, 64, 32), 'batch_norm': False},
          'optimizer': {
              'name': 'adamw', 'weight_decay': 1e-4,
              'learning_rate': {'name': 'warmup_cosine', 'base': 0.002, 'scaling': 'none', 'warmup_epochs': 1.0},
          },
      },
      'checkpoint': {'every': 500, 'keep_last': 3, 'keep_every': 1000},
      'logging': {'every': 10},
      'evaluation': {
          'protocols': ('knn', 'linear', 'reconstruction'),  # And 'sgd', 'finetune'.
          'representation': '',  # '': the method's default.
          'knn': {'k': 5, 'temperature': 0.1},
          # L2 strengths; the share of the training labels that chooses among them.
          'linear': {'grid': (1e-1, 1e-2, 1e-3, 1e-4, 1e-5), 'validation': 0.2},
          'sgd': {'epochs': 90, 'batch_size': 256, 'learning_rate': 10.0},
          'finetune': {'epochs': 60, 'batch_size': 256, 'learning_rate': 1.0},
          'reconstruction': {'samples': 1},
          'fractions': (),  # Shares of the labels, such as (0.01, 0.1).
          'batch_size': 512,
          'pictures': True,
      },
      'mesh': {'data': -1, 'model': 1},
  })
