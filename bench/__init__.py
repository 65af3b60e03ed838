"""Measurements with real processes. Nothing here asserts: a row says what was seen."""
