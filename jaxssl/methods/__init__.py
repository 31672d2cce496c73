"""One file a paper: frozen dataclasses with `init`, `step` and `represent` (see `jaxssl.core.Method`)."""

from jaxssl.methods.adversarial_autoencoder import AdversarialAutoencoder
from jaxssl.methods.autoencoder import Autoencoder
from jaxssl.methods.barlow_twins import BarlowTwins
from jaxssl.methods.bigan import BiGAN
from jaxssl.methods.byol import BYOL
from jaxssl.methods.cmc import CMC
from jaxssl.methods.cpc import CPC
from jaxssl.methods.cpc_image import CPCImage
from jaxssl.methods.dino import DINO
from jaxssl.methods.gan import GAN
from jaxssl.methods.i_jepa import IJEPA
from jaxssl.methods.lejepa import LeJEPA
from jaxssl.methods.mae import MAE
from jaxssl.methods.moco import MoCo
from jaxssl.methods.moco_v3 import MoCoV3
from jaxssl.methods.nnclr import NNCLR
from jaxssl.methods.simclr import SimCLR
from jaxssl.methods.simsiam import SimSiam
from jaxssl.methods.swav import SwAV
from jaxssl.methods.vae import VAE
from jaxssl.methods.vicreg import VICReg
from jaxssl.methods.vq_vae import VQVAE
from jaxssl.methods.w_mse import WMSE

__all__ = [
    'BYOL', 'CMC', 'CPC', 'DINO', 'GAN', 'IJEPA', 'MAE', 'NNCLR', 'VAE', 'VQVAE', 'WMSE', 'AdversarialAutoencoder',
    'Autoencoder', 'BarlowTwins', 'BiGAN', 'CPCImage', 'LeJEPA', 'MoCo', 'MoCoV3', 'SimCLR', 'SimSiam', 'SwAV',
    'VICReg',
]
