"""How far the mask of a case is: the pieces left, the ledger, and publishing after the last."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pipeline.io.ledger import Ledger
from pipeline.io.mask_store import MaskSpec, MaskWriter
from pipeline.io.probability_store import ProbabilityWriter, probability_path
from pipeline.io.store import partial_key, published_key
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
    probabilities: bool
    """Whether they are kept beside the mask."""

    @classmethod
    def begin(
        cls,
        case: CaseToPredict,
        spec: MaskSpec,
        pieces: Sequence[Piece],
        record: Ledger,
        channels: tuple[str, ...] | None,
    ) -> CaseWork:
        """Create the mask's store, or go on with the one an earlier try left.

        Args:
            case: The case.
            spec: Its mask.
            pieces: All of it.
            record: What is done of them.
            channels: Of the probabilities that are kept; None: none are.
        """
        work = cls(case, spec.key, {}, record, channels is not None)
        if not all(work._begun(final) for final in work._finals()):
            record.forget()
            MaskWriter.create(case.final, spec)
            if channels is not None:
                ProbabilityWriter.create(probability_path(case.final), spec, channels)
        work.left = {p.unit: p for p in pieces if record.done(p.unit, spec.key) is None}
        work._publish_if_whole()
        return work

    @classmethod
    def is_done(cls, case: CaseToPredict, key: str, probabilities: bool) -> bool:
        """Whether all that is asked for stands for this key."""
        return all(published_key(final) == key for final in cls._stores(case, probabilities))

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

    @staticmethod
    def _stores(case: CaseToPredict, probabilities: bool) -> list[Path]:
        """The stores to make; the mask, which is what a case is known by, is published last."""
        return [*([probability_path(case.final)] if probabilities else []), case.final]

    def _finals(self) -> list[Path]:
        return self._stores(self.case, self.probabilities)

    def _begun(self, final: Path) -> bool:
        """Whether a store can be gone on with: its pieces are where the ledger says they are."""
        if partial_key(final) == self.key:
            return True
        return final != self.case.final and published_key(final) == self.key

    def _publish_if_whole(self) -> None:
        if self.left:
            return
        for final in self._finals():
            if partial_key(final) == self.key:
                writer = MaskWriter if final == self.case.final else ProbabilityWriter
                writer(final).finish()
