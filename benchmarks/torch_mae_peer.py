"""MAE in PyTorch, of timm's modules: the peer that benchmarks/mae_train.py measures against."""

import torch
from timm.models.vision_transformer import Block, PatchEmbed
from torch import nn


class MAE(nn.Module):
  """Images [b, 3, h, w] -> the mean squared error of the hidden patches' normalised pixels."""

  def __init__(self, size: int, patch: int, width: int, depth: int, heads: int, decoder: tuple[int, int, int],
               mask_ratio: float = 0.75):
    super().__init__()
    self.patch, self.mask_ratio = patch, mask_ratio
    self.embed = PatchEmbed(size, patch, 3, width)
    n, (narrow, layers, decoder_heads) = self.embed.num_patches, decoder
    self.class_token = nn.Parameter(torch.zeros(1, 1, width))
    self.mask_token = nn.Parameter(torch.zeros(1, 1, narrow))
    self.register_buffer('positions', torch.randn(1, n, width))  # Fixed; their values cost the same.
    self.register_buffer('decoder_positions', torch.randn(1, n, narrow))
    block = lambda d, heads: Block(d, heads, qkv_bias=True, norm_layer=nn.LayerNorm)
    self.blocks = nn.Sequential(*(block(width, heads) for _ in range(depth)))
    self.norm = nn.LayerNorm(width)
    self.decoder_embed = nn.Linear(width, narrow)
    self.decoder_blocks = nn.Sequential(*(block(narrow, decoder_heads) for _ in range(layers)))
    self.decoder_norm = nn.LayerNorm(narrow)
    self.pixels = nn.Linear(narrow, 3 * patch**2)

  def forward(self, x):
    tokens = self.embed(x) + self.positions
    b, n, d = tokens.shape
    visible = int(n * (1 - self.mask_ratio))
    order = torch.rand(b, n, device=x.device).argsort(dim=1)
    restore = order.argsort(dim=1)
    tokens = tokens.gather(1, order[:, :visible, None].expand(-1, -1, d))
    tokens = self.norm(self.blocks(torch.cat([self.class_token.expand(b, -1, -1), tokens], dim=1)))
    tokens = self.decoder_embed(tokens)
    masked = self.mask_token.expand(b, n - visible, -1).to(tokens.dtype)
    full = torch.cat([tokens[:, 1:], masked], dim=1).gather(1, restore[..., None].expand(-1, -1, tokens.shape[2]))
    tokens = torch.cat([tokens[:, :1], full + self.decoder_positions], dim=1)
    prediction = self.pixels(self.decoder_norm(self.decoder_blocks(tokens))[:, 1:])
    error = (prediction.float() - self.target(x)).square().mean(dim=-1)
    hidden = (restore >= visible).float()
    return (error * hidden).sum() / hidden.sum()

  def target(self, x):
    b, c, h, w = x.shape
    p = self.patch
    patches = x.view(b, c, h // p, p, w // p, p).permute(0, 2, 4, 3, 5, 1).reshape(b, -1, p * p * c)
    variance, mean = torch.var_mean(patches, dim=-1, keepdim=True)
    return (patches - mean) / (variance + 1e-6).sqrt()
