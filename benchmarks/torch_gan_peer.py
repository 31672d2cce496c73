"""DCGAN in PyTorch: the peer that benchmarks/gan_train.py measures against."""

import copy

import torch
import torch.nn.functional as F
from torch import nn


def generator(latent_size: int, widths: tuple[int, ...], channels: int, places: int, transposed: bool) -> nn.Module:
  """Returns z [b, latent_size] -> images in [0, 1], by sub-pixel convolutions as ours, or by transposed as in DCGAN."""
  first = widths[0]
  layers = [nn.Linear(latent_size, places**2 * first, bias=False), nn.Unflatten(1, (first, places, places)),
            nn.BatchNorm2d(first), nn.ReLU(inplace=True)]
  for i, width in enumerate((*widths[1:], channels)):
    last = i == len(widths) - 1
    layers += (
        [nn.ConvTranspose2d(widths[i], width, 4, 2, 1, bias=last)] if transposed else
        [nn.Conv2d(widths[i], 4 * width, 3, padding=1, bias=last), nn.PixelShuffle(2)])
    layers += [nn.Sigmoid()] if last else [nn.BatchNorm2d(width), nn.ReLU(inplace=True)]
  return nn.Sequential(*layers)


def discriminator(widths: tuple[int, ...], channels: int, places: int) -> nn.Module:
  """Returns images -> scores [b, 1]."""
  layers: list[nn.Module] = []
  for i, width in enumerate(widths):
    layers += [nn.Conv2d(widths[i - 1] if i else channels, width, 4, 2, 1, bias=not i)]
    layers += [nn.BatchNorm2d(width)] if i else []
    layers += [nn.LeakyReLU(0.2, inplace=True)]
  return nn.Sequential(*layers, nn.Flatten(), nn.Linear(places**2 * widths[-1], 1))


def stepper(x: torch.Tensor, latent_size: int, widths: tuple[int, ...], steps: int, dtype: str, transposed: bool):
  """Returns a function that takes `steps` steps: discriminator, generator on new latents, its moving average."""
  torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = True
  torch.backends.cudnn.benchmark = True
  device, channels, places = x.device, x.shape[1], x.shape[2] // 2 ** len(widths)
  make = generator(latent_size, widths, channels, places, transposed).to(device)
  judge = discriminator(widths[::-1], channels, places).to(device)
  average = copy.deepcopy(make)
  optimizers = [torch.optim.Adam(each.parameters(), 2e-4, betas=(0.5, 0.999)) for each in (judge, make)]
  run_make, run_judge = (torch.compile(make), torch.compile(judge)) if x.is_cuda else (make, judge)
  precision = lambda: torch.autocast(device.type, torch.bfloat16, enabled=dtype == 'bfloat16')
  noise = lambda: torch.randn(len(x), latent_size, device=device)

  def update(loss, optimizer):
    optimizer.zero_grad(set_to_none=True)
    loss.backward()
    optimizer.step()

  def run():
    for _ in range(steps):
      with precision():
        with torch.no_grad():
          fake = run_make(noise())
        of_real, of_fake = run_judge(x).float(), run_judge(fake).float()
      update(F.softplus(-of_real).mean() + F.softplus(of_fake).mean(), optimizers[0])
      judge.requires_grad_(False)
      with precision():
        scores = run_judge(run_make(noise())).float()
      update(F.softplus(-scores).mean(), optimizers[1])
      judge.requires_grad_(True)
      with torch.no_grad():
        torch._foreach_lerp_(list(average.parameters()), list(make.parameters()), 0.001)
    scores.sum().item()

  return run
