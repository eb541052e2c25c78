"""Finds, measures and renders benchmark suites; the suites are its siblings."""
