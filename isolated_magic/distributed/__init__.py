"""Evaluations on other machines: what travels, what runs there, and engines that carry it (Dask, executors)."""
