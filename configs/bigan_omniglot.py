"""BiGAN on the bundled drawings: Donahue et al. 2016, https://arxiv.org/abs/1605.09782.

  python train.py --config configs/bigan_omniglot.py

A discriminator with four times the rate of encoder and generator, and with R1: in trials without it, with spectral
norms or batch norm in its place, the latent error ended above .8, or the losses rose without end. Seed 0, 8.1 minutes
for the whole command on two quiet cores of a Xeon:

                        raw pixels   untrained encoder   trained encoder
  k-NN, h                  .318            .283               .352
  k-NN, z                                  .058               .161
  linear probe, h          .272            .321               .397
  linear probe, z                          .080               .142
  latent error                             .499               .240    (of the mean of z .5, by chance 1)
  squared error                            .227               .048    (training mean .045, PCA of 16 .029)

Fréchet distance 72.0 (of the untrained generator 1,202, of as many training examples 1.1), precision .732, recall .274,
by a classifier of accuracy .812. The encoder comes near an inverse of the generator on what that makes, and not on real
drawings, which do not come back: their squared error is no better than the training mean's.
"""

from ml_collections import ConfigDict


def get_config() -> ConfigDict:
  return ConfigDict({
      'seed': 0,
      'steps': 4500,
      'batch_size': 64,
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
          'name': 'bigan',
          'latent_size': 16,
          'latent': 'normal',
          'objective': 'joint',  # Or 'unary', BigBiGAN's.
          'r1': 2.0,  # Of the discriminator's slopes at pairs (x, E(x)).
          'stochastic': False,
          'encoder': {'name': 'conv_encoder', 'widths': (16, 32, 64), 'pool': 'flatten', 'batch_norm': True},
          'generator': {'name': 'generator',
                        'decoder': {'name': 'conv_decoder', 'widths': (64, 32), 'batch_norm': True}},
          'discriminator': {
              'name': 'joint_discriminator',
              'of_x': {'name': 'conv_discriminator', 'widths': (16, 32, 64)},
              'of_z': {'name': 'mlp_discriminator', 'features': (128,)},
              'joint': {'name': 'mlp_discriminator', 'features': (256, 256)}},
          'optimizer': {'name': 'adamw', 'b1': 0.0, 'b2': 0.9, 'weight_decay': 0.0,
                        'learning_rate': {'name': 'warmup_cosine', 'base': 2e-4, 'scaling': 'none',
                                          'warmup_epochs': 0.0}},
          'discriminator_optimizer': {'name': 'adamw', 'b1': 0.0, 'b2': 0.9, 'weight_decay': 0.0,
                                      'learning_rate': {'name': 'warmup_cosine', 'base': 8e-4, 'scaling': 'none',
                                                        'warmup_epochs': 0.0}},
      },
      'checkpoint': {'every': 1000, 'keep_last': 3, 'keep_every': 1000},
      'logging': {'every': 50},
      'evaluation': {
          'protocols': ('knn', 'linear', 'reconstruction', 'samples'),  # And 'sgd', 'finetune'.
          'representation': 'h,z',  # The last hidden layer of the encoder, and its output.
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
