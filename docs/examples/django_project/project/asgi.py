"""For uvicorn, whose workers tell of their start and their end."""

import os

from django.core.asgi import get_asgi_application

from turnwise.contrib.asgi import serving
from turnwise.contrib.django import scheduler

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "project.settings")
application = serving(get_asgi_application(), scheduler())
