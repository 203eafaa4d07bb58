"""How far the mask of a case is: the pieces left, the ledger, and publishing after the last."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from pipeline.io.ledger import Ledger
from pipeline.io.mask_store import MaskSpec, MaskWriter
from pipeline.io.store import partial_key
from pipeline.predict.arrangement import CaseToPredict
from pipeline.predict.pieces import Piece
from pipeline.predict.tasks import Labelled


@dataclass
class CaseWork:
    """What is left to do of one mask."""

    case: CaseToPredict
    """The case."""
    key: str
    """The mask's key."""
    left: dict[str, Piece]
    """Pieces to label, by unit."""
    ledger: Ledger
    """Record of the finished ones."""

    @classmethod
    def begin(
        cls, case: CaseToPredict, spec: MaskSpec, pieces: Sequence[Piece], record: Ledger
    ) -> CaseWork:
        """Create the mask's store, or go on with the one an earlier try left."""
        if partial_key(case.final) != spec.key:
            record.forget()
            MaskWriter.create(case.final, spec)
        left = {p.unit: p for p in pieces if record.done(p.unit, spec.key) is None}
        work = cls(case, spec.key, left, record)
        work._publish_if_whole()
        return work

    def done(self, row: Labelled) -> None:
        """Take note of a written piece; publish the mask after its last."""
        self.ledger.record(row.unit, self.key, {"state": row.state, "seconds": row.seconds})
        del self.left[row.unit]
        self._publish_if_whole()

    def note(self, row: Labelled) -> str:
        """What to tell of a piece."""
        if row.error is not None:
            return f"{self.case.case}: quarantined, {row.error.reason}"
        return self.case.case

    def _publish_if_whole(self) -> None:
        if not self.left:
            MaskWriter(self.case.final).finish()
