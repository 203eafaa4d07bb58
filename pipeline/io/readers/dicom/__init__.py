"""DICOM: series and files, slice by slice, with nothing of the patient."""
