"""turnwise within other programs' frameworks: ASGI, Celery, Django.

Each module needs its framework, which an extra of the same name installs. Nothing else in turnwise
imports them.
"""
