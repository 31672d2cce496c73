"""Networks: Flax Linen modules."""

from jaxssl.models.adversarial_autoencoder import AdversarialAutoencoderNetwork, Represented
from jaxssl.models.autoencoder import (
  AutoencoderNetwork,
  Coded,
  ConvDecoder,
  ConvEncoder,
  MLPDecoder,
  MLPEncoder,
  VariationalNetwork,
)
from jaxssl.models.bigan import BidirectionalNetwork, JointDiscriminator, MLPJointDiscriminator, Scores
from jaxssl.models.cpc import (
  AudioEncoder,
  LinearPredictor,
  LogMelEncoder,
  RNNContext,
  SequenceEncoder,
  TransformerContext,
  TransformerPredictor,
  audio_encoder_8khz,
  log_mel_encoder_8khz,
)
from jaxssl.models.cpc_image import GridPredictor, MaskedConvContext, PatchEncoder, RowGRUContext
from jaxssl.models.critics import ConcatenatedCritic, LogBaseline, SeparableCritic
from jaxssl.models.gan import (
  ConvDiscriminator,
  DiscriminatorFeatures,
  Generator,
  MLPDiscriminator,
  ResNetDecoder,
  ResNetDiscriminator,
)
from jaxssl.models.heads import MLP, Projected, Truncated
from jaxssl.models.mae import MAEDecoder, MAENetwork
from jaxssl.models.multiview import (
  ByShape,
  MultiviewNetwork,
  MultiviewRepresentation,
  PerView,
  Pooled,
)
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
from jaxssl.models.vector_quantizer import VectorQuantizer
from jaxssl.models.vit import ViT, load_timm, vit_base, vit_huge, vit_large, vit_small, vit_tiny

__all__ = [
  'AdversarialAutoencoderNetwork',
  'AudioEncoder',
  'AutoencoderNetwork',
  'BidirectionalNetwork',
  'ByShape',
  'Coded',
  'ConcatenatedCritic',
  'ConvDecoder',
  'ConvDiscriminator',
  'ConvEncoder',
  'DiscriminatorFeatures',
  'Generator',
  'GridPredictor',
  'JointDiscriminator',
  'LinearPredictor',
  'LogBaseline',
  'LogMelEncoder',
  'MAEDecoder',
  'MAENetwork',
  'MLP',
  'MLPDecoder',
  'MLPDiscriminator',
  'MLPEncoder',
  'MLPJointDiscriminator',
  'MaskedConvContext',
  'MultiviewNetwork',
  'MultiviewRepresentation',
  'PatchEncoder',
  'PerView',
  'Pooled',
  'Projected',
  'RNNContext',
  'Represented',
  'ResNet',
  'ResNetDecoder',
  'ResNetDiscriminator',
  'RowGRUContext',
  'Scores',
  'SeparableCritic',
  'SequenceEncoder',
  'TransformerContext',
  'TransformerPredictor',
  'Truncated',
  'ViT',
  'VariationalNetwork',
  'VectorQuantizer',
  'audio_encoder_8khz',
  'load_timm',
  'load_torchvision',
  'log_mel_encoder_8khz',
  'resnet18',
  'resnet34',
  'resnet50',
  'resnet101',
  'resnet152',
  'resnet200',
  'vit_base',
  'vit_huge',
  'vit_large',
  'vit_small',
  'vit_tiny',
]
