"""Which views to make of data that bring several views of each example themselves."""

import dataclasses

from jaxssl.recipes import _checks
from jaxssl.recipes.image import View, crop_flip


@dataclasses.dataclass(frozen=True)
class Paired:
  """What to change in the views of an example, such as `view_0` and `view_1` of an .npz file.

  Views that are images [b, h, w, c] are cropped, flipped and recoloured by `view`, and for evaluation cut to
  `input_crop` of their shorter side and resized to the size of `view`. With `aligned` one draw is for all of an
  example's images, whose pixels show the same place: without it each has its own. All other views are left as they are,
  but for Gaussian noise of standard deviation `noise` in training.
  """

  view: View
  aligned: bool = True
  noise: float = 0.0
  input_crop: float = 1.0

  def __post_init__(self):
    _checks.within('noise', self.noise, float('inf'))
    _checks.share('input_crop', self.input_crop)

  @property
  def input_size(self) -> int:
    """Side in pixels of the un-augmented images."""
    return self.view.size

  @property
  def recolours(self) -> bool:
    """Whether anything changes the colours of an image, or other views do not share them: always."""
    return True


def paired(
    size: int = 32,
    area: tuple[float, float] = (0.2, 1.0),
    flip: float = 0.5,
    aligned: bool = True,
    noise: float = 0.0,
) -> Paired:
  """Crops and flips for views that are images, as CMC has them (arXiv:1906.05849); the rest as it is."""
  recipe = crop_flip(size, area, flip, views=1)
  return Paired(recipe.views[0], aligned, noise, recipe.input_crop)
