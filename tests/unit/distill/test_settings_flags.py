"""Flags come from the settings: types, defaults, closed lists, and a word on every one."""

from argparse import ArgumentParser
from dataclasses import dataclass, fields

import pytest

from distill.losses import LossWeights
from distill.settings_flags import add_flags, from_flags, knob
from distill.teacher.tune import TuneSettings
from distill.train_settings import TrainSettings


@dataclass(frozen=True, slots=True)
class Oven:
    fuel: str = knob(help="what it burns", choices=("gas", "wood"))
    heat_share: float = knob(0.5, help="of 100 % of what it can")
    fan: bool = knob(False, help="blows")


def parser():
    made = ArgumentParser(prog="oven")
    add_flags(made, Oven, fuel="gas")
    return made


def test_flags_make_the_settings():
    assert from_flags(Oven, parser().parse_args([])) == Oven("gas")
    assert from_flags(Oven, parser().parse_args(["--heat-share", "0.7", "--fan", "--fuel", "wood"])) == Oven("wood", 0.7, True)


def test_help_says_what_a_flag_means_and_what_it_is_by_default():
    text = " ".join(parser().format_help().split())
    for line in ("--fuel {gas,wood} what it burns (default: gas)", "of 100 % of what it can (default: 0.5)", "blows"):
        assert line in text


def test_a_value_outside_a_closed_list_is_refused(capsys):
    with pytest.raises(SystemExit):
        parser().parse_args(["--fuel", "coal"])
    assert "invalid choice: 'coal'" in capsys.readouterr().err


@pytest.mark.parametrize("settings", [TrainSettings, TuneSettings, LossWeights])
def test_every_knob_of_a_verb_says_what_it_is(settings):
    assert all(len(field.metadata["help"]) > 5 for field in fields(settings))
