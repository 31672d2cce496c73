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
from jaxssl.losses.distillation import koleo, negative_cosine, relational, sinkhorn, smooth_l1, soft_cross_entropy
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
from jaxssl.losses.redundancy import (
    barlow_twins,
    covariance_penalty,
    cross_correlation,
    random_directions,
    sigreg,
    variance_hinge,
    vicreg,
    whitened_mse,
)
from jaxssl.losses.retrieval import retrieval_accuracy

__all__ = [
    'adversarial',
    'barlow_twins',
    'bernoulli_log_likelihood',
    'codebook_loss',
    'codebook_perplexity',
    'commitment_loss',
    'contrastive_accuracy',
    'covariance_penalty',
    'cpc_accuracy_and_bound',
    'cpc_bound',
    'cpc_info_nce',
    'cross_correlation',
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
    'koleo',
    'l1_sparsity',
    'margin_triplet',
    'masked_patch_error',
    'ml_cpc_bound',
    'multi_label_info_nce',
    'multi_label_nt_xent',
    'multi_positive_info_nce',
    'mutual_information',
    'negative_cosine',
    'noise_contrastive',
    'noise_contrastive_normalizer',
    'normalize_patches',
    'nt_logistic',
    'nt_xent',
    'random_directions',
    'relational',
    'retrieval_accuracy',
    'siglip',
    'sigreg',
    'sinkhorn',
    'smooth_l1',
    'soft_cross_entropy',
    'sparsity_kl',
    'squared_error',
    'straight_through',
    'supervised_contrastive',
    'symmetric_info_nce',
    'variance_hinge',
    'vicreg',
    'whitened_mse',
]
