"""From a RunResult to what a reader sees. Pure functions; nothing here prints."""
