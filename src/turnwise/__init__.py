"""Placeholder until the face is built."""
