"""Losses: pure functions from arrays to a float32 scalar. They know no modules, so they serve any library on JAX."""

from jaxssl.losses import adversarial, mutual_information
from jaxssl.losses.codes import (
    codebook_loss,
    codebook_perplexity,
    commitment_loss,
    k_sparse,
    l1_sparsity,
    sparsity_kl,
    straight_through,
)
from jaxssl.losses.contrastive import contrastive_accuracy, info_nce, nt_xent, siglip, symmetric_info_nce
from jaxssl.losses.contrastive_variants import (
    debiased_nt_xent,
    decoupled_nt_xent,
    margin_triplet,
    nt_logistic,
)
from jaxssl.losses.cpc import cpc_accuracy_and_bound, cpc_info_nce
from jaxssl.losses.groups import in_groups
from jaxssl.losses.many_positives import multi_positive_info_nce, supervised_contrastive
from jaxssl.losses.multi_label import (
    cpc_bound,
    geometric_alpha,
    ml_cpc_bound,
    multi_label_info_nce,
    multi_label_nt_xent,
)
from jaxssl.losses.noise_contrastive import noise_contrastive, noise_contrastive_normalizer
from jaxssl.losses.reconstruction import (
    bernoulli_log_likelihood,
    elbo,
    gaussian_kl,
    gaussian_log_likelihood,
    importance_weighted_bound,
    masked_patch_error,
    normalize_patches,
    squared_error,
)
from jaxssl.losses.retrieval import retrieval_accuracy

__all__ = [
    'adversarial',
    'bernoulli_log_likelihood',
    'codebook_loss',
    'codebook_perplexity',
    'commitment_loss',
    'contrastive_accuracy',
    'cpc_accuracy_and_bound',
    'cpc_bound',
    'cpc_info_nce',
    'debiased_nt_xent',
    'decoupled_nt_xent',
    'elbo',
    'gaussian_kl',
    'gaussian_log_likelihood',
    'geometric_alpha',
    'importance_weighted_bound',
    'in_groups',
    'info_nce',
    'k_sparse',
    'l1_sparsity',
    'margin_triplet',
    'masked_patch_error',
    'ml_cpc_bound',
    'multi_label_info_nce',
    'multi_label_nt_xent',
    'multi_positive_info_nce',
    'mutual_information',
    'noise_contrastive',
    'noise_contrastive_normalizer',
    'normalize_patches',
    'nt_logistic',
    'nt_xent',
    'retrieval_accuracy',
    'siglip',
    'sparsity_kl',
    'squared_error',
    'straight_through',
    'supervised_contrastive',
    'symmetric_info_nce',
]
