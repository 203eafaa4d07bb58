"""A training process that fails at once; launched by a test."""

from torch.distributed.elastic.multiprocessing.errors import record

from pipeline.errors import ModelError


@record
def main() -> None:
    raise ModelError("the weights are absent")


if __name__ == "__main__":
    main()
