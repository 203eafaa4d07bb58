"""Several machines train together: here two of them are one."""

import socket
import subprocess
import sys

import pytest
from pydantic import ValidationError

from pipeline.errors import TrainingError
from pipeline.io.files import read_jsonl
from pipeline.training import train
from tests.trained import small_plan
from tests.training.small import places, recipe, tensors

SECOND = """
import sys
from pathlib import Path
from pipeline.training import train
from tests.trained import small_plan
from tests.training.small import places, recipe
card = train(
    small_plan(3),
    recipe(hosts=2, host=1, meet_at=sys.argv[2]),
    **places(Path(sys.argv[1]), "both"),
    progress=lambda *told: print(told[-1]),
)
print(card.model_id)
"""


def free_port():
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{found.getsockname()[1]}"


@pytest.mark.slow
def test_two_machines_learn_what_two_processes_do(run):
    meet_at = free_port()
    command = [sys.executable, "-c", SECOND, str(run), meet_at]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as second:
        settings = recipe(hosts=2, meet_at=meet_at)
        card = train(small_plan(3), settings, **places(run, "both"))
        said, _ = second.communicate(timeout=60)
    assert second.returncode == 0
    assert said.splitlines() == [f"takes part in the training that {meet_at} shows", card.model_id]
    assert (run / "both/bundle").is_dir()
    train(small_plan(3), recipe(processes=2), **places(run, "one"))
    found, expected = (
        [row["loss"] for row in read_jsonl(run / name / "log.jsonl") if row["kind"] == "train"]
        for name in ("both", "one")
    )
    # Alike but for rounding: here a process has all cores, there half of them.
    assert found == pytest.approx(expected, rel=1e-2)
    assert tensors(run / "both/last.pt")["position"] == 8 * 2


def test_a_machine_that_never_comes_ends_the_training_in_a_sentence(run):
    settings = recipe(hosts=2, meet_at=free_port(), timeout_minutes=0.05)
    with pytest.raises(TrainingError, match="no other machine came .*train.host"):
        train(small_plan(3), settings, **places(run))


def test_machines_need_a_place_to_meet_and_numbers_of_their_own():
    with pytest.raises(ValidationError, match="meet_at, as node0:29500"):
        recipe(hosts=2)
    with pytest.raises(ValidationError, match="host 2 is none of 2"):
        recipe(hosts=2, host=2, meet_at="node0:29500")
