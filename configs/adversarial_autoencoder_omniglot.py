"""An adversarial autoencoder on the bundled drawings: Makhzani et al. 2015, https://arxiv.org/abs/1511.05644.

  python train.py --config configs/adversarial_autoencoder_omniglot.py

All three rates fall to 0 together: with constant adversarial ones beside a falling rate of the autoencoder, the
reconstruction, at first as good, was half undone in the last 300 of 1,500 steps. Seed 0, 10.1 minutes of processor time
for the whole command on two shared cores of a Xeon:

                        raw pixels   PCA of 32   untrained encoder   trained encoder
  k-NN, z                  .318        .385           .119               .516
  k-NN, h                                             .335               .493
  linear probe, z          .272        .321           .127               .426
  linear probe, h                                     .383               .548
  squared error                        .0219          .0606              .0172    (training mean .0452)

Fréchet distance 99.7 (of the untrained decoder 2,193, of as many training examples 1.1), precision .611, recall .174,
by a classifier of accuracy .812; the samples are blurred.
"""

from ml_collections import ConfigDict


def get_config() -> ConfigDict:
  return ConfigDict({
      'seed': 0,
      'steps': 1500,
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
          'name': 'adversarial_autoencoder',
          'code_size': 32,
          'categories': 0,  # Clusters, found beside the code.
          'prior': 'normal',  # Or 'uniform', 'mixture'.
          'prior_scale': 1.0,
          'divergence': 'jensen_shannon',
          'encoder': {'name': 'conv_encoder', 'widths': (32, 64, 128), 'pool': 'flatten'},
          'decoder': {'name': 'conv_decoder', 'widths': (128, 64, 32)},
          'discriminator': {'name': 'mlp_discriminator', 'features': (256, 256)},
          'optimizer': {'name': 'adamw', 'weight_decay': 1e-4,
                        'learning_rate': {'name': 'warmup_cosine', 'base': 0.002, 'scaling': 'none',
                                          'warmup_epochs': 1.0}},
          'discriminator_optimizer': {'name': 'adamw', 'b1': 0.5, 'weight_decay': 0.0,
                                      'learning_rate': {'name': 'warmup_cosine', 'base': 5e-4, 'scaling': 'none',
                                                        'warmup_epochs': 0.0}},
          'encoder_optimizer': {'name': 'adamw', 'b1': 0.5, 'weight_decay': 0.0,
                                'learning_rate': {'name': 'warmup_cosine', 'base': 5e-4, 'scaling': 'none',
                                                  'warmup_epochs': 0.0}},
      },
      'checkpoint': {'every': 1000, 'keep_last': 3, 'keep_every': 1000},
      'logging': {'every': 50},
      'evaluation': {
          'protocols': ('knn', 'linear', 'reconstruction', 'samples'),  # And 'sgd', 'finetune'.
          'representation': 'z,h',  # The code, and the layer before it.
          'knn': {'k': 5, 'temperature': 0.1},
          # L2 strengths; the share of the training labels that chooses among them.
          'linear': {'grid': (1e-1, 1e-2, 1e-3, 1e-4, 1e-5), 'validation': 0.2},
          'reconstruction': {'samples': 1},
          'sgd': {'epochs': 90, 'batch_size': 256, 'learning_rate': 10.0},
          'finetune': {'epochs': 60, 'batch_size': 256, 'learning_rate': 1.0},
          'fractions': (),  # Shares of the labels, such as (0.01, 0.1).
          'batch_size': 512,
          'pictures': True,
      },
      'mesh': {'data': -1, 'model': 1},
  })
