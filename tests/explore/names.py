"""Names for runs and versions: unique, and told from any other text."""

import re
from dataclasses import dataclass
from typing import Final

NAME: Final = re.compile(r"<[\w-]+\.\d+\.\d+>")
"""A name that :class:`Names` gives, wherever it stands in a text."""


@dataclass(slots=True)
class Names:
    """Gives the names of one life of a runner.

    Args:
        life: the runner and its boot id, so that no two lives give one name.
        count: how many names were given so far.
    """

    life: str
    count: int = 0

    def __call__(self) -> str:
        """A name that was never given before."""
        self.count += 1
        return f"<{self.life}.{self.count}>"

    def copy(self) -> "Names":
        """Names that go on as these do, apart from them."""
        return Names(self.life, self.count)
