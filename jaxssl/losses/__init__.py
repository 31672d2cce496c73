"""Losses: pure functions from arrays to a float32 scalar. They know no modules, so they serve any library on JAX."""

from jaxssl.losses.contrastive import contrastive_accuracy, info_nce, nt_xent, siglip, symmetric_info_nce

__all__ = ['contrastive_accuracy', 'info_nce', 'nt_xent', 'siglip', 'symmetric_info_nce']
