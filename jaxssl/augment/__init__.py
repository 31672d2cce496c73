"""Augmentation in JAX, on the device: pure functions of a key and an image or a waveform, for `jit` and `vmap`.

Three layers, each usable alone: deterministic operations with explicit parameters; `random_*(key, image, ...)`, which
draw them; and whole recipes (`jaxssl.recipes`) on batches, `views(keys, images, recipe, order_key)`. Those of audio are
in `augment.audio`, those of paired views in `augment.paired`; the operations on patches of images take many at once.
"""

from jaxssl.augment import audio
from jaxssl.augment import paired_engine as paired
from jaxssl.augment.corruption import GaussianNoise, MaskingNoise, SaltAndPepperNoise
from jaxssl.augment.engine import apply, cut_patches, resize_inputs, views
from jaxssl.augment.engines import prepare
from jaxssl.augment.image import (
    adjust_brightness,
    adjust_contrast,
    adjust_hue,
    adjust_saturation,
    color_jitter,
    flip,
    gaussian_blur,
    grayscale,
    solarize,
    thicken,
)
from jaxssl.augment.mixing import cutmix, mixup, mixup_or_cutmix
from jaxssl.augment.modalities import gradients, modalities, modality, rgb_to_lab, rgb_to_ycbcr
from jaxssl.augment.patches import random_color_drop, random_patch_flip, random_subcrop
from jaxssl.augment.random import (
    random_color_jitter,
    random_flip,
    random_gaussian_blur,
    random_grayscale,
    random_resized_crop,
    random_solarize,
    random_thickness,
    random_warp,
)
from jaxssl.augment.resampling import affine_matrix, displacement, resize, resized_crop, warp
from jaxssl.augment.sampling import jitter_order, sample

__all__ = [
    'GaussianNoise', 'MaskingNoise', 'SaltAndPepperNoise', 'adjust_brightness', 'adjust_contrast', 'adjust_hue',
    'adjust_saturation', 'affine_matrix', 'apply', 'audio', 'color_jitter', 'cut_patches', 'cutmix', 'displacement',
    'flip', 'gaussian_blur', 'gradients', 'grayscale', 'jitter_order', 'mixup', 'mixup_or_cutmix', 'modalities',
    'modality', 'paired', 'prepare', 'random_color_drop', 'random_color_jitter', 'random_flip',
    'random_gaussian_blur', 'random_grayscale', 'random_patch_flip', 'random_resized_crop', 'random_solarize',
    'random_subcrop', 'random_thickness', 'random_warp', 'resize', 'resize_inputs', 'resized_crop', 'rgb_to_lab',
    'rgb_to_ycbcr', 'sample', 'solarize', 'thicken', 'views', 'warp',
]
