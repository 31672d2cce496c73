"""I-JEPA on the bundled drawings: Assran et al. 2023, https://arxiv.org/abs/2301.08243.

  python train.py --config configs/i_jepa_omniglot.py

It hardly learns here. Measured on two busy cores of a Xeon in 5 minutes (4 of pretraining), seed 0, tested on drawers
16-20:

                                 raw pixels   random encoder   trained, mean of tokens
  k-NN                              .318           .064             .081
  linear probe                      .272           .093             .114

The mean over the image is spread over as many directions as at the start (effective rank 25 and 26), so that the health
panel warns of nothing, but the targets come to tell little more than the place of a patch: `target_deviation`, how much
those of one place differ from image to image, falls from .17 to .06 in 100 steps and is .05 at the end, where the loss
is .0017.

Tried on drawers 13-15 after pretraining on drawers 1-12 (--config.data.name=omniglot_validation), one seed each; k-NN
with trained / random encoder, and target_deviation at the end, where it was recorded:

  these settings                                                       .085 / .059, .04
  rate 2e-4, average from .999, 600 steps                              .059 / .059, .16
  rotary positions                                                     .044 / .043, .63
  rotary positions, rate 5e-4, average from .99, 600 steps             .052 / .043, .40
  crops of 60 % and no warps, a predictor of two blocks, rate 1e-3,
    the paper's average from .996, 600 steps                           .054 / .059

With rotary positions, which are added to no token, the targets do differ, and are no better.
"""

from ml_collections import ConfigDict


def get_config() -> ConfigDict:
  return ConfigDict({
      'seed': 0,
      'steps': 1000,
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
          'name': 'i_jepa',
          'num_targets': 4,
          'target_scale': (0.15, 0.2),
          'target_aspect': (0.75, 1.5),
          'context_scale': (0.85, 1.0),
          'context_share': 0.6,
          'momentum': {'name': 'linear', 'start': 0.98, 'end': 1.0},
          'encoder': {'name': 'vit', 'patch': 7, 'width': 128, 'depth': 2, 'heads': 4, 'class_token': False,
                      'pool': 'mean', 'remat': False},
          'predictor': {'name': 'jepa_predictor', 'width': 64, 'depth': 1, 'heads': 4, 'remat': False},
          'optimizer': {
              'name': 'adamw', 'weight_decay': {'name': 'cosine', 'start': 0.04, 'end': 0.4},
              'learning_rate': {'name': 'warmup_cosine', 'base': 0.002, 'scaling': 'none', 'warmup_epochs': 1.0},
          },
      },
      'checkpoint': {'every': 1000, 'keep_last': 3, 'keep_every': 1000},
      'logging': {'every': 50},
      'evaluation': {
          'protocols': ('knn', 'linear'),  # And 'sgd', 'finetune'.
          'representation': '',  # '': 'mean', by the moving average; or 'online', by the encoder that is trained.
          'knn': {'k': 5, 'temperature': 0.1},
          # L2 strengths; the share of the training labels that chooses among them.
          'linear': {'grid': (1e-1, 1e-2, 1e-3, 1e-4, 1e-5), 'validation': 0.2},
          'sgd': {'epochs': 90, 'batch_size': 256, 'learning_rate': 10.0},
          'finetune': {'epochs': 60, 'batch_size': 256, 'learning_rate': 2e-3, 'optimizer': 'adamw',
                       'weight_decay': 0.05, 'layer_decay': 0.75, 'warmup_epochs': 5},
          'fractions': (),  # Shares of the labels, such as (0.01, 0.1).
          'batch_size': 512,
          'pictures': False,
      },
      'mesh': {'data': -1, 'model': 1},
  })
