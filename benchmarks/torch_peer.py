"""SimCLR and CPC in PyTorch: the peers that benchmarks/train_step.py and cpc_train.py measure against."""

import torch
import torch.nn.functional as F
from torch import nn


def stepper(model: nn.Module, optimizer: torch.optim.Optimizer, x, steps: int, dtype: str = 'float32'):
  """Returns a function that takes `steps` steps on the loss `model(x)`, compiled where it is on a GPU."""
  torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = True
  torch.backends.cudnn.benchmark = True
  forward = torch.compile(model) if x.is_cuda else model

  def run():
    for _ in range(steps):
      with torch.autocast(x.device.type, torch.bfloat16, enabled=dtype == 'bfloat16'):
        loss = forward(x)
      optimizer.zero_grad(set_to_none=True)
      loss.backward()
      optimizer.step()
    loss.item()

  return run


class Block(nn.Module):
  """Two 3x3 convolutions and a shortcut."""

  def __init__(self, inputs: int, outputs: int, stride: int):
    super().__init__()
    self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
    self.bn1 = nn.BatchNorm2d(outputs)
    self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
    self.bn2 = nn.BatchNorm2d(outputs)
    self.shortcut = nn.Identity() if stride == 1 and inputs == outputs else nn.Sequential(
        nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs))

  def forward(self, x):
    y = F.relu(self.bn1(self.conv1(x)), inplace=True)
    return F.relu(self.bn2(self.conv2(y)) + self.shortcut(x), inplace=True)


class SimCLR(nn.Module):
  """Images of both views [2b, 3, h, w] -> NT-Xent at temperature 0.5."""

  def __init__(self, temperature: float = 0.5):
    super().__init__()
    self.temperature = temperature
    widths = (64, 64, 128, 256, 512)
    blocks = [
        Block(widths[stage] if i == 0 else width, width, 2 if stage and i == 0 else 1)
        for stage, width in enumerate(widths[1:]) for i in range(2)]
    self.encoder = nn.Sequential(
        nn.Conv2d(3, 64, 3, 1, 1, bias=False), nn.BatchNorm2d(64), nn.ReLU(inplace=True), *blocks)
    self.head = nn.Sequential(
        nn.Linear(512, 512, bias=False), nn.BatchNorm1d(512), nn.ReLU(inplace=True),
        nn.Linear(512, 128, bias=False), nn.BatchNorm1d(128))

  def forward(self, x):
    z = F.normalize(self.head(self.encoder(x).mean((2, 3))).float(), dim=1)
    n = len(z)
    scores = (z @ z.T / self.temperature).masked_fill(torch.eye(n, dtype=torch.bool, device=z.device), -torch.inf)
    return F.cross_entropy(scores, torch.arange(n, device=z.device).roll(n // 2))


class CPC(nn.Module):
  """Windows of audio [b, n] -> InfoNCE over steps and distances, with negatives drawn for each sequence."""

  def __init__(self, features, context, kernels, strides, ahead: int, drawn: int):
    super().__init__()
    self.ahead, self.drawn = ahead, drawn
    layers = []
    for i, (kernel, stride) in enumerate(zip(kernels, strides, strict=True)):
      layers += [nn.Conv1d(features if i else 1, features, kernel, stride, -(-(kernel - stride) // 2)),
                 nn.BatchNorm1d(features), nn.ReLU(inplace=True)]
    self.encoder = nn.Sequential(*layers)
    self.context = nn.GRU(features, context, batch_first=True)
    self.predictor = nn.Linear(context, ahead * features, bias=False)
    nn.init.normal_(self.predictor.weight, std=(features * context) ** -0.5)

  def forward(self, x):
    z = self.encoder(x[:, None]).transpose(1, 2).contiguous()
    b, t, d = z.shape
    predictions = self.predictor(self.context(z)[0]).view(b, t, self.ahead, d)
    number = torch.randint(b * t, (b, self.drawn), device=z.device)
    negatives = torch.einsum('btkd,bmd->btkm', predictions, z.reshape(-1, d)[number])
    loss = 0
    for k in range(1, self.ahead + 1):
      positive = (predictions[:, :-k, k - 1] * z[:, k:]).sum(-1, keepdim=True)
      scores = torch.cat([positive, negatives[:, :-k, k - 1]], dim=-1)
      loss = loss - F.log_softmax(scores, dim=-1)[..., 0].mean()
    return loss / self.ahead
