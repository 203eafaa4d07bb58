"""Volumes of medical imaging: NIfTI, NRRD and MetaImage."""
