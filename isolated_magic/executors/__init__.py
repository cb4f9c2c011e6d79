"""The strategies, one contract."""
