"""Losses: pure functions from arrays to a float32 scalar. They know no modules, so they serve any library on JAX."""

from jaxssl.losses.contrastive import contrastive_accuracy, info_nce, nt_xent, siglip, symmetric_info_nce
from jaxssl.losses.contrastive_variants import (
    debiased_nt_xent,
    decoupled_nt_xent,
    margin_triplet,
    nt_logistic,
)
from jaxssl.losses.many_positives import multi_positive_info_nce, supervised_contrastive

__all__ = [
    'contrastive_accuracy',
    'debiased_nt_xent',
    'decoupled_nt_xent',
    'info_nce',
    'margin_triplet',
    'multi_positive_info_nce',
    'nt_logistic',
    'nt_xent',
    'siglip',
    'supervised_contrastive',
    'symmetric_info_nce',
]
