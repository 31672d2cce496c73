"""CPC v2 on ImageNet: Hénaff et al. 2019, https://arxiv.org/abs/1905.09272.

  python train.py --config configs/cpc_imagenet.py --config.data.path=TFDS_DIRECTORY

ResNet-50 with layer norm on patches of 80 pixels, 36 apart, of crops of 260; a masked convolution and predictions of
three rows beyond the two that overlap, in each of four directions, in 64 dimensions; Adam at 4e-4 with b1 0.8, batch
512, 200 epochs. The paper's linear probe: 63.8 % top-1 (71.5 % with a ResNet-161, which has wider outputs than the
blocks here). What differs: colours, shear and elastic warps are drawn for every patch, without AutoAugment's
operations; weights are not averaged over steps; predictions start small instead of being scaled by 0.1. TFDS prepares
ImageNet from the archives you download; prepare it with file_format='array_record'. Not measured here: it wants a
machine of eight GPUs or more.

CPC v1 (https://arxiv.org/abs/1807.03748, section 3.2; 48.7 %), in a copy: recipe of size 256, patch_size 64, 32 apart,
grey, subcrop 60 / 64 and everything else of the patches 0; ResNet of stages (3, 4, 23), widths (64, 128, 256) and norm
None; directions ('down',), skip 0, 5 steps; Adam at 2e-4.
"""

from ml_collections import ConfigDict, config_dict


def get_config() -> ConfigDict:
  return ConfigDict({
      'seed': 0,
      'steps': 200 * 1_281_167 // 512,
      'batch_size': 512,
      'init_from': '',
      'data': {
          'source': 'tfds',
          'name': 'imagenet2012',
          'path': '',
          'engine': 'split',  # Patches are cut and changed on the device all the same.
          'recipe': {'name': 'patches', 'size': 260, 'patch_size': 80, 'patch_stride': 36, 'strength': 1.0,
                     'patch_grey': 0.25, 'patch_flip': 0.5, 'color_drop': 0.5, 'shear': 0.1, 'elastic': 0.02,
                     'subcrop': 1.0, 'grey': False},
      },
      'method': {
          'name': 'cpc_image',
          'negatives': 'batch',  # Or 'image': of the same image alone.
          'num_negatives': config_dict.placeholder(int),  # Drawn for each column; not set: all of the batch.
          'encoder': {
              'name': 'patches', 'size': 80, 'stride': 36,
              'network': {'name': 'resnet50', 'norm': 'layer', 'dtype': 'bfloat16'},
          },
          'predictor': {
              'name': 'grid', 'directions': ('down', 'left', 'up', 'right'), 'skip': 2, 'target_features': 64,
              'context': {'name': 'masked_conv', 'features': 256, 'blocks': 5, 'dtype': 'bfloat16'},
              'predictor': {'name': 'linear_predictor', 'steps': 3, 'features': 64},
          },
          'optimizer': {
              'name': 'adamw', 'b1': 0.8, 'weight_decay': 0.0,
              'learning_rate': {'name': 'constant', 'base': 4e-4},
          },
      },
      'checkpoint': {'every': 500, 'keep_last': 3, 'keep_every': 5000},
      'logging': {'every': 50},
      'evaluation': {
          'protocols': ('knn', 'linear'),  # And 'sgd', 'finetune'.
          'representation': '',  # 'z' (the default), 'c' or 'h'.
          'batch_size': 256,
          'knn': {'k': 200, 'temperature': 0.1},
          'linear': {'grid': (1e-1, 1e-2, 1e-3, 1e-4, 1e-5), 'validation': 0.2},
          # SimCLR's rates, not tuned: CPC's features are small; on a set of 257 images the probe needed a rate of 30,
          # and fine-tuning for 12 epochs learnt nothing at 0.05 or at 1.
          'sgd': {'epochs': 90, 'batch_size': 256, 'learning_rate': 0.1},
          'finetune': {'epochs': 60, 'batch_size': 256, 'learning_rate': 0.05},
          'fractions': (),  # Shares of the labels, such as (0.01, 0.1).
          'pictures': True,
      },
      'mesh': {'data': -1, 'model': 1},
  })
