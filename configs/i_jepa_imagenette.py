"""I-JEPA on Imagenette: Assran et al. 2023, https://arxiv.org/abs/2301.08243.

  python train.py --config configs/i_jepa_imagenette.py

ViT-S/8 on crops of 128 pixels, a grid of 16 x 16 patches, for 200 epochs of batch 256. Blocks, weight decay, crops and
rate (1e-3 for batch 2048) are those of the paper for ImageNet; the moving average is slower, as its steps are smaller.
I-JEPA is weak on small sets: with ViT-S/16 and 200 epochs stable-pretraining reports 33.2 % (k-NN) and 34.0 % (linear
probe) where its MAE has 84.1 %. Pretrains on 9,469 images and tests on 3,925. Not measured here.
"""

from ml_collections import ConfigDict


def get_config() -> ConfigDict:
  return ConfigDict({
      'seed': 0,
      'steps': 200 * 9_469 // 256,
      'batch_size': 256,
      'init_from': '',
      'data': {
          'source': 'tfds',
          'name': 'imagenette/160px-v2',
          'path': '',
          'engine': 'split',
          'recipe': {'name': 'crop_flip', 'size': 128, 'area': (0.3, 1.0), 'flip': 0.0, 'views': 1},
      },
      'method': {
          'name': 'i_jepa',
          'num_targets': 4,
          'target_scale': (0.15, 0.2),
          'target_aspect': (0.75, 1.5),
          'context_scale': (0.85, 1.0),
          'context_share': 0.6,
          'momentum': {'name': 'linear', 'start': 0.9995, 'end': 1.0},
          'encoder': {'name': 'vit_small', 'patch': 8, 'class_token': False, 'pool': 'mean', 'dtype': 'bfloat16',
                      'remat': True},
          'predictor': {'name': 'jepa_predictor', 'width': 192, 'depth': 6, 'heads': 6, 'dtype': 'bfloat16',
                        'remat': True},
          'optimizer': {
              'name': 'adamw',
              'weight_decay': {'name': 'cosine', 'start': 0.04, 'end': 0.4},
              'accumulate_steps': 1,
              'learning_rate': {'name': 'warmup_cosine', 'base': 1.25e-4, 'scaling': 'linear', 'warmup_epochs': 40.0,
                                'final': 0.001},
          },
      },
      'checkpoint': {'every': 500, 'keep_last': 3, 'keep_every': 5000},
      'logging': {'every': 50},
      'evaluation': {
          'protocols': ('knn', 'linear'),  # And 'sgd', 'finetune'.
          'representation': '',  # '': 'mean', by the moving average; or 'online', by the encoder that is trained.
          'batch_size': 512,
          'knn': {'k': 200, 'temperature': 0.1},
          # L2 strengths; the share of the training labels that chooses among them.
          'linear': {'grid': (1e-1, 1e-2, 1e-3, 1e-4, 1e-5), 'validation': 0.2},
          'sgd': {'epochs': 90, 'batch_size': 256, 'learning_rate': 0.1, 'batch_norm': True},
          'finetune': {'epochs': 100, 'batch_size': 128, 'learning_rate': 1e-3, 'optimizer': 'adamw',
                       'weight_decay': 0.05, 'layer_decay': 0.75, 'warmup_epochs': 5, 'drop_path': 0.1, 'mixup': 0.8,
                       'cutmix': 1.0, 'label_smoothing': 0.1},
          'fractions': (),  # Shares of the labels, such as (0.01, 0.1).
          'pictures': True,
      },
      'mesh': {'data': -1, 'model': 1},
  })
