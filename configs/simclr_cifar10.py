"""SimCLR on CIFAR-10: Chen et al. 2020, https://arxiv.org/abs/2002.05709, appendix B.9.

  python train.py --config configs/simclr_cifar10.py

The official code's recipe for one GPU (ResNet-18, batch 512, LARS at 1.0 x batch / 256, weight decay 1e-4, temperature
0.5, colour strength 0.5, no blur), for 200 epochs instead of 1000. Needs the `data` extra; or bring the images as
arrays: --config.data.source=npz --config.data.path=cifar10.npz. Not yet measured at full length. A glimpse, on two CPU
cores, 300 steps of batch 32 (--config.data.engine=split, warm-up 0.03 epochs): k-NN .383, linear probe .459; raw pixels
.309 and .414, a randomly initialised encoder .313 and .419.
"""

from ml_collections import ConfigDict


def get_config() -> ConfigDict:
  return ConfigDict({
      'seed': 0,
      'steps': 200 * 50_000 // 512,
      'batch_size': 512,
      'init_from': '',
      'data': {
          'source': 'tfds',
          'name': 'cifar10',
          'path': '',
          'engine': 'device',
          'recipe': {'name': 'simclr', 'size': 32, 'strength': 0.5, 'blur': 0.0},
      },
      'method': {
          'name': 'simclr',
          'temperature': 0.5,
          'objective': 'nt_xent',  # Or 'decoupled' (DCL), 'supervised' (SupCon), 'ml_cpc' (multi-label CPC, alpha).
          'alpha': 1.0,
          'chunks': 1,  # Parts of the batch that are encoded one after another, to save memory.
          'encoder': {'name': 'resnet18', 'stem': 'small'},
          'head': {'name': 'mlp', 'features': (512, 128)},
          'optimizer': {
              'name': 'lars',
              'weight_decay': 1e-4,
              'learning_rate': {'name': 'warmup_cosine', 'base': 1.0, 'scaling': 'linear', 'warmup_epochs': 10.0},
          },
      },
      'checkpoint': {'every': 500, 'keep_last': 3, 'keep_every': 5000},
      'logging': {'every': 50},
      'evaluation': {
          'protocols': ('knn', 'linear'),  # And 'sgd', 'finetune'.
          'representation': '',  # '': the method's default.
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
