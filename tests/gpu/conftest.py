from tests.training.conftest import run

__all__ = ["run"]
