"""Hiding secrets in what a run prints, raises and returns."""
