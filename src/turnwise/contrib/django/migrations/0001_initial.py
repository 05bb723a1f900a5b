"""The tables of turnwise, version 1, and what the admin looks at."""

from django.db import migrations, models

from turnwise.contrib.django.tables import Tables


class Migration(migrations.Migration):
    """The first."""

    initial = True
    dependencies = ()
    operations = (
        Tables(version=1),
        migrations.CreateModel(
            name="Service",
            fields=[
                ("name", models.CharField(max_length=255, primary_key=True, serialize=False)),
            ],
            options={"managed": False, "default_permissions": ("view",)},
        ),
    )
