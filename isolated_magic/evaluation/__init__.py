"""A whole dataset scored: its rows, their results, and what they say together."""
