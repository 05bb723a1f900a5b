"""Whatever is read from outside, handed any bytes: an answer that holds, or one clear error.

``targets`` has one function for each thing that is read; it takes bytes and raises what is a
defect. ``python -m fuzz`` lets atheris look for such bytes; ``tests/test_fuzz.py`` hands each a
few fixed ones, so that none can rot.
"""
