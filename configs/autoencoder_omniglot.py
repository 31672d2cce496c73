"""An autoencoder on the bundled drawings: Hinton and Salakhutdinov, Science 2006.

  python train.py --config configs/autoencoder_omniglot.py

Measured on two cores of a Xeon in 3.9 minutes (3.1 of pretraining), seed 0, tested on drawers 16-20,
representation z of 64 numbers:

                          raw pixels  training mean   PCA (64)  random encoder  autoencoder
  k-NN                          .318                      .377            .179         .545
  linear probe                  .272                      .300            .199         .457
  squared error of a pixel                    .0452      .0142           .0608       .00745

Chosen on drawers 13-15 after pretraining on drawers 1-12 (--config.data.name=omniglot_validation), k-NN and error after
200 steps of rate .002: without batch norm .424, .0201; with it the error stayed at the training mean's (.0430), and so
it did with batch norm in the decoder alone (.0401); perceptrons 1024, 512 for both .321, .0216. Rate .003 instead of
.002: no worse at 300 steps, and so the one here.
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
          'name': 'autoencoder',
          'code_size': 64,
          'likelihood': 'gaussian',  # The loss: squared error; or 'bernoulli', binary cross-entropy.
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
          'reconstruction': {'samples': 1},
          'sgd': {'epochs': 90, 'batch_size': 256, 'learning_rate': 10.0},
          'finetune': {'epochs': 60, 'batch_size': 256, 'learning_rate': 1.0},
          'fractions': (),  # Shares of the labels, such as (0.01, 0.1).
          'batch_size': 512,
          'pictures': True,
      },
      'mesh': {'data': -1, 'model': 1},
  })
