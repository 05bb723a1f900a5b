"""What the admin shows. The tables are turnwise's own, and no model writes to them."""

from django.db import models


class Service(models.Model):
    """A job, as the storage knows it; for the admin, and its permission to look."""

    name: "models.CharField[str, str]" = models.CharField(max_length=255, primary_key=True)

    class Meta:
        """There is no such table, and nothing but looking."""

        managed = False
        default_permissions = ("view",)

    def __str__(self) -> str:
        return str(self.name)
