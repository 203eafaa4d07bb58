"""Prefect flows and the command line: the only part of segflow that knows Prefect."""
