"""SimCLR on ImageNet: Chen et al. 2020, https://arxiv.org/abs/2002.05709.

  python train.py --config configs/simclr_imagenet.py --config.data.path=TFDS_DIRECTORY

ResNet-50, batch 4096, 100 epochs, LARS at 0.3 x batch / 256 (section 2.2), temperature 0.1 (table 5), weight decay 1e-6
(appendix B.6). The paper's linear probe after 100 epochs: 64.6 % top-1 (table B.1). TFDS prepares ImageNet from the
archives you download; prepare it with file_format='array_record'. Not measured here: it wants a machine of eight GPUs.
"""

from ml_collections import ConfigDict


def get_config() -> ConfigDict:
  return ConfigDict({
      'seed': 0,
      'steps': 100 * 1_281_167 // 4096,
      'batch_size': 4096,
      'init_from': '',
      'data': {
          'source': 'tfds',
          'name': 'imagenet2012',
          'path': '',
          'engine': 'split',
          'recipe': {'name': 'simclr', 'size': 224, 'strength': 1.0, 'blur': 0.5},
      },
      'method': {
          'name': 'simclr',
          'temperature': 0.1,
          'objective': 'nt_xent',  # Or 'decoupled' (DCL), 'supervised' (SupCon), 'ml_cpc' (multi-label CPC, alpha).
          'alpha': 1.0,
          'chunks': 1,  # Parts of the batch that are encoded one after another, to save memory.
          'negative_groups': 1,  # Parts of the batch whose images are negatives of one another alone.
          'encoder': {'name': 'resnet50', 'dtype': 'bfloat16', 'bn_groups': 1},
          'head': {'name': 'mlp', 'features': (2048, 128), 'dtype': 'bfloat16', 'bn_groups': 1},
          'optimizer': {
              'name': 'lars',
              'weight_decay': 1e-6,
              'learning_rate': {'name': 'warmup_cosine', 'base': 0.3, 'scaling': 'linear', 'warmup_epochs': 10.0},
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
