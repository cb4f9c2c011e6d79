"""Packages and interpreters of a run's own: environments that ``uv`` makes, kept and shared between processes."""
