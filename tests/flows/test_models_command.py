import json

from typer.testing import CliRunner

from flows.cli import app
from flows.models_list import choices


def call(*arguments):
    done = CliRunner().invoke(app, ["models", *arguments])
    return done.exit_code, done.stdout if "--json" in arguments else done.output


def test_a_network_is_listed_with_what_was_measured_of_it():
    code, output = call("unet-2015", "--ndim", "2", "--json")
    assert code == 0
    told = json.loads(output)
    (found,) = told["networks"]
    assert (found["name"], found["parameters"]) == ("unet-2015", 31_030_658)
    assert found["total_stride"] == [16, 16]
    assert found["tiles_exactly"] is True
    assert set(told["loss"]) >= {"dice_ce", "ce", "bce", "cldice", "smooth_l1"}


def test_the_table_says_which_tiles_are_blended():
    code, output = call("nnunet", "unet-small")
    assert code == 0
    assert output.count("blended") == 2 and output.count("exactly") == 2
    assert "sgd" in output and "one_cycle" in output
    assert output.strip().endswith("complete: 4 networks; take one with --set plan.network=NAME")


def test_an_unknown_network_is_wrong_usage_and_the_known_ones_are_named():
    code, output = call("resnet34")
    assert code == 2
    assert "resnet34-unet" in output


def test_every_choice_says_what_it_is():
    assert all(len(line) > 15 for kinds in choices().values() for line in kinds.values())
