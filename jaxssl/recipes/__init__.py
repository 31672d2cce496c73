"""Which views to make of an example: values only, read by both augmentation engines (JAX and tf.data)."""

from jaxssl.recipes.audio import Audio, Spectrogram, speech
from jaxssl.recipes.image import (
    MODALITIES,
    Params,
    Patches,
    Recipe,
    View,
    byol,
    crop_flip,
    dino,
    drawings,
    multi_crop,
    multiview,
    patches,
    simclr,
    spectrogram,
    strong_weak,
)
from jaxssl.recipes.paired import Paired, paired

ENGINES = ('device', 'host', 'split')  # Who makes the views: JAX in the train step, tf.data, or one half each.

__all__ = [
    'ENGINES', 'MODALITIES', 'Audio', 'Paired', 'Params', 'Patches', 'Recipe', 'Spectrogram', 'View', 'byol',
    'crop_flip', 'dino', 'drawings', 'multi_crop', 'multiview', 'paired', 'patches', 'simclr', 'spectrogram', 'speech',
    'strong_weak',
]
