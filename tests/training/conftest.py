import json

import pytest

from pipeline.training.loop import train_rank
from pipeline.training.rank import task_from_json
from tests.training.small import ALONE, CPU, cut


@pytest.fixture
def run(make_msd, take_in, tmp_path):
    """Five ingested volumes and their patches."""
    take_in(make_msd(tmp_path / "data", cases=5, shape=(20, 24, 22)), tmp_path)
    cut(tmp_path)
    return tmp_path


@pytest.fixture
def in_this_process(monkeypatch):
    """The stage trains in the tests' own process: to start one takes longer than what it does."""

    def work(module, job, processes, hear, timeout_minutes, hosts):
        assert (module, processes, hosts.count) == ("pipeline.training.rank", 1, 1)
        train_rank(task_from_json(json.loads(json.dumps(job))), ALONE, CPU)
        hear({"event": "step", "step": 1, "total": 1, "loss": 1, "patches_per_s": 1, "left_s": 0})

    monkeypatch.setattr("pipeline.training.network_training.launch", work)
