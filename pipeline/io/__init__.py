"""What is stored: one reader per format, the Zarr store, the manifest, the ledger."""
