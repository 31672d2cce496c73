"""Networks: Flax Linen modules."""

from jaxssl.models.heads import MLP, Projected, Truncated
from jaxssl.models.resnet import (
  ResNet,
  load_torchvision,
  resnet18,
  resnet34,
  resnet50,
  resnet101,
  resnet152,
  resnet200,
)

__all__ = [
  'MLP',
  'Projected',
  'ResNet',
  'Truncated',
  'load_torchvision',
  'resnet18',
  'resnet34',
  'resnet50',
  'resnet101',
  'resnet152',
  'resnet200',
]
