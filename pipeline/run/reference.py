"""What the cases a model learnt from look like, kept beside the promoted model."""

from __future__ import annotations

from pipeline.drift import Reference
from pipeline.errors import StoreError
from pipeline.io.files import read_json, write_json
from pipeline.io.manifest import read_manifest
from pipeline.model_file import ModelCard
from pipeline.run.folder import RunDir


def reference_of(run: RunDir, card: ModelCard) -> Reference:
    """Figures of the training cases of a promoted model, measured once.

    They are measured when the model is promoted: later the training split holds cases that it has
    not seen.

    Args:
        run: The run's paths.
        card: Of the model.
    """
    path = run.promoted / f"{card.model_id}.reference.json"
    if path.exists():
        try:
            return Reference.from_json(read_json(path))
        except StoreError:  # of an earlier segflow, or damaged: what it was made from is there
            path.unlink()
    rows = read_manifest(run.manifest)
    training = [r for r in rows if r.split == "train" and r.status == "complete"]
    reference = Reference.of([run.volumes / row.store for row in training], card.plan)
    write_json(path, reference.to_json())
    return reference
