"""Benchmarks: ratios of times in one run, and peaks of memory; printed and written as JSON."""
