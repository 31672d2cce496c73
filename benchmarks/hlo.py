"""What a compiled program sends between devices, read from its text."""

import collections
import dataclasses
import math
import re
from collections.abc import Iterator

KINDS = ('all-reduce', 'all-gather', 'reduce-scatter', 'collective-permute', 'all-to-all')
BYTES = {'pred': 1, 's8': 1, 'u8': 1, 's16': 2, 'u16': 2, 'bf16': 2, 'f16': 2, 's32': 4, 'u32': 4, 'f32': 4, 's64': 8,
         'u64': 8, 'f64': 8}
_INSTRUCTION = re.compile(r'^\s*(?:ROOT )?%?(?P<name>[\w.-]+) = (?P<shape>\(.*?\)|\S+) (?P<op>[\w-]+)\(')
_CALLED = re.compile(r'(?:to_apply|calls|body|branch_computations)=\{?(%?[\w.-]+(?:, *%?[\w.-]+)*)\}?')
_SHAPE = re.compile(r'(\w+)\[([\d,]*)\]')


@dataclasses.dataclass(frozen=True)
class Collective:
  """Collectives of one kind at one place of the program.

  Attributes:
    kind: one of KINDS.
    payload: bytes of the result on a device, each time.
    times: how often a step does it.
    devices: how many take part in one of its groups.
    name: where it comes from, as JAX names it.
  """

  kind: str
  payload: int
  times: int
  devices: int
  name: str

  @property
  def sent(self) -> float:
    """Bytes that a device sends in a step, by the algorithms that send least: rings for all but the permutation."""
    n = self.devices
    share = {'all-reduce': 2 * (n - 1) / n, 'all-gather': (n - 1) / n, 'reduce-scatter': n - 1,
             'collective-permute': 1, 'all-to-all': (n - 1) / n}[self.kind]
    return self.times * self.payload * (share if n > 1 else 0)


def collectives(text: str, devices: int) -> list[Collective]:
  """Returns the collectives of a compiled program of so many devices; those in a loop as often as it turns."""
  found = []
  for line, times, _ in _instructions(text):
    instruction = _INSTRUCTION.match(line)
    kind = instruction['op'].removesuffix('-start')
    if kind in KINDS:
      label = re.search(r'op_name="([^"]*)"', line)
      found.append(Collective(
          kind, _size(instruction['shape']), times, _group(line, devices), label[1] if label else ''))
  return found


def products(text: str) -> int:
  """Returns the operations of a device in products of matrices, two for each multiplication; those in a loop as often.

  XLA's own count, `cost_analysis`, takes a loop for one turn.
  """
  total = 0
  for line, times, shapes in _instructions(text):
    instruction = _INSTRUCTION.match(line)
    if instruction['op'] != 'dot':
      continue
    left = re.search(r' dot\(%?([\w.-]+)', line)[1]
    contracted = re.search(r'lhs_contracting_dims=\{([\d,]*)\}', line)[1]
    sizes = _dimensions(shapes[left])
    inner = math.prod(sizes[int(axis)] for axis in contracted.split(',') if axis)
    total += 2 * times * inner * math.prod(_dimensions(instruction['shape']))
  return total


def _instructions(text: str) -> Iterator[tuple[str, int, dict[str, str]]]:
  """Yields each instruction that a step executes, how often, and the shapes of what its computation names."""
  bodies, entry = _computations(text)

  def visit(name: str, times: int) -> Iterator[tuple[str, int, dict[str, str]]]:
    lines = [line for line in bodies.get(name, ()) if _INSTRUCTION.match(line)]
    shapes = {_INSTRUCTION.match(line)['name']: _INSTRUCTION.match(line)['shape'] for line in lines}
    for line in lines:
      yield line, times, shapes
      if _INSTRUCTION.match(line)['op'].removesuffix('-start') in KINDS:
        continue  # What it applies is a sum.
      turns = re.search(r'known_trip_count[^\d]*(\d+)', line)
      for called in _CALLED.findall(line):
        for each in called.split(','):
          yield from visit(each.strip().lstrip('%'), times * (int(turns[1]) if turns and 'body=' in line else 1))

  return visit(entry, 1)


def totals(found: list[Collective]) -> dict[str, float]:
  """Returns the bytes that a device sends in a step by each kind."""
  sums: dict[str, float] = collections.defaultdict(float)
  for each in found:
    sums[each.kind] += each.sent
  return dict(sums)


def _computations(text: str) -> tuple[dict[str, list[str]], str]:
  """Returns the lines of every computation by its name, and the name of the entry."""
  bodies: dict[str, list[str]] = {}
  entry, current = '', None
  for line in text.splitlines():
    head = re.match(r'^(ENTRY )?%?([\w.-]+) .*\{\s*$', line)
    if head and not line.startswith(' '):
      current = head[2]
      bodies[current] = []
      entry = current if head[1] else entry
    elif current is not None:
      bodies[current].append(line)
  return bodies, entry


def _size(shape: str) -> int:
  """Returns the bytes of a shape, or of a tuple of them."""
  elements = lambda dims: math.prod(int(n) for n in dims.split(',') if n)
  return sum(BYTES.get(kind, 4) * elements(dims) for kind, dims in _SHAPE.findall(shape))


def _dimensions(shape: str) -> list[int]:
  return [int(n) for n in _SHAPE.search(shape)[2].split(',') if n]


def _group(line: str, devices: int) -> int:
  """Returns how many devices are in one group of a collective."""
  listed = re.search(r'replica_groups=\{\{([\d,]*)\}', line)
  if listed:
    return len(listed[1].split(','))
  iota = re.search(r'replica_groups=\[\d+,(\d+)\]', line)
  if iota:
    return int(iota[1])
  axes = re.search(r'replica_groups=mesh\[(.*?)\][^{]*\{(.*?)\}', line)
  if axes:
    sizes = {name: int(size) for name, size in re.findall(r"'(\w+)'=(\d+)", axes[1])}
    return math.prod(sizes[name] for name in re.findall(r"'(\w+)'", axes[2]))
  return devices
