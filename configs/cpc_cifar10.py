"""CPC v2 on CIFAR-10: Hénaff et al. 2019, https://arxiv.org/abs/1905.09272.

  python train.py --config configs/cpc_cifar10.py

For one GPU: patches of 8 pixels, 4 apart (a grid of 7 x 7), a ResNet of three stages with layer norm, CPC v2's masked
convolution and four directions, 200 epochs of batch 256. Lightning Bolts' port of CPC v2 reports 84.5 % on these
patches, with a ResNet-101 of its own for 1,000 epochs. Not yet measured at full length or on a GPU.

A glimpse, on two CPU cores, in 22 minutes beside other programs (49 images a second; up to 165 with less beside it):

  python train.py --config configs/cpc_cifar10.py --config.batch_size=64 --config.steps=1000 \
    --config.method.encoder.network.stage_sizes="(1, 1, 1)" --config.method.encoder.network.block=basic \
    --config.method.encoder.network.widths="(32, 64, 128)" --config.method.encoder.network.stem=strided \
    --config.method.predictor.context.features=64 --config.method.predictor.context.blocks=2 \
    --config.method.num_negatives=128 --config.method.optimizer.learning_rate.base=3e-3 \
    --config.method.optimizer.learning_rate.warmup_epochs=0.1 --config.evaluation.protocols="('knn',)" \
    --config.evaluation.knn.k=20

Seed 0: loss 4.86 (chance) to 3.12; accuracy one row past the overlap .010 to .478, three rows past it .007 to .124;
k-NN of z .428, random z .291, raw pixels .363; of h .377, random h .273.
"""

from ml_collections import ConfigDict, config_dict


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
          'engine': 'device',  # Where views are made; patches are always cut and changed on the device.
          'recipe': {'name': 'patches', 'size': 32, 'patch_size': 8, 'patch_stride': 4, 'area': (0.3, 1.0),
                     'ratio': (3 / 4, 4 / 3), 'grey': False, 'strength': 0.5, 'patch_grey': 0.25, 'patch_flip': 0.0,
                     'color_drop': 0.0, 'shear': 0.0, 'elastic': 0.0, 'subcrop': 1.0},
      },
      'method': {
          'name': 'cpc_image',
          'negatives': 'batch',  # Or 'image': of the same image alone.
          'num_negatives': config_dict.placeholder(int),  # Drawn for each column; not set: all of the batch.
          'encoder': {
              'name': 'patches', 'size': 8, 'stride': 4,
              'network': {'name': 'resnet', 'stage_sizes': (3, 4, 6), 'block': 'bottleneck', 'widths': (64, 128, 256),
                          'stem': 'small', 'norm': 'layer'},
          },
          'predictor': {
              'name': 'grid', 'directions': ('down', 'left', 'up', 'right'), 'skip': 1, 'target_features': 64,
              'context': {'name': 'masked_conv', 'features': 256, 'blocks': 5},
              'predictor': {'name': 'linear_predictor', 'steps': 3, 'features': 64},
          },
          'optimizer': {
              'name': 'adamw', 'weight_decay': 1e-5,
              'learning_rate': {'name': 'warmup_cosine', 'base': 1e-3, 'scaling': 'none', 'warmup_epochs': 5.0},
          },
      },
      'checkpoint': {'every': 500, 'keep_last': 3, 'keep_every': 5000},
      'logging': {'every': 50},
      'evaluation': {
          'protocols': ('knn', 'linear'),  # And 'sgd', 'finetune'.
          'representation': '',  # 'z' (the default), 'c' or 'h'.
          'batch_size': 512,
          'knn': {'k': 200, 'temperature': 0.1},
          # L2 strengths; the share of the training labels that chooses among them.
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
