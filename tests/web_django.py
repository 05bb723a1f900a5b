"""Django for tests: set up in this process once, and projects in processes of their own."""

import atexit
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit
from uuid import uuid4

import psycopg
import pymysql

import servers
from live import runs_of
from turnwise.gate import Execution
from turnwise.storages import Storage
from turnwise.storages.opening import open_storage

ROOT = Path(__file__).parents[1]
PROJECT = ROOT / "docs" / "examples" / "django_project"
PATIENCE_SECONDS = 60.0

# One service that is due often, and whose rows say who served what.
_APP = {
    "__init__.py": "",
    "models.py": """
from django.db import models

class Served(models.Model):
    due = models.DateTimeField()
    token = models.BigIntegerField()
    pid = models.BigIntegerField()
    attempt = models.BigIntegerField()

    class Meta:
        app_label = "witness"
""",
    "migrations/__init__.py": "",
    "migrations/0001_initial.py": """
from django.db import migrations, models

class Migration(migrations.Migration):
    initial = True
    operations = [migrations.CreateModel("Served", [
        ("id", models.BigAutoField(primary_key=True)),
        ("due", models.DateTimeField()),
        ("token", models.BigIntegerField()),
        ("pid", models.BigIntegerField()),
        ("attempt", models.BigIntegerField()),
    ])]
""",
    "jobs.py": """
import fcntl, os, time
from pathlib import Path
from django.db import connection, transaction
from turnwise.contrib.django import every
from witness.models import Served

OFTEN = {"spread_margin": "50ms", "heartbeat_timeout": "1200ms", "min_run_margin": "20ms"}

@every("2s", name="housekeeping", **OFTEN)
def housekeeping(turn):
    with Path("lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            Path("overlap").touch()
        if Path("lose").exists():
            Path("lose").rename("lost")
            with connection.cursor() as cursor:
                cursor.execute("SELECT pg_terminate_backend(pg_backend_pid())")
        Served.objects.create(due=turn.due, token=turn.fencing_token, pid=os.getpid(),
                              attempt=turn.attempt)
        time.sleep(0.3)

@every("2s", name="exactly", **OFTEN)
def exactly(turn):
    with transaction.atomic():
        Served.objects.create(due=turn.due, token=0, pid=os.getpid(), attempt=turn.attempt)
        turn.complete(connection)

@every("2s", name="coroutine", **OFTEN)
async def coroutine(turn):
    await Served.objects.acreate(due=turn.due, token=-turn.fencing_token, pid=os.getpid(),
                                 attempt=turn.attempt)
""",
}
_SETTINGS = """
import json, os
from project.settings import *
INSTALLED_APPS = [*INSTALLED_APPS, "witness"]
DATABASES = {"default": json.loads(os.environ["DATABASE"])}
TURNWISE = json.loads(os.environ["TURNWISE"])
"""


def as_django_has_it(url: str) -> dict[str, Any]:
    """A database by its URL, as ``DATABASES`` has it."""
    parts = urlsplit(url)
    query = {name: values[0] for name, values in parse_qs(parts.query).items()}
    backend = {"postgresql": "postgresql", "mariadb": "mysql", "sqlite": "sqlite3"}[parts.scheme]
    if backend == "sqlite3":
        return {"ENGINE": "django.db.backends.sqlite3", "NAME": parts.path[1:]}
    return {
        "ENGINE": f"django.db.backends.{backend}",
        "NAME": parts.path.strip("/"),
        "USER": parts.username or "",
        "PASSWORD": parts.password or "",
        "HOST": query.get("host") or parts.hostname or "",
        "PORT": parts.port or "",
    }


def a_database() -> str:
    """The URL of an empty database of PostgreSQL."""
    name, url = f"django_{uuid4().hex}", servers.postgres().url
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}".encode())
    parts = urlsplit(url)
    return parts._replace(path=f"/{name}").geturl()


class Project:
    """The project of the docs with a service that is due often, in a folder and on a database."""

    def __init__(self, folder: Path, url: str, **turnwise: object) -> None:
        self.folder, self.url, self.port = folder, url, servers.free_port()
        shutil.copytree(PROJECT, folder, dirs_exist_ok=True)
        for name, text in _APP.items():
            path = folder / "witness" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        (folder / "witness_settings.py").write_text(_SETTINGS)
        kept = {name: value for name, value in os.environ.items() if "TURNWISE" not in name}
        self.environment = kept | {
            "PYTHONPATH": os.pathsep.join((str(folder), str(ROOT / "src"))),
            "DJANGO_SETTINGS_MODULE": "witness_settings",
            "DATABASE": json.dumps(as_django_has_it(url)),
            "TURNWISE": json.dumps({"database": "default"} | turnwise),
        }

    def manage(self, *arguments: str) -> "subprocess.CompletedProcess[str]":
        """Run a command of ``manage.py`` to its end."""
        return subprocess.run(
            [sys.executable, "-W", "error", "manage.py", *arguments],
            cwd=self.folder,
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=PATIENCE_SECONDS,
            check=False,
        )

    def migrate(self) -> None:
        done = self.manage("migrate", "--verbosity", "0")
        assert done.returncode == 0, done.stderr

    @contextmanager
    def running(self, *command: str) -> Iterator["subprocess.Popen[bytes]"]:
        """A process of the project's, which is gone afterwards with all that it has started."""
        with (self.folder / "log").open("ab") as log:
            process = subprocess.Popen(
                [sys.executable, *command],
                cwd=self.folder,
                env=self.environment,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
            try:
                yield process
            finally:
                if process.poll() is None:
                    os.killpg(process.pid, signal.SIGKILL)
                process.wait(PATIENCE_SECONDS)

    @property
    def log(self) -> str:
        return (self.folder / "log").read_text()

    @contextmanager
    def storage(self) -> Iterator["Looked"]:
        """The project's storage, once the migrations have made it."""
        with closing(open_storage(self.url, create_tables=False)) as storage:
            yield Looked(storage)

    def get(self, path: str) -> dict[str, object] | None:
        """What a worker answers, None where none does."""
        url = f"http://127.0.0.1:{self.port}{path}"
        try:
            with urllib.request.urlopen(url, timeout=5) as reply:
                return dict(json.load(reply))
        except (urllib.error.URLError, ConnectionError):
            return None

    def served(self) -> list[list[int]]:
        """What the jobs have written: token, pid, attempt; tokens of coroutines are negative."""
        program = (
            "import json, django; django.setup()\n"
            "from witness.models import Served\n"
            "print(json.dumps(list(map(list, Served.objects.order_by('id')"
            ".values_list('token', 'pid', 'attempt')))))"
        )
        done = subprocess.run(
            [sys.executable, "-c", program],
            cwd=self.folder,
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=PATIENCE_SECONDS,
            check=True,
        )
        return [list(map(int, row)) for row in json.loads(done.stdout)]


class Looked:
    """What a project has left in its storage."""

    def __init__(self, storage: Storage) -> None:
        self.storage = storage

    def runs(self, service: str = "housekeeping") -> list[Execution]:
        return runs_of(self.storage, service)

    def completed(self, service: str = "housekeeping") -> list[Execution]:
        return [run for run in self.runs(service) if run.status.value == "completed"]

    def running(self) -> Execution | None:
        return next((run for run in self.runs() if run.ended_at is None), None)

    def runners(self) -> set[str]:
        """The ids of the runners that have not left."""
        return {row.runner_id for row in self.storage.runners("default") if row.left_at is None}


def pid_of(runner_id: str) -> int:
    return int(runner_id.split("-")[-2])


def set_up() -> None:
    """Set Django up in this process, with the project of the docs, on a database of its own."""
    import django  # noqa: PLC0415 (only for who asks)
    from django.conf import settings  # noqa: PLC0415

    if settings.configured:
        return
    sys.path.append(str(PROJECT))
    from project import settings as given  # noqa: PLC0415

    folder = Path(tempfile.mkdtemp(prefix="turnwise-django-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    said = {name: getattr(given, name) for name in dir(given) if name.isupper()}
    said["DATABASES"] = {
        "default": {"ENGINE": "django.db.backends.sqlite3", "NAME": folder / "db.sqlite3"}
    }
    settings.configure(**said)
    pymysql.version_info = (2, 2, 8, "final", 0)  # Django asks for one of mysqlclient's
    pymysql.install_as_MySQLdb()
    django.setup()
    from django.core.management import call_command  # noqa: PLC0415 (now that it is set up)
    from django.test.utils import setup_test_environment  # noqa: PLC0415

    setup_test_environment()
    call_command("migrate", verbosity=0)
