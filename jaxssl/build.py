"""From a config to objects: the only place where a name becomes a thing."""

import dataclasses
import difflib
import functools
import inspect
from collections.abc import Callable, Generator, Iterable, Mapping
from typing import Any, NamedTuple

from jaxssl import augment, core, data, losses, methods, models, recipes, schema
from jaxssl.data import Source
from jaxssl.methods import autoencoder
from jaxssl.training import optimizers, schedules

NETWORKS = {
    'resnet': models.ResNet,
    **{f'resnet{depth}': getattr(models, f'resnet{depth}') for depth in (18, 34, 50, 101, 152, 200)},
    'vit': models.ViT,
    **{f'vit_{size}': getattr(models, f'vit_{size}') for size in ('tiny', 'small', 'base', 'large', 'huge')},
    'mlp': models.MLP,
    'audio': models.AudioEncoder,
    'log_mel': models.LogMelEncoder,
    'sequence': models.SequenceEncoder,
    'rnn': models.RNNContext,
    'transformer': models.TransformerContext,
    'linear_predictor': models.LinearPredictor,
    'transformer_predictor': models.TransformerPredictor,
    'patches': models.PatchEncoder,
    'masked_conv': models.MaskedConvContext,
    'row_gru': models.RowGRUContext,
    'grid': models.GridPredictor,
    'by_shape': models.ByShape,
    'pooled': models.Pooled,
    'mae_decoder': models.MAEDecoder,
    'jepa_predictor': models.JEPAPredictor,
    'conv_encoder': models.ConvEncoder,
    'conv_decoder': models.ConvDecoder,
    'mlp_encoder': models.MLPEncoder,
    'mlp_decoder': models.MLPDecoder,
    'resnet_decoder': models.ResNetDecoder,
    'generator': models.Generator,
    'conv_discriminator': models.ConvDiscriminator,
    'resnet_discriminator': models.ResNetDiscriminator,
    'mlp_discriminator': models.MLPDiscriminator,
    'mlp_joint_discriminator': models.MLPJointDiscriminator,
    'joint_discriminator': models.JointDiscriminator,
}
# Fields that the presets of a network, such as `resnet50(**fields)`, have chosen.
SIZES: dict[Callable, tuple[str, ...]] = {
    models.ResNet: ('stage_sizes', 'block'), models.ViT: ('width', 'depth', 'heads')}
METHODS = {
    'simclr': methods.SimCLR, 'cpc': methods.CPC, 'cpc_image': methods.CPCImage, 'cmc': methods.CMC,
    'moco': methods.MoCo, 'autoencoder': methods.Autoencoder, 'vae': methods.VAE, 'vq_vae': methods.VQVAE,
    'mae': methods.MAE, 'gan': methods.GAN, 'adversarial_autoencoder': methods.AdversarialAutoencoder,
    'bigan': methods.BiGAN, 'barlow_twins': methods.BarlowTwins, 'byol': methods.BYOL, 'dino': methods.DINO,
    'i_jepa': methods.IJEPA, 'lejepa': methods.LeJEPA, 'moco_v3': methods.MoCoV3, 'nnclr': methods.NNCLR,
    'simsiam': methods.SimSiam, 'swav': methods.SwAV, 'vicreg': methods.VICReg, 'w_mse': methods.WMSE}
CORRUPTIONS = {
    'masking': augment.MaskingNoise, 'gaussian': augment.GaussianNoise, 'salt_and_pepper': augment.SaltAndPepperNoise}
SPARSITIES = {
    'dense': autoencoder.Dense, 'kl': autoencoder.KLSparsity, 'l1': autoencoder.L1Sparsity, 'k': autoencoder.KSparse}
PROTOTYPES = {'prototypes': models.Prototypes}
OPTIMIZERS = {name: getattr(optimizers, name) for name in ('sgd', 'adamw', 'lars', 'lamb', 'rmsprop')}
LEARNING_RATES: dict[str, Callable] = {
    name: getattr(schedules, name) for name in ('warmup_cosine', 'step_decay', 'constant', 'linear_warmup')}
RECIPES = {name: getattr(recipes, name) for name in (
    'simclr', 'byol', 'strong_weak', 'multi_crop', 'dino', 'crop_flip', 'multiview', 'paired', 'patches', 'drawings',
    'spectrogram', 'speech')}
RECIPES['audio'] = recipes.Audio


def geometric_alpha(high: float, low: float, *, batch_size: int, steps: int, steps_per_epoch: float) -> Callable:
  """Returns `losses.geometric_alpha` as a function of the step, for a run of so many."""
  del batch_size, steps_per_epoch
  return functools.partial(losses.geometric_alpha, steps=steps, high=high, low=low)


# Of the weight of a term, a momentum, a temperature: of what knows no batch size to scale with.
WEIGHTS: dict[str, Callable] = {
    **{name: getattr(schedules, name) for name in ('linear_warmup', 'linear', 'cosine')},
    'geometric_alpha': geometric_alpha}
WEIGHED = ('alpha', 'beta', 'momentum', 'weight_decay', 'target_temperature')
SCHEDULES = (*LEARNING_RATES.values(), *WEIGHTS.values())
SHAPE_OF_THE_RUN = ('batch_size', 'steps', 'steps_per_epoch')  # What schedules are given.
# The least and the most: keys are made of 32 bits, and steps are counted in int32.
RANGES = {'seed': (0, 2**32 - 1), 'steps': (1, 2**31 - 1), 'batch_size': (2, 2**31 - 1)}


class Experiment(NamedTuple):
  """What a config describes, ready to run."""

  method: core.Method
  recipe: Any  # recipes.Recipe, recipes.Paired, or recipes.Audio.
  prepare: Callable[[core.Batch, Any], core.Batch]  # The device half of the recipe.
  schedules: dict[str, Callable]  # Learning rates by name, as functions of the step, for logging.

  @property
  def hears(self) -> bool:
    """Whether the data are audio, not images."""
    return hears(self.recipe)


def build(config: Mapping[str, Any], num_examples: int) -> Experiment:
  """Builds what `config`, a nested dict, describes, for pretraining on `num_examples`.

  Raises:
    ValueError: with the key at fault.
  """
  schema.check(config, 'seed', 'steps', 'batch_size', 'data', 'method')
  for key, (least, most) in RANGES.items():
    if not least <= config[key] <= most:
      bound = f'at least {least}' if config[key] < least else f'at most {most}'
      raise ValueError(f'config.{key} must be {bound}, got {config[key]}')
  if num_examples < 2:
    raise ValueError(f'there must be at least 2 examples to pretrain on, got {num_examples}')
  if config['batch_size'] > num_examples:
    raise ValueError(
        f'config.batch_size = {config["batch_size"]} is more than the {num_examples} examples to pretrain on, '
        f'so that one would be in a batch twice; set --config.batch_size={num_examples} or less')
  run = {
      'batch_size': config['batch_size'],
      'steps': config['steps'],
      'steps_per_epoch': num_examples / config['batch_size'],
      'num_examples': num_examples,
  }
  recipe, prepare = views(config)
  return Experiment(
      method=construct('method', config['method'], run),
      recipe=recipe,
      prepare=prepare,
      schedules={
          f'{key.removesuffix("optimizer")}learning_rate': construct(
              f'method.{key}.learning_rate', section['learning_rate'], _accumulated(section, run))
          for key, section in config['method'].items()
          if key.endswith('optimizer')
      },
  )


def views(config: Mapping[str, Any]) -> tuple[Any, Callable[[core.Batch, Any], core.Batch]]:
  """Builds the recipe of `config` and the device half of it, `prepare(batch, key)`."""
  schema.check(config, 'data')
  recipe, engine = construct('data.recipe', config['data']['recipe'], {}), config['data']['engine']
  if engine not in recipes.ENGINES:
    raise ValueError(_unknown('config.data.engine', engine, recipes.ENGINES))
  return recipe, augment.prepare(recipe, engine)


def hears(recipe: Any) -> bool:
  """Returns whether a recipe is for audio, not for images."""
  return isinstance(recipe, recipes.Audio)


def clips(source: Source, recipe: recipes.Audio) -> Callable[[Any], Any]:
  """Returns what evaluation sees of audio: indices [k] -> float32 [k, input_length] and the mask of what is real."""
  return lambda indices: data.audio.padded(source.inputs, indices, recipe.input_length)


def load_source(config: Mapping[str, Any], split: str) -> Source:
  """Opens a split of `config`'s data ('pretrain', 'train' or 'test'), at the size or the rate that its recipe reads."""
  schema.check(config, 'data')
  section = config['data']
  recipe = construct('data.recipe', section['recipe'], {})
  try:
    if hears(recipe):
      return data.load_audio(section['source'], section['name'], section['path'], split, rate=recipe.rate)
    if getattr(recipe, 'spectrogram', None) is not None:
      return data.load_spectrograms(
          section['source'], section['name'], section['path'], split, recipe.spectrogram, recipe.input_size)
    decoded_on_host = section['engine'] != 'device' and split == 'pretrain'
    size = None if decoded_on_host else round(recipe.input_size / recipe.input_crop)
    load = data.load_paired if isinstance(recipe, recipes.Paired) else data.load
    return load(section['source'], section['name'], section['path'], split, size=size)
  except (ValueError, OSError) as error:
    kind = FileNotFoundError if isinstance(error, FileNotFoundError) else ValueError
    if error.__class__ not in (ValueError, FileNotFoundError):  # Of the system: it knows the file, but not the key.
      raise kind(f'config.data.path={section["path"]!r}: {error}') from error
    raise kind(f'config.data.{error}' if str(error).partition('=')[0] in section else str(error)) from error
  except ImportError as error:
    raise ImportError(f'config.data.source={section["source"]!r}: {error}') from error


def stream(
    config: Mapping[str, Any], source: Source, start: int = 0, host: int = 0, hosts: int = 1,
    batch_size: int | None = None) -> Generator[core.Batch, None, None]:
  """Returns this host's part of every batch from step `start` on; a generator, to be closed."""
  recipe, engine = construct('data.recipe', config['data']['recipe'], {}), config['data']['engine']
  try:
    return data.batches(
        source, recipe, engine=engine, seed=config['seed'], batch_size=batch_size or config['batch_size'], start=start,
        host=host, hosts=hosts)
  except ImportError as error:
    raise ImportError(f'config.data.engine={engine!r}: {error}') from error


def construct(path: str, section: Mapping[str, Any], run: Mapping[str, Any]) -> Any:
  """Builds the section at `config.<path>`: its `name` with the other keys as keyword arguments, recursively.

  A schedule also gets the shape of the run: batch_size, steps and steps_per_epoch; a method that remembers every
  example, their number.
  """
  choices = _choices(path.rpartition('.')[2])
  if not isinstance(section, Mapping) or 'name' not in section:
    raise ValueError(f'config.{path} must be a section with a name, got {schema.shown(section)}. The choices are: '
                     f'{", ".join(sorted(choices))}')
  name = section['name']
  constructor = choices.get(name) if isinstance(name, str) else None
  if constructor is None:
    raise ValueError(_unknown(f'config.{path}.name', name, choices))
  run = _accumulated(section, run)
  arguments = {key: _value(f'{path}.{key}', value, run) for key, value in section.items() if key != 'name'}
  allowed = _keywords(constructor)
  for key in arguments:
    if key not in allowed:
      raise ValueError(
          _unknown(f'a key of config.{path} ({name})', key, allowed)
          + '. A section whose name changes needs its own keys: change it in a copy of the config file')
  parameters = _parameters(constructor)
  for key, value in arguments.items():
    schema.check_type(f'config.{path}.{key}', value, parameters[key].annotation)
  if constructor in SCHEDULES:
    arguments |= {key: run[key] for key in SHAPE_OF_THE_RUN}
  if choices is METHODS and 'num_examples' in inspect.signature(constructor).parameters:
    arguments['num_examples'] = run['num_examples']
  try:
    made = constructor(**arguments)
    if choices is METHODS:
      _check_schedules(made, section, run['steps'])
    return made
  except Exception as error:  # Whatever comes of a value of the right type that is too large, say, or too long.
    raise ValueError(f'config.{path}: {error}') from error


def _check_schedules(method: Any, section: Mapping[str, Any], steps: int) -> None:
  """Raises ValueError where a schedule takes a value in the run that the method would refuse as a number."""
  for key in WEIGHED:
    if callable(schedule := getattr(method, key, None)) and isinstance(section.get(key), Mapping):
      for step in (0, steps // 2, steps):
        try:
          dataclasses.replace(method, **{key: float(schedule(step))})
        except ValueError as error:
          raise ValueError(f'{error} at step {step} of {steps}') from error


def _choices(key: str) -> Mapping[str, Any]:
  """The constructors that a section called `key` chooses from."""
  if key.endswith('optimizer'):
    return OPTIMIZERS
  sections: dict[str, Mapping[str, Any]] = {
      'method': METHODS, 'learning_rate': LEARNING_RATES, 'recipe': RECIPES, 'corruption': CORRUPTIONS,
      'sparsity': SPARSITIES, 'prototypes': PROTOTYPES, **{name: WEIGHTS for name in WEIGHED}}
  return sections.get(key, NETWORKS)


def _keywords(constructor: Callable) -> Iterable[str]:
  """The keyword arguments of a constructor; those of ResNet, but its depth, for `resnet50(**fields)` and the like."""
  given = ['parent', 'name', 'num_examples']
  if constructor in SCHEDULES:
    given += SHAPE_OF_THE_RUN  # Which the run knows.
  if _is_preset(constructor):
    given += SIZES[inspect.signature(constructor).return_annotation]
  return [name for name in _parameters(constructor) if name not in given]


def _parameters(constructor: Callable) -> Mapping[str, inspect.Parameter]:
  """The parameters of a constructor, or of the class that a preset such as `resnet50(**fields)` is of."""
  signature = inspect.signature(constructor)
  return inspect.signature(signature.return_annotation if _is_preset(constructor) else constructor).parameters


def _is_preset(constructor: Callable) -> bool:
  return any(each.kind is each.VAR_KEYWORD for each in inspect.signature(constructor).parameters.values())


def _accumulated(section: Mapping[str, Any], run: Mapping[str, Any]) -> Mapping[str, Any]:
  """The run as an optimizer that accumulates gradients sees it: its learning rate scales with the whole batch."""
  steps = section.get('accumulate_steps')
  return {**run, 'batch_size': run['batch_size'] * steps} if isinstance(steps, int) else run


def _value(path: str, value: Any, run: Mapping[str, Any]) -> Any:
  if isinstance(value, Mapping):
    return construct(path, value, run)
  return tuple(_value(path, each, run) for each in value) if isinstance(value, list | tuple) else value


def _unknown(what: str, name: Any, choices: Iterable[str]) -> str:
  nearest = difflib.get_close_matches(str(name), list(choices), n=3)
  hint = f'; did you mean {" or ".join(map(repr, nearest))}?' if nearest else ''
  return f'{what} cannot be {schema.shown(name)}{hint or "."} The choices are: {", ".join(sorted(choices))}'
