"""WGAN-GP on the bundled drawings: Gulrajani et al. 2017, https://arxiv.org/abs/1704.00028.

  python train.py --config configs/wgan_gp_omniglot.py

Five updates of the critic on 32 drawings each for one of the generator. Seed 0, 8.8 minutes for the whole command
on two quiet cores of a Xeon; 'all' is the three layers side by side:

                        raw pixels   untrained, last layer / all   trained, last layer / all
  k-NN                     .318            .345 / .375                  .472 / .470
  linear probe             .272            .340 / .445                  .506 / .586

Fréchet distance of 1,210 samples 75.5 (of the untrained generator 4,638; of as many training examples 1.1), precision
.711, recall .292, by a classifier of accuracy .812.
"""

from ml_collections import ConfigDict


def get_config() -> ConfigDict:
  return ConfigDict({
      'seed': 0,
      'steps': 2000,
      'batch_size': 160,
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
          'name': 'gan',
          'latent_size': 64,
          'divergence': 'wasserstein',
          'gradient_penalty': 10.0,
          'n_critic': 5,
          'discriminator': {'name': 'conv_discriminator', 'widths': (16, 32, 64), 'score_bias': False},
          'generator': {'name': 'generator',
                        'decoder': {'name': 'conv_decoder', 'widths': (64, 32), 'batch_norm': True}},
          'optimizer': {'name': 'adamw', 'b1': 0.5, 'b2': 0.9, 'weight_decay': 0.0,
                        'learning_rate': {'name': 'constant', 'base': 2e-4}},
          'generator_optimizer': {'name': 'adamw', 'b1': 0.5, 'b2': 0.9, 'weight_decay': 0.0,
                                  'learning_rate': {'name': 'constant', 'base': 2e-4}},
      },
      'checkpoint': {'every': 1000, 'keep_last': 3, 'keep_every': 1000},
      'logging': {'every': 50},
      'evaluation': {
          'protocols': ('knn', 'linear', 'samples'),  # And 'sgd', 'finetune'.
          'representation': 'layer3,all',  # The last layer, and all three side by side.
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
