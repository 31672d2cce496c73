"""Evaluation of frozen and fine-tuned encoders, always beside raw inputs and a randomly initialised encoder."""

from jaxssl.evaluation.features import Subset, adapt, extract, flatten, pixels, to_float
from jaxssl.evaluation.geometry import health, warning
from jaxssl.evaluation.protocols import evaluate, evaluate_trained

__all__ = [
  'Subset', 'adapt', 'evaluate', 'evaluate_trained', 'extract', 'flatten', 'health', 'pixels', 'to_float', 'warning',
]
