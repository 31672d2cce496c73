"""I-JEPA on CIFAR-10, ViT-Ti with patches of 2: Assran et al. 2023, https://arxiv.org/abs/2301.08243, in small.

  python train.py --config configs/i_jepa_cifar10.py

The paper has no CIFAR-10. Blocks, moving average, weight decay, crops and rate (1e-3 for batch 2048) are its values for
ImageNet, on a grid of 16 x 16 patches as there; the predictor is of half the encoder's width and depth, and the length
is ours. Needs the `data` extra; or bring the images as arrays: --config.data.source=npz
--config.data.path=cifar10.npz. `remat` computes blocks again in the backward pass: a step then needs 22 GiB, as
compiled for an H100, and 91 without. Where that does not fit: --config.batch_size=512
--config.method.optimizer.accumulate_steps=4, four times the steps, and, as the average moves at each of them,
--config.method.momentum.start=0.999. Not yet measured; on small sets others found it weak (Imagenette, ViT-S, 200
epochs: 34.0 % by a linear probe where MAE has 84.1 %, results of stable-pretraining).
"""

from ml_collections import ConfigDict


def get_config() -> ConfigDict:
  return ConfigDict({
      'seed': 0,
      'steps': 400 * 50_000 // 2048,
      'batch_size': 2048,
      'init_from': '',
      'data': {
          'source': 'tfds',
          'name': 'cifar10',
          'path': '',
          'engine': 'device',
          'recipe': {'name': 'crop_flip', 'size': 32, 'area': (0.3, 1.0), 'flip': 0.0, 'views': 1},
      },
      'method': {
          'name': 'i_jepa',
          'num_targets': 4,
          'target_scale': (0.15, 0.2),
          'target_aspect': (0.75, 1.5),
          'context_scale': (0.85, 1.0),
          'context_share': 0.6,
          'momentum': {'name': 'linear', 'start': 0.996, 'end': 1.0},
          'encoder': {'name': 'vit_tiny', 'patch': 2, 'class_token': False, 'pool': 'mean', 'dtype': 'bfloat16',
                      'remat': True},
          'predictor': {'name': 'jepa_predictor', 'width': 96, 'depth': 6, 'heads': 3, 'dtype': 'bfloat16',
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
