"""BiGAN on Fashion-MNIST, pixels in no order: Donahue et al. 2016, https://arxiv.org/abs/1605.09782.

  python train.py --config configs/bigan_fashion_mnist.py

Perceptrons of the size of the paper's experiment on permutation-invariant MNIST, its latents and its batch; 400 epochs
there, 43 here. R1 and the rates are those of configs/bigan_omniglot.py. Raw pixels and random features are strong on
such data. Not yet measured.
"""

from ml_collections import ConfigDict


def get_config() -> ConfigDict:
  return ConfigDict({
      'seed': 0,
      'steps': 20_000,
      'batch_size': 128,
      'init_from': '',
      'data': {
          'source': 'tfds',
          'name': 'fashion_mnist',
          'path': '',
          'engine': 'device',
          'recipe': {'name': 'crop_flip', 'size': 28, 'area': (1.0, 1.0), 'views': 1},
      },
      'method': {
          'name': 'bigan',
          'latent_size': 50,
          'latent': 'uniform',
          'objective': 'joint',  # Or 'unary', BigBiGAN's.
          'r1': 1.0,  # Of the discriminator's slopes at pairs (x, E(x)).
          'stochastic': False,
          'encoder': {'name': 'mlp_encoder', 'features': (1024, 1024), 'batch_norm': True},
          'generator': {'name': 'generator',
                        'decoder': {'name': 'mlp_decoder', 'features': (1024, 1024), 'batch_norm': True}},
          'discriminator': {'name': 'mlp_joint_discriminator', 'features': (1024, 1024)},
          'optimizer': {'name': 'adamw', 'b1': 0.0, 'b2': 0.9, 'weight_decay': 0.0,
                        'learning_rate': {'name': 'warmup_cosine', 'base': 2e-4, 'scaling': 'none',
                                          'warmup_epochs': 0.0}},
          'discriminator_optimizer': {'name': 'adamw', 'b1': 0.0, 'b2': 0.9, 'weight_decay': 0.0,
                                      'learning_rate': {'name': 'warmup_cosine', 'base': 8e-4, 'scaling': 'none',
                                                        'warmup_epochs': 0.0}},
      },
      'checkpoint': {'every': 100, 'keep_last': 3, 'keep_every': 500},
      'logging': {'every': 20},
      'evaluation': {
          'protocols': ('knn', 'linear', 'reconstruction', 'samples'),  # And 'sgd', 'finetune'.
          'representation': 'h,z',  # The last hidden layer of the encoder, and its output.
          'batch_size': 512,
          'knn': {'k': 5, 'temperature': 0.1},
          # L2 strengths; the share of the training labels that chooses among them.
          'linear': {'grid': (1e-1, 1e-2, 1e-3, 1e-4, 1e-5), 'validation': 0.2},
          'reconstruction': {'samples': 1},
          'sgd': {'epochs': 90, 'batch_size': 256, 'learning_rate': 10.0},
          'finetune': {'epochs': 60, 'batch_size': 256, 'learning_rate': 1.0},
          'fractions': (),  # Shares of the labels, such as (0.01, 0.1).
          'pictures': True,
      },
      'mesh': {'data': -1, 'model': 1},
  })
