"""MAE on ImageNet, ViT-B with patches of 16: He et al. 2021, https://arxiv.org/abs/2111.06377.

  python train.py --config configs/mae_imagenet.py --config.data.path=TFDS_DIRECTORY

The paper's pretraining (table 8): batch 4096, AdamW at 1.5e-4 x batch / 256, b2 0.95, weight decay 0.05, 40 epochs of
warm-up, crops of at least a fifth of the image and flips, three quarters of the patches hidden, a decoder of 8 blocks
of width 512, normalised targets; 800 epochs (the final models: 1600). The authors' ViT-B, after 1600: fine-tuned
83.6 %, linear probe 68.0 %; k-NN on its features is poor. Not measured here: it wants a machine of eight GPUs.
"""

from ml_collections import ConfigDict


def get_config() -> ConfigDict:
  return ConfigDict({
      'seed': 0,
      'steps': 800 * 1_281_167 // 4096,
      'batch_size': 4096,
      'init_from': '',
      'data': {
          'source': 'tfds',
          'name': 'imagenet2012',
          'path': '',
          'engine': 'split',
          'recipe': {'name': 'crop_flip', 'size': 224, 'area': (0.2, 1.0), 'views': 1},
      },
      'method': {
          'name': 'mae',
          'mask_ratio': 0.75,
          'normalize_targets': True,
          'encoder': {'name': 'vit_base', 'patch': 16, 'dtype': 'bfloat16', 'remat': False},
          'decoder': {'name': 'mae_decoder', 'width': 512, 'depth': 8, 'heads': 16, 'dtype': 'bfloat16',
                      'remat': False},
          'optimizer': {
              'name': 'adamw',
              'b2': 0.95,
              'weight_decay': 0.05,
              'accumulate_steps': 1,
              'learning_rate': {'name': 'warmup_cosine', 'base': 1.5e-4, 'scaling': 'linear', 'warmup_epochs': 40.0},
          },
      },
      'checkpoint': {'every': 500, 'keep_last': 3, 'keep_every': 20000},
      'logging': {'every': 50},
      'evaluation': {
          'protocols': ('knn', 'linear', 'reconstruction'),  # And 'sgd', 'finetune'.
          'representation': '',  # '': 'mean', of the patches' tokens; or 'class', the class token.
          'batch_size': 512,
          'knn': {'k': 200, 'temperature': 0.1},
          # L2 strengths; the share of the training labels that chooses among them.
          'linear': {'grid': (1e-1, 1e-2, 1e-3, 1e-4, 1e-5), 'validation': 0.2},
          'reconstruction': {'samples': 1},  # Masks for each image.
          # Table 10.
          'sgd': {'epochs': 90, 'batch_size': 16_384, 'learning_rate': 0.1, 'optimizer': 'lars', 'batch_norm': True,
                  'warmup_epochs': 10},
          # Table 9, but for RandAugment and random erasing.
          'finetune': {'epochs': 100, 'batch_size': 1024, 'learning_rate': 5e-4, 'optimizer': 'adamw',
                       'weight_decay': 0.05, 'layer_decay': 0.65, 'warmup_epochs': 5, 'drop_path': 0.1, 'mixup': 0.8,
                       'cutmix': 1.0, 'label_smoothing': 0.1},
          'fractions': (),  # Shares of the labels, such as (0.01, 0.1).
          'pictures': True,
      },
      'mesh': {'data': -1, 'model': 1},
  })
