"""For uvicorn, each of whose workers loads this file for itself."""

import os

from django.core.asgi import get_asgi_application

from turnwise.contrib.django import start

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "project.settings")
application = get_asgi_application()
start()
