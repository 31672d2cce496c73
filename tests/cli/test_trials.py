"""What a sweep tries: values from the command line, combinations, draws, names."""

import os
import pathlib
import re
import sys

import pytest
from absl import flags

sys.path.insert(0, os.path.dirname(__file__))

from jaxssl.cli import trials

FILE = str(pathlib.Path(__file__).with_name('tiny_config.py'))


@pytest.mark.parametrize('text, values', [
    ('0.1,0.2', ['0.1', '0.2']),
    ('(8,16),(16,(1,2)),[3,4]', ['(8,16)', '(16,(1,2))', '[3,4]']),
    ("'h,z',z,\"a'b\"", ['h,z', 'z', "a'b"]),
    ("('a)','b'),('c',)", ["('a)','b')", "('c',)"]),
    ("{'name':'mlp','features':(1,2)},{}", ["{'name':'mlp','features':(1,2)}", '{}']),
    ("it's,here", ["it's", 'here']),
    ('', ['']),
    ('one', ['one']),
])
def test_commas_within_brackets_and_quotes_belong_to_a_value(text, values):
  assert trials.split(text) == values


def test_all_combinations_each_once():
  made = trials.plan(FILE, {'steps': 4}, {'method.temperature': '0.1,0.2,0.10', 'method.encoder.widths': '(8,),(8,16)'})
  assert [trial.values for trial in made] == [
      {'method.temperature': temperature, 'method.encoder.widths': widths}
      for temperature in (0.1, 0.2) for widths in ((8,), (8, 16))]
  assert all(trial.config.steps == 4 and trial.config.method.temperature == trial.values['method.temperature']
             for trial in made)
  assert made[1].overrides == (
      '--config.steps=4', '--config.method.temperature=0.1', '--config.method.encoder.widths=(8,16)')
  assert made[1].name == f'encoder.widths=8_16,method.temperature=0.1-{made[1].identity}'
  assert len({trial.identity for trial in made}) == 4


def test_a_trial_is_the_same_however_it_is_written():
  swept = {'method.temperature': '0.2', 'seed': '3'}
  (first,) = trials.plan(FILE, {}, swept)
  (other,) = trials.plan(FILE, {'evaluation.knn.k': 7, 'logging.every': 1}, {'seed': '3', 'method.temperature': '2e-1'})
  (fewer,) = trials.plan(FILE, {}, {'seed': '3'})  # The temperature is the base config's.
  assert first.identity == other.identity == fewer.identity and first.name == other.name
  assert trials.plan(FILE, {'steps': 13}, swept)[0].identity != first.identity


def test_a_section_can_be_swept():
  made = trials.plan(FILE, {}, {'method.head': "{'name':'mlp','features':(8,8)},{'name':'mlp','features':(16,8)}"})
  assert [trial.config.method.head.features for trial in made] == [(8, 8), (16, 8)]
  assert made[1].values == {'method.head': {'name': 'mlp', 'features': (16, 8)}}


@pytest.mark.parametrize('value', ['../../etc', '/tmp/x', 'a b\nc', 'ünï', '..', '-', '', 'x' * 300, '$(rm)', "a'b;c"])
def test_names_are_plain_file_names(value):
  (trial,) = trials.plan(FILE, {}, {'init_from': f'"{value}"' if "'" in value else f"'{value}'"})
  assert trial.values == {'init_from': value}
  assert re.fullmatch(r'init_from=[A-Za-z0-9_.+-]*-[0-9a-f]{8}', trial.name) and len(trial.name) < 100


SWEPT = {'method.temperature': 'log:0.01:1', 'batch_size': 'uniform:8:11', 'method.optimizer.momentum': '0.5,0.9'}


def values(draws, seed=0, **swept):
  return [trial.values for trial in trials.plan(FILE, {}, {**SWEPT, **swept}, draws, seed)]


def test_draws_are_in_range_and_come_again():
  made = values(60)
  assert made == values(60) != values(60, seed=1)
  assert made[:20] == values(20), 'more draws begin with the same ones'
  assert values(20) == [
      {key: trial.values[key] for key in SWEPT}
      for trial in trials.plan(FILE, {}, dict(reversed(SWEPT.items())), 20)], 'in whatever order they are given'
  temperatures = sorted(each['method.temperature'] for each in made)
  assert 0.01 <= temperatures[0] < 0.03 and 0.4 < temperatures[-1] <= 1
  assert 0.05 < temperatures[30] < 0.2, 'the middle of a logarithmic range is its geometric mean'
  assert all(float(f'{each:.3g}') == each for each in temperatures)
  assert {each['batch_size'] for each in made} == {8, 9, 10, 11}, 'both ends included'
  assert {each['method.optimizer.momentum'] for each in made} == {0.5, 0.9}


def test_whole_numbers_by_their_logarithm():
  drawn = [trial.values['batch_size'] for trial in trials.plan(FILE, {}, {'batch_size': 'log:2:512'}, 100)]
  assert min(drawn) == 2 and max(drawn) > 200 and all(type(each) is int for each in drawn)
  assert 16 < sorted(drawn)[len(drawn) // 2] < 64


def test_draws_that_repeat_are_one_trial():
  assert len(trials.plan(FILE, {}, {'method.optimizer.momentum': '0.5,0.9'}, 20)) == 2


@pytest.mark.parametrize('key, text, message', [
    ('evaluation.knn.k', '1,2', r'--sweep.evaluation.knn.k: trials are compared on the same data and by the same'),
    ('logging.every', '1,2', 'trials are compared'),
    ('data.name', 'omniglot,omniglot_unseen', 'trials are compared on the same data'),
    ('data', '{}', 'trials are compared on the same data'),
    ('steps', '1,2', '--sweep.steps and --config.steps: a key is either swept or set'),
    ('method.temperature', 'log:0.1:1', r'--sweep.method.temperature=log:0.1:1: a range has no grid; add --trials=N'),
    ('method.temperature', 'log:0:1', 'a range is uniform:LOW:HIGH or log:LOW:HIGH, of numbers, where LOW is less'),
    ('method.temperature', 'uniform:2:1', 'LOW is less than HIGH'),
    ('method.temperature', 'uniform:1', 'a range is'),
    ('method.temperature', 'uniform:0:inf', 'a range is'),
    ('method.temperature', 'normal:0:1', 'a range is'),
    ('batch_size', 'uniform:1:2.5', 'of whole numbers'),
])
def test_what_cannot_be_swept_is_refused(key, text, message):
  with pytest.raises(ValueError, match=message):
    trials.plan(FILE, {'steps': 4}, {key: text})


@pytest.mark.parametrize('key, text, error', [
    ('method.temprature', '0.1', AttributeError), ('batch_size', '8,x', flags.Error), ('batch_size', '8,', flags.Error),
    ('method.temperature', '', flags.Error), ('method.encoder', 'resnet18', flags.Error)])
def test_keys_and_values_are_those_of_the_train_command(key, text, error):
  with pytest.raises(error):
    trials.plan(FILE, {}, {key: text})
