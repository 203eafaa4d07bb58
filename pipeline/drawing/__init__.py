"""Planes of images and masks as pictures, for reports and exports."""
