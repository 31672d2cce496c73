"""MAE on CIFAR-10, ViT-Ti with patches of 2: He et al. 2021, https://arxiv.org/abs/2111.06377, in small.

  python train.py --config configs/mae_cifar10.py

The settings of IcarusWizard/MAE (batch 4096, AdamW at 1.5e-4 x batch / 256, b2 0.95, weight decay 0.05, a decoder of 4
blocks, raw pixels as targets: 12 numbers are few to normalise by), for 400 epochs instead of 2000 and 40 of warm-up
instead of 200. After 2000 epochs they fine-tune to 89.77 %, where the same network from scratch comes to 74.13 %. Needs
the `data` extra; or bring the images as arrays: --config.data.source=npz --config.data.path=cifar10.npz. `remat`
computes blocks again in the backward pass: a step then needs 19 GiB, as compiled for an H100, and 61 without. Where it
does not fit: --config.batch_size=1024 --config.method.optimizer.accumulate_steps=4, and four times the steps; no
example is compared with another, so that it comes to the same. Not yet measured.
"""

from ml_collections import ConfigDict


def get_config() -> ConfigDict:
  return ConfigDict({
      'seed': 0,
      'steps': 400 * 50_000 // 4096,
      'batch_size': 4096,
      'init_from': '',
      'data': {
          'source': 'tfds',
          'name': 'cifar10',
          'path': '',
          'engine': 'device',
          'recipe': {'name': 'crop_flip', 'size': 32, 'area': (0.2, 1.0), 'views': 1},
      },
      'method': {
          'name': 'mae',
          'mask_ratio': 0.75,
          'normalize_targets': False,
          'encoder': {'name': 'vit_tiny', 'patch': 2, 'dtype': 'bfloat16', 'remat': True},
          'decoder': {'name': 'mae_decoder', 'width': 192, 'depth': 4, 'heads': 3, 'dtype': 'bfloat16', 'remat': True},
          'optimizer': {
              'name': 'adamw',
              'b2': 0.95,
              'weight_decay': 0.05,
              'accumulate_steps': 1,
              'learning_rate': {'name': 'warmup_cosine', 'base': 1.5e-4, 'scaling': 'linear', 'warmup_epochs': 40.0},
          },
      },
      'checkpoint': {'every': 500, 'keep_last': 3, 'keep_every': 5000},
      'logging': {'every': 50},
      'evaluation': {
          'protocols': ('knn', 'linear', 'reconstruction'),  # And 'sgd', 'finetune'.
          'representation': '',  # '': 'mean', of the patches' tokens; or 'class', the class token.
          'batch_size': 512,
          'knn': {'k': 200, 'temperature': 0.1},
          # L2 strengths; the share of the training labels that chooses among them.
          'linear': {'grid': (1e-1, 1e-2, 1e-3, 1e-4, 1e-5), 'validation': 0.2},
          'reconstruction': {'samples': 1},  # Masks for each image.
          'sgd': {'epochs': 90, 'batch_size': 256, 'learning_rate': 0.1, 'batch_norm': True},
          'finetune': {'epochs': 100, 'batch_size': 128, 'learning_rate': 1e-3, 'optimizer': 'adamw',
                       'weight_decay': 0.05, 'layer_decay': 0.75, 'warmup_epochs': 5, 'drop_path': 0.1, 'mixup': 0.8,
                       'cutmix': 1.0, 'label_smoothing': 0.1},
          'fractions': (),  # Shares of the labels, such as (0.01, 0.1).
          'pictures': True,
      },
      'mesh': {'data': -1, 'model': 1},
  })
