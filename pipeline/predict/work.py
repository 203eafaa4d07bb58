"""How far the mask of a case is: the pieces left, the ledger, and publishing after the last."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from pipeline.errors import CaseError
from pipeline.io.companion_store import CompanionWriter
from pipeline.io.ledger import FAILED, Ledger
from pipeline.io.mask_store import MaskWriter
from pipeline.io.store import partial_key, published_key
from pipeline.predict.pieces import Piece, Wanted
from pipeline.predict.tasks import Labelled


@dataclass
class CaseWork:
    """What is left to do of one mask."""

    wanted: Wanted
    """All there is to do."""
    ledger: Ledger
    """Record of what is finished."""
    left: dict[str, Piece]
    """Pieces to label, by unit."""
    unpainted: dict[str, Piece]
    """Pieces of a draft to paint, by unit."""

    @classmethod
    def begin(cls, wanted: Wanted, record: Ledger) -> CaseWork:
        """Create the mask's store, or go on with the one an earlier try left."""
        work = cls(wanted, record, {}, {})
        work._look()
        if not work._begun:
            record.forget()
            final, spec = work.final, wanted.spec
            for companion in wanted.companions:
                CompanionWriter.create(companion, companion.path(final), spec)
            MaskWriter.create(final, spec, draft=wanted.drafted)
            work._look()
        work._publish_if_whole()
        return work

    @property
    def final(self) -> Path:
        """The mask store."""
        return self.wanted.case.final

    @property
    def case(self) -> str:
        """Its name."""
        return self.wanted.case.case

    @property
    def left_to_tell(self) -> int:
        """Rows that are still to come."""
        searched = len(self.wanted.pieces) if self.unpainted else 0
        return len(self.left) + searched + len(self.unpainted)

    def done(self, row: Labelled) -> None:
        """Take note of a labelled piece; publish the mask after its last."""
        self._record(self._labelled(row.unit), {"state": row.state, "seconds": row.seconds})
        del self.left[row.unit]
        self._publish_if_whole()

    def failed(self, row: Labelled, error: CaseError) -> None:
        """Take note of a piece that could not be labelled; it is tried again by the next run."""
        said = {"state": FAILED, "reason": error.reason, "remedy": error.remedy}
        self._record(self._labelled(row.unit), said)

    def painted(self, unit: str) -> None:
        """Take note of a painted piece, likewise."""
        self._record(unit, {"state": "done"})
        del self.unpainted[unit]
        self._publish_if_whole()

    def _look(self) -> None:
        """Look up in the ledger what is left."""
        pieces = self.wanted.pieces
        self.left = {p.unit: p for p in pieces if not self._recorded(self._labelled(p.unit))}
        if self.wanted.drafted:
            painted = {_painted(p.unit): p for p in pieces}
            self.unpainted = {u: p for u, p in painted.items() if not self._recorded(u)}

    @property
    def _begun(self) -> bool:
        """Whether stores can be gone on with: what is recorded is in them, the rest has room."""
        key, whole = self.wanted.spec.key, not self.left and not self.unpainted
        others = [companion.path(self.final) for companion in self.wanted.companions]
        if partial_key(self.final) != key:
            return False
        # The mask is published last; and its draft goes when all is painted.
        if not whole and MaskWriter(self.final).has_draft != self.wanted.drafted:
            return False
        return all(
            partial_key(other) == key or (whole and published_key(other) == key) for other in others
        )

    def _labelled(self, unit: str) -> str:
        """A piece's name in the ledger when it is labelled: in a draft, or in the mask."""
        return f"draft {unit}" if self.wanted.drafted else unit

    def _recorded(self, unit: str) -> bool:
        return self.ledger.done(unit, self.wanted.spec.key) is not None

    def _record(self, unit: str, row: Mapping[str, object]) -> None:
        self.ledger.record(unit, self.wanted.spec.key, row)

    def _publish_if_whole(self) -> None:
        if self.left or self.unpainted:
            return
        if published_key(self.wanted.case.store) != self.wanted.spec.provenance["volume"]:
            self.ledger.forget()  # of which voxels its pieces are, nobody knows
            raise CaseError(
                "its volume store was rewritten while it was predicted.",
                "Run the same command again; runs that share ingest.store should not meet.",
            )
        for companion in self.wanted.companions:
            path = companion.path(self.final)
            if partial_key(path) == self.wanted.spec.key:
                CompanionWriter(companion, path).finish()
        MaskWriter(self.final).finish()


def _painted(unit: str) -> str:
    """A piece's name in the ledger when it is painted."""
    return f"painted {unit}"
