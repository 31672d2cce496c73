"""Which views to make of an image."""

import dataclasses
from typing import Any, NamedTuple

from jaxssl.recipes import _checks
from jaxssl.recipes.audio import Spectrogram


class Params(NamedTuple):
  """One draw from a `View`: all that turns an image [h, w, c] into a view, except the order of the colour jitter.

  Both engines' samplers return it and both engines' `apply` take it.
  """

  box: Any  # int32 [4]: top, left, height and width of the crop, in pixels.
  flip: Any  # bool: mirror left and right.
  affine: Any  # [2, 3]: where each point of the view lies in the crop; (y, x, 1) with y and x from -1 to 1.
  elastic: Any  # [g, g, 2]: displacements in y and x on a coarse grid, in halves of the crop's side.
  thickness: Any  # Pixels by which strokes widen (positive) or thin (negative) on either side.
  jitter: Any  # bool: change the colours at all.
  brightness: Any  # Factor.
  contrast: Any  # Factor.
  saturation: Any  # Factor.
  hue: Any  # Shift, in turns of the colour wheel.
  grey: Any  # bool.
  blur: Any  # bool.
  sigma: Any  # Standard deviation of the blur, in pixels.
  solarize: Any  # bool.


@dataclasses.dataclass(frozen=True)
class View:
  """How to draw one view of size [size, size, c]; the defaults are SimCLR's at strength 1 (arXiv:2002.05709, app. A).

  In this order: random resized crop (bicubic), flip, stroke thickness, colour jitter, grey, blur, solarise. A strength
  or a probability of 0 turns its operation off. With any of `rotation`, `shear`, `log_scale`, `translation` or
  `elastic`, crop and warp are one bilinear resampling, black beyond the image's edge. Images of one channel skip
  saturation, hue and grey.
  """

  size: int
  area: tuple[float, float] = (0.08, 1.0)  # Range of the crop's share of the image.
  ratio: tuple[float, float] = (3 / 4, 4 / 3)  # Range of the crop's width / height, drawn uniformly in the log.
  flip: float = 0.5  # Probability.
  rotation: float = 0.0  # Largest rotation, in degrees.
  shear: float = 0.0  # Largest horizontal shear, in widths per height.
  log_scale: float = 0.0  # Largest |log| of the magnification.
  translation: float = 0.0  # Largest shift along either axis, in sides of the crop.
  elastic: float = 0.0  # Standard deviation of the elastic grid's displacements, in sides of the crop.
  elastic_grid: int = 4  # Points of that grid along a side.
  thickness: float = 0.0  # Largest widening or thinning of strokes on either side, in pixels of the view.
  jitter: float = 0.8  # Probability of the four changes of colour that follow, in random order.
  brightness: float = 0.8  # Largest |factor - 1|.
  contrast: float = 0.8  # Largest |factor - 1|.
  saturation: float = 0.8  # Largest |factor - 1|.
  hue: float = 0.2  # Largest shift, in turns; at most 1/2.
  grey: float = 0.2  # Probability.
  blur: float = 0.5  # Probability.
  sigma: tuple[float, float] = (0.1, 2.0)  # Range of the blur's standard deviation, in pixels.
  solarize: float = 0.0  # Probability.

  def __post_init__(self):
    for name in ('area', 'ratio', 'sigma'):
      object.__setattr__(self, name, _checks.positive_interval(name, getattr(self, name)))
    if self.area[1] > 1:
      raise ValueError(f'area must lie in (0, 1], got {self.area}')
    for name in ('flip', 'jitter', 'grey', 'blur', 'solarize'):
      _checks.within(name, getattr(self, name), 1.0)
    for name in ('rotation', 'shear', 'log_scale', 'translation', 'elastic', 'thickness', 'brightness', 'contrast',
                 'saturation'):
      _checks.within(name, getattr(self, name), float('inf'))
    _checks.within('hue', self.hue, 0.5)
    _checks.at_least('size', self.size, 1)
    _checks.at_least('elastic_grid', self.elastic_grid, 2)

  @property
  def crops(self) -> bool:
    """Whether anything but the whole of a square image is cut out."""
    return self.area[0] < 1 or self.ratio != (1.0, 1.0)

  @property
  def warps(self) -> bool:
    """Whether anything but an upright rectangle is cut out."""
    return any((self.rotation, self.shear, self.log_scale, self.translation, self.elastic))

  @property
  def recolours(self) -> bool:
    """Whether the colour jitter can do anything."""
    return self.jitter > 0 and any((self.brightness, self.contrast, self.saturation, self.hue))

  @property
  def kernel_size(self) -> int:
    """Width of the blur's kernel in pixels: a tenth of the view, made odd (23 for 224, as SimCLR's code has it)."""
    return 2 * (self.size // 10 // 2) + 1


@dataclasses.dataclass(frozen=True)
class Patches:
  """How to cut a view into overlapping square patches, and what to change in each patch by itself.

  In this order: `view` (its crop, warp and colours, of the patch), flip, colour dropping, sub-crop. By default nothing
  changes.
  """

  size: int  # Side of a patch, in pixels.
  stride: int  # Distance from one patch to the next, in pixels.
  view: View | None = None  # Of the patches' size.
  flip: float = 0.0  # Probability of mirroring left and right.
  color_drop: float = 0.0  # Probability of setting all channels but a random one to zero.
  subcrop: float = 1.0  # Share of the side that a random square keeps; zeros all around.

  def __post_init__(self):
    for name in ('size', 'stride'):
      _checks.at_least(name, getattr(self, name), 1)
    for name in ('flip', 'color_drop'):
      _checks.within(name, getattr(self, name), 1.0)
    _checks.share('subcrop', self.subcrop)
    if self.view is not None and self.view.size != self.size:
      raise ValueError(f'view must be of the size of the patches, {self.size}, got {self.view.size}')


# What a view can show of an image (see `augment.modality`): in values from -1 to 1, and from 0 to 1.
_SIGNED = ('L', 'ab', 'a', 'b', 'Y', 'CbCr', 'Cb', 'Cr', 'gradients')
MODALITIES = (*_SIGNED, 'image', 'grey', 'left', 'right', 'top', 'bottom')


@dataclasses.dataclass(frozen=True)
class Recipe:
  """The views to make of every image, and how evaluation sees it.

  `input_size` is the side in pixels of the un-augmented input; `input_crop` the share of the image's shorter side that
  its central square crop keeps; `input_grey` whether it loses its colours, as views of `grey` 1 do. With `patches`,
  views are cut in patches; the input stays whole. With `modalities`, each view shows its own of its crop, or all show
  theirs of the same crop where `views` holds one; the input, too, becomes a tuple of them. With `spectrogram`, the data
  are recordings, each of which becomes an image of `input_size`, grey, when it is read.
  """

  views: tuple[View, ...]
  input_size: int
  input_crop: float = 1.0
  input_grey: bool = False
  patches: Patches | None = None
  modalities: tuple[str, ...] = ()
  spectrogram: Spectrogram | None = None

  def __post_init__(self):
    object.__setattr__(self, 'views', tuple(self.views))
    if isinstance(self.modalities, str):
      raise ValueError(f'modalities must be a tuple of names, got {self.modalities!r}')
    object.__setattr__(self, 'modalities', tuple(self.modalities))
    if not self.views:
      raise ValueError('views must hold at least one View, got none')
    for name in self.modalities:
      if name not in MODALITIES:
        raise ValueError(f'modalities must be among {", ".join(MODALITIES)}, got {name!r}')
    if self.modalities and len(self.views) not in (1, len(self.modalities)):
      raise ValueError(f'views must hold one View, or one for each of the {len(self.modalities)} modalities, got '
                       f'{len(self.views)}')
    if self.modalities and self.patches is not None:
      raise ValueError('patches are of whole images: modalities must be () beside them')
    _checks.at_least('input_size', self.input_size, 1)
    _checks.share('input_crop', self.input_crop)
    if self.patches is not None:
      for view in self.views:
        _fits(view.size, self.patches)
    if self.spectrogram is not None:
      self._check_spectrogram(self.spectrogram)

  def _check_spectrogram(self, shown: Spectrogram) -> None:
    if shown.length < self.input_size:
      raise ValueError(
          f'seconds must be at least {self.input_size / shown.rate:g}, one sample for each of the {self.input_size} '
          f'columns of the image, got {shown.seconds}')
    if self.input_crop != 1:
      raise ValueError(f'input_crop must be 1 of a spectrogram, got {self.input_crop}')
    if any(view.flip for view in self.views):
      raise ValueError('flip must be 0 of a spectrogram, which would be played backwards')

  @property
  def signed(self) -> tuple[bool, ...]:
    """For each of the modalities, whether its values lie in [-1, 1], not in [0, 1]."""
    return tuple(name in _SIGNED for name in self.modalities)

  @property
  def recolours(self) -> bool:
    """Whether anything changes the colours of an image, or shows only some of them."""
    if self.input_grey or self.modalities:
      return True
    cut = self.patches
    if cut is not None and (cut.color_drop or (cut.view is not None and cut.view.recolours)):
      return True
    return any(view.recolours for view in self.views)


def simclr(
    size: int = 224,
    strength: float = 1.0,
    blur: float | None = None,
    area: tuple[float, float] = (0.08, 1.0),
    flip: float = 0.5,
    jitter: float = 0.8,
    grey: float = 0.2,
    solarize: float = 0.0,
    views: int = 2,
) -> Recipe:
  """SimCLR's recipe (arXiv:2002.05709, appendix A); `strength` scales the colour jitter (1 ImageNet, 0.5 CIFAR-10).

  `blur` None is the paper's: 0.5, but none up to 32 px, where the input is not cropped for evaluation either.
  """
  view = View(size, area=area, flip=flip, jitter=jitter, grey=grey, solarize=solarize, blur=_blur(size, blur))
  return Recipe((_recoloured(view, strength),) * views, size, _input_crop(size))


def byol(size: int = 224, area: tuple[float, float] = (0.08, 1.0)) -> Recipe:
  """BYOL's asymmetric pair (arXiv:2006.07733, table 6), also Barlow Twins' and MoCo v3's."""
  first = View(size, area=area, brightness=0.4, contrast=0.4, saturation=0.2, hue=0.1, blur=1.0)
  second = dataclasses.replace(first, blur=0.1, solarize=0.2)
  return Recipe((first, second), size, _input_crop(size))


def strong_weak(
    size: int = 224,
    strength: float = 0.5,
    blur: float | None = None,
    area: tuple[float, float] = (0.2, 1.0),
) -> Recipe:
  """ReSSL's pair (arXiv:2107.09282, section 3.3): a view like SimCLR's, and one that is only cropped and mirrored."""
  strong = simclr(size, strength, blur, area, views=1)
  return dataclasses.replace(strong, views=strong.views + crop_flip(size, area, views=1).views)


def multi_crop(
    size: int = 224,
    small_size: int = 96,
    small_views: int = 6,
    area: tuple[float, float] = (0.14, 1.0),
    small_area: tuple[float, float] = (0.05, 0.14),
    strength: float = 1.0,
    blur: float | None = None,
) -> Recipe:
  """SwAV's multi-crop (arXiv:2006.09882, section 4): two large views, then `small_views` small ones."""
  _checks.at_least('small_views', small_views, 0)
  large = _recoloured(View(size, area=area, blur=_blur(size, blur)), strength)
  small = dataclasses.replace(large, size=small_size, area=small_area, blur=_blur(small_size, blur))
  return Recipe((large,) * 2 + (small,) * small_views, size, _input_crop(size))


def dino(
    size: int = 224,
    small_size: int = 96,
    small_views: int = 8,
    area: tuple[float, float] = (0.4, 1.0),
    small_area: tuple[float, float] = (0.05, 0.4),
) -> Recipe:
  """DINO's multi-crop (arXiv:2104.14294 and its code): BYOL's asymmetric pair and small views, half of them blurred."""
  _checks.at_least('small_views', small_views, 0)
  pair = byol(size, area)
  small = dataclasses.replace(pair.views[0], size=small_size, area=small_area, blur=0.5)
  return dataclasses.replace(pair, views=pair.views + (small,) * small_views)


def crop_flip(size: int = 224, area: tuple[float, float] = (0.08, 1.0), flip: float = 0.5, views: int = 2) -> Recipe:
  """Random resized crop and flip alone: what SimCLR's fine-tuning and SGD linear probe see."""
  view = View(size, area=area, flip=flip, jitter=0.0, grey=0.0, blur=0.0)
  return Recipe((view,) * views, size, _input_crop(size))


def patches(
    size: int = 260,
    patch_size: int = 80,
    patch_stride: int = 36,
    area: tuple[float, float] = ((260 / 300) ** 2, (260 / 300) ** 2),
    ratio: tuple[float, float] = (1.0, 1.0),
    flip: float = 0.5,
    grey: bool = False,
    strength: float = 0.5,
    patch_grey: float = 0.25,
    patch_flip: float = 0.5,
    color_drop: float = 0.5,
    rotation: float = 0.0,
    shear: float = 0.1,
    elastic: float = 0.02,
    subcrop: float = 1.0,
) -> Recipe:
  """One view, cut in patches for CPC; the defaults are in the manner of CPC v2 (arXiv:1905.09272, section 3).

  The view is a crop, by default of 260 of 300 pixels, and a flip. Each patch by itself: colour jitter of `strength`
  with probability 0.8, grey, `rotation`, `shear` and `elastic` (all 0: no warp), a flip, colour dropping. CPC v2 also
  draws from AutoAugment's operations and warps every fifth patch alone; these numbers are ours. CPC v1
  (arXiv:1807.03748, section 3.2) is size 256, patches of 64, 32 apart, grey, sub-crops of 60 / 64 and nothing else.
  `grey` is for all of the image, in evaluation too.
  """
  view = View(size, area=area, ratio=ratio, flip=flip, jitter=0.0, grey=float(grey), blur=0.0)
  patch = _recoloured(View(
      patch_size, area=(1.0, 1.0), ratio=(1.0, 1.0), flip=0.0, rotation=rotation, shear=shear, elastic=elastic,
      grey=patch_grey, blur=0.0), strength)
  changes = patch.warps or patch.grey or strength
  return Recipe(
      (view,), size, _input_crop(size), grey,
      Patches(patch_size, patch_stride, patch if changes else None, patch_flip, color_drop, subcrop))


def multiview(
    size: int = 224,
    modalities: tuple[str, ...] = ('L', 'ab'),
    area: tuple[float, float] = (0.2, 1.0),
    flip: float = 0.5,
    same_crop: bool = True,
    strength: float = 0.0,
    grey: float = 0.0,
    blur: float = 0.0,
) -> Recipe:
  """Views that show different things of an image, for CMC (arXiv:1906.05849): by default L and ab of the same crop.

  Area (0.2, 1) is the paper's for AlexNet; for ResNets it has (0.08, 1). `same_crop` False draws a crop for each view.
  `strength`, `grey` and `blur` are as in `simclr`, and off in the paper.
  """
  if not modalities:
    raise ValueError(f'modalities must name what each view shows, among {", ".join(MODALITIES)}, got none')
  view = _recoloured(View(size, area=area, flip=flip, jitter=0.8 if strength else 0.0, grey=grey, blur=blur), strength)
  return Recipe(
      (view,) * (1 if same_crop else len(modalities)), size, _input_crop(size), modalities=modalities)


def drawings(
    size: int = 28,
    area: tuple[float, float] = (0.5, 1.0),
    ratio: tuple[float, float] = (3 / 4, 4 / 3),
    rotation: float = 15.0,
    shear: float = 0.2,
    log_scale: float = 0.2,
    translation: float = 0.1,
    elastic: float = 0.03,
    elastic_grid: int = 4,
    thickness: float = 0.5,
    blur: float = 0.0,
    views: int = 2,
) -> Recipe:
  """For bright strokes on black: crop, affine and elastic warp, stroke thickness; no flip, no colours.

  One bilinear resampling without antialiasing, so for drawings not much larger than `size`.
  """
  view = View(
      size, area=area, ratio=ratio, flip=0.0, rotation=rotation, shear=shear, log_scale=log_scale,
      translation=translation, elastic=elastic, elastic_grid=elastic_grid, thickness=thickness, jitter=0.0, grey=0.0,
      blur=blur)
  return Recipe((view,) * views, size)


def spectrogram(
    size: int = 64,
    rate: int = 16_000,
    seconds: float = 1.0,
    low: float = 50.0,
    high: float | None = None,
    dynamic_range: float = 60.0,
    area: tuple[float, float] = (0.6, 1.0),
    ratio: tuple[float, float] = (3 / 4, 4 / 3),
    translation: float = 0.0,
    views: int = 2,
) -> Recipe:
  """Recordings as log-mel images, `size` bands by `size` frames of `seconds` / `size`, for every method for images.

  A crop, resized, is a change of tempo and of pitch, and of where in time and frequency the sound lies; `translation`
  shifts it besides. No flip, no colours. `Spectrogram` says what the others mean; the numbers are ours.
  """
  view = View(size, area=area, ratio=ratio, flip=0.0, translation=translation, jitter=0.0, grey=0.0, blur=0.0)
  return Recipe((view,) * views, size, spectrogram=Spectrogram(rate, seconds, low, high, dynamic_range))


def _fits(size: int, cut: Patches) -> None:
  if size < cut.size or (size - cut.size) % cut.stride:
    raise ValueError(
        f'size must be the size of a patch, {cut.size}, plus a multiple of their stride, {cut.stride}, got {size}')


def _recoloured(view: View, strength: float) -> View:
  _checks.within('strength', strength, 2.5)  # At which the hue's range is the whole wheel.
  factor = 0.8 * strength
  return dataclasses.replace(view, brightness=factor, contrast=factor, saturation=factor, hue=0.2 * strength)


def _blur(size: int, blur: float | None) -> float:
  if blur is None:
    return 0.5 if size > 32 else 0.0
  return blur


def _input_crop(size: int) -> float:
  return 0.875 if size > 32 else 1.0
