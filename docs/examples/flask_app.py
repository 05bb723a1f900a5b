"""A Flask program with housekeeping: in one of its workers at a time.

TURNWISE_STORAGE=sqlite:///turns.db gunicorn --config flask_conf.py flask_app:app
"""

from flask import Flask

from turnwise import Scheduler, Turn

app = Flask(__name__)
scheduler = Scheduler()  # on the storage that TURNWISE_STORAGE names


@scheduler.every("5m")
def tidy_up(turn: Turn) -> None:
    """The housekeeping: in a thread of its own, within the application's context."""
    with app.app_context():
        app.logger.info("tidying up what was due at %s", turn.due)


@app.get("/who")
def who() -> dict[str, str]:
    """Which worker answers; its runner id is in the history of the turns."""
    return {"runner": scheduler.runner_id}


@app.get("/health")
def health() -> dict[str, bool]:
    """For a probe: whether the scheduler runs, its storage answers, and no turn is lost."""
    return {"is_well": scheduler.health().is_well}
