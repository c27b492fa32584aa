"""A worker's metrics, as Prometheus reads them."""

import urllib.request
from dataclasses import dataclass

from prometheus_client.parser import text_string_to_metric_families


@dataclass(frozen=True)
class Scrape:
    """One look at a worker's metrics."""

    samples: dict[tuple[str, frozenset[tuple[str, str]]], float]

    @classmethod
    def of(cls, port: int) -> "Scrape":
        """Raises `OSError` when nobody serves there."""
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as reply:
            text = reply.read().decode()
        return cls(
            {
                (sample.name, frozenset(sample.labels.items())): sample.value
                for family in text_string_to_metric_families(text)
                for sample in family.samples
            }
        )

    def value(self, name: str, **labels: str) -> float:
        """The sum of all samples of this name that have these labels; 0 when there is none."""
        wanted = set(labels.items())
        return sum(value for (one, has), value in self.samples.items() if one == name and wanted <= has)

    def labels(self, name: str, label: str) -> set[str]:
        """The values that a label takes."""
        return {dict(has)[label] for one, has in self.samples if one == name and label in dict(has)}

    @property
    def names(self) -> set[str]:
        return {name for name, _ in self.samples}
