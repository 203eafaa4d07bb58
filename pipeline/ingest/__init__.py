"""Source files → volume stores, one task per case."""

from pipeline.ingest.checking import check
from pipeline.ingest.ingest import STAGE, ingest, ingest_images
from pipeline.ingest.settings import IngestSettings

__all__ = ["STAGE", "IngestSettings", "check", "ingest", "ingest_images"]
