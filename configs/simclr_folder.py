"""SimCLR on your own pictures: Chen et al. 2020, https://arxiv.org/abs/2002.05709.

  python train.py --config configs/simclr_folder.py --config.data.path=DIRECTORY

Any directory of jpg, png, webp or bmp files, nested or not; one sub-directory a class, or train/ and test/ at the top,
when there are labels to evaluate with. ResNet-18 at 96 pixels suits a few thousand pictures and one GPU; for more, take
resnet50, a recipe of size 224, and a longer run.
"""

from ml_collections import ConfigDict


def get_config() -> ConfigDict:
  return ConfigDict({
      'seed': 0,
      'steps': 5_000,
      'batch_size': 256,
      'init_from': '',
      'data': {
          'source': 'folder',
          'name': '',
          'path': '',
          'engine': 'device',
          'recipe': {'name': 'simclr', 'size': 96, 'strength': 0.5, 'blur': 0.5},
      },
      'method': {
          'name': 'simclr',
          'temperature': 0.2,
          'objective': 'nt_xent',  # Or 'decoupled' (DCL), 'supervised' (SupCon), 'ml_cpc' (multi-label CPC, alpha).
          'alpha': 1.0,
          'chunks': 1,  # Parts of the batch that are encoded one after another, to save memory.
          'encoder': {'name': 'resnet18', 'stem': 'imagenet'},
          'head': {'name': 'mlp', 'features': (512, 128)},
          'optimizer': {
              'name': 'adamw',
              'weight_decay': 1e-4,
              'learning_rate': {'name': 'warmup_cosine', 'base': 1e-3, 'scaling': 'linear', 'warmup_epochs': 10.0},
          },
      },
      'checkpoint': {'every': 250, 'keep_last': 3, 'keep_every': 2500},
      'logging': {'every': 25},
      'evaluation': {
          'protocols': ('knn', 'linear'),  # And 'sgd', 'finetune'.
          'representation': '',  # '': the method's default.
          'batch_size': 512,
          'knn': {'k': 20, 'temperature': 0.1},
          # L2 strengths; the share of the training labels that chooses among them.
          'linear': {'grid': (1e-1, 1e-2, 1e-3, 1e-4, 1e-5), 'validation': 0.2},
          'sgd': {'epochs': 90, 'batch_size': 256, 'learning_rate': 0.1},
          'finetune': {'epochs': 60, 'batch_size': 256, 'learning_rate': 0.05},
          'fractions': (),  # Shares of the labels, such as (0.01, 0.1).
          'pictures': True,
      },
      'mesh': {'data': -1, 'model': 1},
  })
