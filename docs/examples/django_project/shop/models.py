"""What the jobs work on."""

from django.db import models


class Order(models.Model):
    """An order, which is open until it is paid or has expired."""

    is_open = models.BooleanField(default=True)
    placed_at = models.DateTimeField(auto_now_add=True)

    def __str__(self) -> str:
        return f"order {self.pk}"
