"""Pictures and stacks of them: PNG, JPEG and TIFF."""
