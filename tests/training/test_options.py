"""Options: what is validated, where values come from, and that the documentation is up to date."""

from dataclasses import dataclass
from pathlib import Path

import pytest
from helpers import ROOT, load_script
from runs import command_line, error_line

import save_taco_mels
import tacotron2.train
import train
from common.errors import UserError
from common.options import check_options, option
from common.parser import build_parser, select
from tacotron2.config import Tacotron2Config
from text.encoding import INVENTORIES
from train import VocoderOptions


def refused(capsys, parse, arguments: list[str]) -> str:
    with pytest.raises(SystemExit) as stop:
        parse(arguments)
    assert stop.value.code == 2
    return error_line(capsys.readouterr().err)


NUMBERS = ["learning_rate", "lambda_mel", "lr_decay", "beta1", "ema_decay", "lambda_feature_mapping", "fmin"]


@pytest.mark.parametrize("name", NUMBERS)
@pytest.mark.parametrize("value", ["nan", "inf", "-1"])
def test_a_number_that_is_not_finite_or_is_negative_is_refused(tmp_path, capsys, name, value):
    arguments = command_line(tmp_path, tmp_path / "run", **{name: value})
    line = refused(capsys, train.main, arguments)
    assert f"{name} is {float(value)}; it must be" in line


COUNTS = ["batch_size", "checkpoint_steps", "keep_checkpoints", "num_mels", "max_train_steps", "patience"]


@pytest.mark.parametrize("name", COUNTS)
@pytest.mark.parametrize("value", ["0", "-3"])
def test_a_count_below_one_is_refused(tmp_path, capsys, name, value):
    arguments = command_line(tmp_path, tmp_path / "run", **{name: value})
    assert f"{name} is {value}; it must be at least 1" in refused(capsys, train.main, arguments)


def test_the_extremes_of_numbers_are_allowed(tmp_path):
    numbers = {"lr_decay": 1.0, "lambda_mel": 0.0, "beta1": 0.0, "max_train_steps": 1, "num_workers": 0}
    options, _ = train.parse_arguments(command_line(tmp_path, tmp_path / "run", **numbers))
    assert vars(options).items() >= numbers.items()


@pytest.mark.parametrize("name", ["", " ", ".", "..", "/x", "../x", "a/../../x"])
def test_a_run_stays_inside_its_working_directory(tmp_path, capsys, name):
    arguments = command_line(tmp_path, tmp_path / "run", experiment_name=name)
    assert "--experiment_name is" in refused(capsys, train.main, arguments)
    assert not list(tmp_path.iterdir())


def test_a_working_directory_that_is_a_file_is_refused(tmp_path, capsys):
    (tmp_path / "file").write_text("")
    for working_directory in (tmp_path / "file", tmp_path / "file" / "folder"):
        arguments = command_line(tmp_path, tmp_path / "run", working_directory=working_directory)
        assert "is a file; choose another folder" in refused(capsys, train.main, arguments)


def test_save_taco_mels_validates_the_same_way(tmp_path, capsys):
    flags = ["--path_to_manifest", "x", "--path_to_save", "y", "--taco_weights", "z"]
    for name, value in (("batch_size", "0"), ("seed", "-1"), ("num_workers", "-1")):
        line = refused(capsys, save_taco_mels.main, [*flags, f"--{name}", value])
        assert f"--{name} is {value}; it must be at least" in line


@dataclass(frozen=True)
class Kinds:
    """One field of each kind."""

    count: int = option(1, "count", minimum=1, group="run and data")
    share: float = option(0.5, "share", minimum=0, below=1)
    letters: tuple[str, ...] = option(("a",), "letters", choices=("a", "b"))
    pairs: tuple = option(((1, 2), (3, 4)), "pairs")
    path: Path | None = option(None, "path")
    limit: float | None = option(2.0, "limit", above=0)

    def __post_init__(self):
        check_options(self, "--")


def test_the_parser_returns_the_flags_that_were_given_and_no_others():
    parser = build_parser("kinds", "Test.", Kinds)
    assert vars(parser.parse_args([])) == {}
    text = "--count 3 --letters a b --pairs ((5,6),) --path x/y"
    flags = vars(parser.parse_args(text.split()))
    assert Kinds(**select(Kinds, flags)) == Kinds(3, 0.5, ("a", "b"), ((5, 6),), Path("x/y"))


def test_help_shows_the_default_of_every_option_that_has_one():
    help_text = " ".join(build_parser("kinds", "Test.", Kinds).format_help().split())
    for text in ("(default: 1)", "(default: 0.5)", "(default: a)", "((1,2),(3,4))", "--path PATH path"):
        assert text in help_text


@pytest.mark.parametrize(
    "values, message",
    [
        ({"count": 1.5}, "--count is 1.5; this is the wrong type, it must be an integer"),
        ({"count": True}, "--count is True; this is the wrong type"),
        ({"count": None}, "--count is None; this is the wrong type"),
        ({"share": 1.0}, "--share is 1.0; it must be at least 0 and less than 1"),
        ({"letters": ()}, "--letters is empty; it needs at least one value"),
        ({"letters": ("a", "c")}, "each value must be one of a, b"),
        ({"letters": "a"}, "wrong type, it must be a list"),
        ({"limit": 0}, "--limit is 0; it must be positive"),
        ({"limit": float("nan")}, "--limit is nan; it must be a finite number"),
    ],
)
def test_values_are_validated_by_the_kind_of_their_field(values, message):
    with pytest.raises(UserError) as error:
        Kinds(**values)
    assert message in str(error.value)


def test_phonemes_set_the_size_of_the_inventory(tmp_path):
    flags = ["--text_input", "phonemes", "--speakers", "anna", "bert", "--language", "de"]
    flags += command_line(tmp_path, tmp_path / "run")[:8]
    _, config = tacotron2.train.parse_arguments(flags)
    assert config.num_symbols == len(INVENTORIES["phonemes"]) == 184
    assert (config.text_input, config.speakers, config.language) == ("phonemes", ("anna", "bert"), "de")
    assert Tacotron2Config().num_symbols == len(INVENTORIES["characters"])
    assert Tacotron2Config.from_dict(config.to_dict()) == config


def test_the_documentation_of_the_options_is_up_to_date(capsys):
    """If this fails: python dev/write_options.py > docs/configuration.md"""
    load_script("dev/write_options.py").main()
    assert (ROOT / "docs" / "configuration.md").read_text() == capsys.readouterr().out


def test_every_option_has_a_help_text():
    for options_class in (VocoderOptions, Tacotron2Config, save_taco_mels.SaveMelsOptions):
        fields = options_class.__dataclass_fields__.values()
        assert [field.name for field in fields if not field.metadata.get("help")] == []


def test_none_is_a_value_of_options_that_may_be_none_whatever_their_default(tmp_path):
    names = ("fmax", "fmax_loss", "gen_istft_n_fft", "max_train_steps")
    options, config = train.parse_arguments(
        command_line(tmp_path, tmp_path / "run", **dict.fromkeys(names, "none"))
    )
    assert [config.fmax, config.fmax_loss, config.gen_istft_n_fft, options.max_train_steps] == [None] * 4
