"""Which views to make of audio, and how to show it as an image."""

import dataclasses
import math

from jaxssl.recipes import _checks


@dataclasses.dataclass(frozen=True)
class Audio:
  """The views to make of a window of audio, and how evaluation sees a clip; by default no view changes anything.

  In this order: tempo, speed, noise, time mask, gain, polarity. All views of an example start at the same sample.
  """

  rate: int  # Samples a second, to which recordings are resampled.
  window: int  # Samples of a view.
  views: int = 1
  input_seconds: float | None = None  # What evaluation sees: clips cut or padded to this; None is the window.
  tempo: float = 0.0  # Largest |log| of the factor by which time passes faster, the pitch kept.
  speed: float = 0.0  # Largest |log| of the factor by which the recording is played faster, pitch and all.
  noise: float = 0.0  # Probability of white noise.
  snr: tuple[float, float] = (10.0, 40.0)  # Range of its signal-to-noise ratio, in dB.
  time_mask: float = 0.0  # Probability of silencing spans.
  time_masks: int = 1  # How many.
  time_mask_share: float = 0.1  # Largest share of the window that each of them takes.
  gain: tuple[float, float] = (0.0, 0.0)  # Range of the change of level, in dB.
  polarity: float = 0.0  # Probability of changing the sign.

  def __post_init__(self):
    for name in ('rate', 'window', 'views', 'time_masks'):
      _checks.at_least(name, getattr(self, name), 1)
    for name in ('noise', 'time_mask', 'time_mask_share', 'polarity'):
      _checks.within(name, getattr(self, name), 1.0)
    for name in ('tempo', 'speed'):
      _checks.within(name, getattr(self, name), 1.0)  # Of 1, a factor from 0.37 to 2.7.
    for name in ('snr', 'gain'):
      object.__setattr__(self, name, _checks.interval(name, getattr(self, name)))
    if self.input_seconds is not None and not 0.5 <= self.input_seconds * self.rate < math.inf:
      raise ValueError(f'input_seconds must be at least one sample or None, got {self.input_seconds}')

  @property
  def input_length(self) -> int:
    """Samples of what evaluation sees."""
    return self.window if self.input_seconds is None else round(self.input_seconds * self.rate)

  @property
  def stretched(self) -> int:
    """Samples that a view takes when its tempo is changed and its speed not yet."""
    return math.ceil(self.window * math.exp(self.speed))

  @property
  def span(self) -> int:
    """Samples read from a clip, so that the fastest view is as long as the window."""
    return math.ceil(self.stretched * math.exp(self.tempo))

  @property
  def frame(self) -> int:
    """Samples of a frame in which the tempo is changed: a power of two near 32 ms (256 at 8 kHz, 512 at 16 kHz)."""
    return 2 ** max(2, round(math.log2(0.032 * self.rate)))


@dataclasses.dataclass(frozen=True)
class Spectrogram:
  """How a clip becomes a square image: time from left to right, mel bands upwards, the louder the brighter.

  A pixel is 1 at the loudest of the clip and 0 at `dynamic_range` below it: how loud the clip is does not show.
  """

  rate: int  # Samples a second, to which recordings are resampled.
  seconds: float  # The width of the image: clips are cut to it, or end in silence.
  low: float = 50.0  # The lowest frequency, in Hz.
  high: float | None = None  # The highest, in Hz; None is half the rate.
  dynamic_range: float = 60.0  # In dB.

  def __post_init__(self):
    _checks.at_least('rate', self.rate, 1)
    if not 0.5 <= self.seconds * self.rate < math.inf:
      raise ValueError(f'seconds must be at least one sample, got {self.seconds}')
    high = self.rate / 2 if self.high is None else self.high
    if not 0 <= self.low < high <= self.rate / 2:
      raise ValueError(
          f'low and high must be frequencies with 0 <= low < high <= {self.rate / 2:g} Hz, half the rate, got '
          f'{self.low} and {self.high}')
    if not 0 < self.dynamic_range <= 120:  # Beyond which the transform's rounding errors show.
      raise ValueError(f'dynamic_range must lie in (0, 120] dB, got {self.dynamic_range}')

  @property
  def length(self) -> int:
    """Samples of a clip that the image shows."""
    return round(self.seconds * self.rate)


def speech(
    rate: int = 16_000,
    window: int = 20_480,
    strength: float = 1.0,
    views: int = 1,
    input_seconds: float | None = None,
) -> Audio:
  """Speech in CPC's windows (arXiv:1807.03748, section 3.1): 1.28 s at 16 kHz; `strength` 0 is the paper's: no changes.

  The changes are ours, a start for tuning: a tempo within about 10 % and a level within 6 dB, half of the views with
  noise, half upside down, half with up to a tenth silenced, the first three in proportion to `strength`. The pitch is
  kept, for the voice is in it.
  """
  _checks.within('strength', strength, 5.0)
  half = 0.5 if strength else 0.0
  return Audio(
      rate, window, views, input_seconds, tempo=0.1 * strength, noise=min(half * strength, 1.0), time_mask=half,
      gain=(-6.0 * strength, 6.0 * strength), polarity=half)
