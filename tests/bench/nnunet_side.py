"""nnU-Net's own loop as a side of a comparison; runs where nnunetv2 is installed, without segflow.

python nnunet_side.py prepare job.json    fingerprint, plan, ours written into it, preprocess
python nnunet_side.py train job.json      steps of nnUNetTrainer on command
"""

import json
import sys
import time
from itertools import pairwise
from pathlib import Path

DATASET = "Dataset001_Bench"
CONFIGURATION = "3d_fullres"


def prepare(job: dict) -> None:
    """Make what nnU-Net trains on, network, patch and batch as the job says."""
    import torch
    from nnunetv2.experiment_planning.plan_and_preprocess_api import (
        extract_fingerprints,
        plan_experiments,
        preprocess,
    )
    from nnunetv2.utilities.get_network_from_plans import get_network_from_plans

    extract_fingerprints([1], num_processes=job["processes"])
    plan_experiments([1])
    path = Path(job["folder"]) / "preprocessed" / DATASET / "nnUNetPlans.json"
    plans = json.loads(path.read_text())
    plans["transpose_forward"] = plans["transpose_backward"] = [0, 1, 2]
    plans["configurations"][CONFIGURATION].update(job["plan"])
    path.write_text(json.dumps(plans))
    preprocess([1], configurations=(CONFIGURATION,), num_processes=(job["processes"],))
    asked = job["plan"]["architecture"]
    network = get_network_from_plans(
        asked["network_class_name"],
        asked["arch_kwargs"],
        asked["_kw_requires_import"],
        job["channels"],
        job["classes"],
        deep_supervision=True,
    )
    print(json.dumps({"parameters": count(network), **versions(), "torch": torch.__version__}))


def count(network: object) -> int:
    """Weights of a network."""
    return sum(p.numel() for p in network.parameters())


def versions() -> dict:
    """Version of nnU-Net."""
    from importlib.metadata import version

    return {"nnunetv2": version("nnunetv2")}


def train(job: dict) -> None:
    """Take steps as ``nnUNetTrainer.run_training`` does, on command."""
    import torch
    from nnunetv2.run.run_training import get_trainer_from_args

    torch.set_num_threads(job["threads"])
    device = torch.device(job["device"])
    trainer = get_trainer_from_args(DATASET, CONFIGURATION, 0, device=device)
    trainer.enable_deep_supervision = job["deep_supervision"]
    trainer.on_train_start()
    trainer.on_train_epoch_start()
    repeated = next(trainer.dataloader_train)
    try:
        for line in sys.stdin:
            order = json.loads(line)
            stamps = [time.perf_counter()]
            for _ in range(order["steps"]):
                real = order["feed"] == "loader"
                trainer.train_step(next(trainer.dataloader_train) if real else repeated)
                stamps.append(time.perf_counter())
            print(json.dumps({"seconds": [b - a for a, b in pairwise(stamps)]}), flush=True)
    finally:
        for loader in (trainer.dataloader_train, trainer.dataloader_val):
            if hasattr(loader, "_finish"):
                loader._finish()


if __name__ == "__main__":
    {"prepare": prepare, "train": train}[sys.argv[1]](json.loads(Path(sys.argv[2]).read_text()))
