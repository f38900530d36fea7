"""A run as others may read of it."""

from __future__ import annotations

from pathlib import Path

from gan_lab.runs.run import Run


class PublishedRun(Run):
    """A run that tells of an absolute path its last part alone, for the others name persons and machines."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.place = str(Path(*folder.resolve().parts[-3:]))
        environment = (line.partition(" ")[2] for line in super().lines)
        told = [*self.values.values(), *super().words, self.state.get("experiment"), *environment]
        paths = {value for value in told if isinstance(value, str) and Path(value).is_absolute()}
        self._names = {path: Path(path).name for path in sorted(paths, key=len, reverse=True)}
        self.values = {
            key: self._named(value) if isinstance(value, str) else value for key, value in self.values.items()
        }

    def _named(self, text: str) -> str:
        for path, name in self._names.items():
            text = text.replace(path, name)
        return text

    @property
    def words(self) -> list[str]:
        """The last command line."""
        return [self._named(word) for word in super().words]

    @property
    def experiment(self) -> str:
        """Its name."""
        return self._named(super().experiment)

    @property
    def data(self) -> str:
        """The data in words, or their name."""
        return self._named(super().data)

    @property
    def lines(self) -> list[str]:
        """``environment.txt``."""
        return [self._named(line) for line in super().lines]
