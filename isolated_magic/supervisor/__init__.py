"""One live child, from its launch to its RunResult."""
