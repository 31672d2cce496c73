"""CMC on CIFAR-10, L and ab: Tian, Krishnan, Isola 2020, https://arxiv.org/abs/1906.05849.

  python train.py --config configs/cmc_cifar10.py

A ResNet-18 of half the width for L and one for ab, of the same crop, the linear head to 128, the other images of the
batch as negatives. Learning rate, batch and length are ours, for one GPU: not yet measured there. In small, on two CPU
cores (benchmarks/cmc_claims.py): k-NN .483, linear probe .521; raw pixels .342, random encoders .315 and .435. Others:
--config.data.recipe.modalities="('Y', 'CbCr')"; "('L', 'a', 'b')" with --config.method.views=3.
"""

from ml_collections import ConfigDict


def get_config() -> ConfigDict:
  return ConfigDict({
      'seed': 0,
      'steps': 200 * 50_000 // 256,
      'batch_size': 256,
      'init_from': '',
      'data': {
          'source': 'tfds',
          'name': 'cifar10',
          'path': '',
          'engine': 'device',
          'recipe': {'name': 'multiview', 'size': 32, 'modalities': ('L', 'ab'), 'area': (0.2, 1.0), 'flip': 0.5,
                     'same_crop': True, 'strength': 0.0, 'grey': 0.0, 'blur': 0.0},
      },
      'method': {
          'name': 'cmc',
          'views': 2,
          'shared': False,  # One encoder, with the same parameters, for all views.
          'graph': 'full',  # Of three views and more: every pair; or 'core': the first with each other one.
          'contrast': 'batch',  # 'batch'; or with a memory of all examples, 'memory' or 'memory_nce'.
          'temperature': 0.1,
          'num_negatives': 4096,  # Of a memory.
          'momentum': 0.5,  # Of a memory.
          'encoder': {'name': 'resnet18', 'stem': 'small', 'widths': (32, 64, 128, 256)},
          'head': {'name': 'mlp', 'features': (128,), 'output_bn': False, 'output_bias': True},
          'optimizer': {
              'name': 'sgd', 'momentum': 0.9, 'weight_decay': 1e-4,
              'learning_rate': {'name': 'warmup_cosine', 'base': 0.06, 'scaling': 'linear', 'warmup_epochs': 5.0},
          },
      },
      'checkpoint': {'every': 500, 'keep_last': 3, 'keep_every': 5000},
      'logging': {'every': 50},
      'evaluation': {
          'protocols': ('knn', 'linear'),  # And 'sgd', 'finetune'.
          'representation': '',  # 'h', of all views; or of one, 'h_view0'; 'z', 'stage3', ….
          'batch_size': 512,
          'knn': {'k': 200, 'temperature': 0.1},
          # L2 strengths; the share of the training labels that chooses among them.
          'linear': {'grid': (1e-1, 1e-2, 1e-3, 1e-4, 1e-5), 'validation': 0.2},
          'sgd': {'epochs': 90, 'batch_size': 256, 'learning_rate': 0.1},
          'finetune': {'epochs': 60, 'batch_size': 256, 'learning_rate': 0.05},
          'fractions': (),  # Shares of the labels, such as (0.01, 0.1).
          'pictures': True,
      },
      'mesh': {'data': -1, 'model': 1},
  })
