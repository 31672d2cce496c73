"""One file a paper: frozen dataclasses with `init`, `step` and `represent` (see `jaxssl.core.Method`)."""

from jaxssl.methods.adversarial_autoencoder import AdversarialAutoencoder
from jaxssl.methods.autoencoder import Autoencoder
from jaxssl.methods.bigan import BiGAN
from jaxssl.methods.cmc import CMC
from jaxssl.methods.cpc import CPC
from jaxssl.methods.cpc_image import CPCImage
from jaxssl.methods.gan import GAN
from jaxssl.methods.i_jepa import IJEPA
from jaxssl.methods.mae import MAE
from jaxssl.methods.moco import MoCo
from jaxssl.methods.simclr import SimCLR
from jaxssl.methods.vae import VAE
from jaxssl.methods.vq_vae import VQVAE

__all__ = [
    'CMC', 'CPC', 'GAN', 'IJEPA', 'MAE', 'VAE', 'VQVAE', 'AdversarialAutoencoder', 'Autoencoder', 'BiGAN', 'CPCImage',
    'MoCo', 'SimCLR',
]
