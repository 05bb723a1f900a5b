"""The jobs of the app: each runs once in its period, in one of the project's processes."""

from datetime import timedelta

from django.core.mail import mail_managers

from shop.models import Order
from turnwise import Turn
from turnwise.contrib.django import cron, every


@every("5m")
def expire_orders(turn: Turn) -> None:
    """Close what has been open for a day."""
    Order.objects.filter(is_open=True, placed_at__lt=turn.due - timedelta(days=1)).update(
        is_open=False
    )


@every("30s", timeout="20s")
async def refresh_prices() -> None:
    """A coroutine may ask the database in Django's asynchronous way."""
    await Order.objects.filter(is_open=True).acount()


@cron("0 3 * * *", timezone="Europe/Vienna", start_within="2h")
def nightly_report(turn: Turn) -> None:
    """Once a night."""
    mail_managers("Orders", f"Until {turn.due} there are {Order.objects.count()}.")


@cron("0 6 * * 1")
def weekly_digest() -> None:
    """Once a week."""


@every("1h")
def tidy_up() -> None:
    """Once an hour."""
