"""A VAE on the bundled drawings: Kingma and Welling 2013, https://arxiv.org/abs/1312.6114.

  python train.py --config configs/vae_omniglot.py

Measured on two cores of a Xeon in 4.8 minutes (3.3 of pretraining), seed 0, tested on drawers 16-20, raw pixels / PCA
(64) / random encoder / trained: k-NN .318 / .377 / .187 / .528, linear probe .272 / .300 / .196 / .494. ELBO -134.9
nats (random weights: -546.9), importance-weighted bound of 50 samples -130.6, of them KL 23.1; all 64 latent dimensions
in use, about 20 of them much. Squared error of a pixel .0241: blurred, as the KL keeps a code from telling more; the
plain autoencoder has .0074, PCA .0142.
"""

from ml_collections import ConfigDict


def get_config() -> ConfigDict:
  return ConfigDict({
      'seed': 0,
      'steps': 1200,
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
          'name': 'vae',
          'latent_size': 64,
          'beta': {'name': 'linear_warmup', 'base': 1.0, 'warmup_epochs': 10.0},
          'likelihood': 'bernoulli',  # Or 'gaussian', with its variance.
          'binarize': False,
          'encoder': {'name': 'conv_encoder', 'widths': (32, 64, 128), 'pool': 'flatten'},
          'decoder': {'name': 'conv_decoder', 'widths': (128, 64, 32)},
          'optimizer': {
              'name': 'adamw', 'weight_decay': 1e-4,
              'learning_rate': {'name': 'warmup_cosine', 'base': 0.003, 'scaling': 'none', 'warmup_epochs': 1.0},
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
          'reconstruction': {'samples': 50},  # Of z, for the importance-weighted bound.
          'sgd': {'epochs': 90, 'batch_size': 256, 'learning_rate': 10.0},
          'finetune': {'epochs': 60, 'batch_size': 256, 'learning_rate': 1.0},
          'fractions': (),  # Shares of the labels, such as (0.01, 0.1).
          'batch_size': 512,
          'pictures': True,
      },
      'mesh': {'data': -1, 'model': 1},
  })
