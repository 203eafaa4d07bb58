import pytest

from tests.training.small import cut


@pytest.fixture
def run(make_msd, take_in, tmp_path):
    """Five ingested volumes and their patches."""
    take_in(make_msd(tmp_path / "data", cases=5, shape=(20, 24, 22)), tmp_path)
    cut(tmp_path)
    return tmp_path
