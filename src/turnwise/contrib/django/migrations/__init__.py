"""The migrations that make turnwise's tables."""
