"""The admin: each job with its state, and a verdict for each period that was due. To look at only.

Whoever may view ``turnwise.service`` sees it. A page opens the storage for itself, and asks it as
``turnwise status`` and ``turnwise audit`` do.
"""

import os
from contextlib import closing
from datetime import timedelta
from typing import TYPE_CHECKING, Any, NamedTuple

from django.contrib import admin
from django.contrib.admin.utils import quote, unquote
from django.core.exceptions import PermissionDenied
from django.http import Http404, HttpRequest, HttpResponseBase, HttpResponseNotAllowed
from django.template.response import TemplateResponse
from django.urls import URLPattern, path, reverse

from turnwise import open_storage
from turnwise.audit import Judged, Verdict
from turnwise.contrib.django.configuration import configuration
from turnwise.contrib.django.databases import open_database
from turnwise.contrib.django.models import Service
from turnwise.cycles import microseconds
from turnwise.errors import StorageError
from turnwise.overview import words
from turnwise.overview.known import Known, read_group
from turnwise.overview.shown import cut
from turnwise.overview.verdicts import audited, of_period
from turnwise.storages import Storage

if TYPE_CHECKING:
    _Admin = admin.ModelAdmin[Service]
else:
    _Admin = admin.ModelAdmin

_SINCE = {"1d": timedelta(days=1), "7d": timedelta(days=7), "30d": timedelta(days=30)}
_MOST_PERIODS = 500


class _Line(NamedTuple):
    """A job in the list of them."""

    name: str
    url: str
    schedule: str
    state: str
    last_success: str
    runners: int


class _Row(NamedTuple):
    """A period and what became of it."""

    due: str
    verdict: str
    is_bad: bool
    late: str
    what: str


@admin.register(Service)
class ServiceAdmin(_Admin):
    """Shows the jobs; nothing can be added, changed or deleted here."""

    def get_urls(self) -> list[URLPattern]:
        """The two pages, and no form that could change anything."""
        view, name = self.admin_site.admin_view, "turnwise_service"
        return [
            path("", view(self.changelist_view), name=f"{name}_changelist"),
            path("<path:object_id>/change/", view(self.change_view), name=f"{name}_change"),
        ]

    def has_add_permission(self, request: HttpRequest) -> bool:
        """Nobody: a job is added by a program."""
        del request
        return False

    def has_change_permission(self, request: HttpRequest, obj: Service | None = None) -> bool:
        """Nobody."""
        del request, obj
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Service | None = None) -> bool:
        """Nobody."""
        del request, obj
        return False

    def changelist_view(
        self, request: HttpRequest, extra_context: dict[str, Any] | None = None
    ) -> Any:
        """All jobs of the group, each in a line."""
        del extra_context
        return self._page(request, "list", "Jobs", _list)

    def change_view(
        self,
        request: HttpRequest,
        object_id: str,
        form_url: str = "",
        extra_context: dict[str, Any] | None = None,
    ) -> Any:
        """One job, with a verdict for each period that was due."""
        del form_url, extra_context
        name = unquote(object_id)
        since = request.GET.get("since", "7d")
        if since not in _SINCE:
            since = "7d"

        def shown(storage: Storage, group: str) -> dict[str, object]:
            return _service(storage, group, name, since)

        return self._page(request, "service", name, shown)

    def _page(
        self, request: HttpRequest, template: str, title: str, shown: Any
    ) -> HttpResponseBase:
        if request.method not in {"GET", "HEAD"}:
            return HttpResponseNotAllowed(["GET", "HEAD"])
        if not self.has_view_permission(request):
            raise PermissionDenied
        context: dict[str, object] = {
            **self.admin_site.each_context(request),
            "title": title,
            "opts": self.opts,
        }
        try:
            storage, group = _opened()
            with closing(storage):
                context |= {"group": group, **shown(storage, group)}
        except StorageError as error:
            context |= {"error": str(error)}
        return TemplateResponse(request, f"admin/turnwise/service/{template}.html", context)


def _opened() -> tuple[Storage, str]:
    said = configuration()
    group = said.group or os.environ.get("TURNWISE_GROUP") or "default"
    if said.database is not None:
        return open_database(said.database), group
    return open_storage(said.storage, create_tables=False), group


def _list(storage: Storage, group: str) -> dict[str, object]:
    return {"lines": [_line(each) for each in read_group(storage, group).services]}


def _line(known: Known) -> _Line:
    return _Line(
        name=cut(known.name, 200),
        url=reverse("admin:turnwise_service_change", args=[quote(known.name)]),
        schedule="" if known.planner is None else words.schedule(known),
        state=words.state(known),
        last_success=words.last_success(known),
        runners=len(known.may_serve),
    )


def _service(storage: Storage, group: str, name: str, since: str) -> dict[str, object]:
    if name not in storage.services(group):
        raise Http404
    [known] = read_group(storage, group, (name,)).services
    found = audited(storage, known, known.now - microseconds(_SINCE[since]))
    return {
        "line": _line(known),
        "choices": list(_SINCE),
        "since": since,
        "totals": {str(verdict): count for verdict, count in found.totals.items() if count},
        "served_twice": found.served_twice,
        "is_well": found.is_well,
        "rows": [_row(each) for each in reversed(found.periods[-_MOST_PERIODS:])],
        "left_out": max(0, len(found.periods) - _MOST_PERIODS),
    }


def _row(judged: Judged) -> _Row:
    twice = judged.verdict is Verdict.SERVED and judged.times > 1
    return _Row(
        due=words.second(judged.due),
        verdict="served twice" if twice else str(judged.verdict),
        is_bad=judged.is_bad,
        late="" if judged.late is None else words.lasting(judged.late),
        what=of_period(judged),
    )
