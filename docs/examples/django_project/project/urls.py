"""The project's pages."""

from django.contrib import admin
from django.http import HttpRequest, JsonResponse
from django.urls import path

from turnwise.contrib.django import scheduler


def who(request: HttpRequest) -> JsonResponse:
    """Which worker answers; its runner id is in the history of the turns."""
    del request
    return JsonResponse({"runner": scheduler().runner_id})


def health(request: HttpRequest) -> JsonResponse:
    """For a probe: whether the scheduler runs, its storage answers, and no turn is lost."""
    del request
    return JsonResponse({"is_well": scheduler().health().is_well})


urlpatterns = [path("admin/", admin.site.urls), path("who", who), path("health", health)]
