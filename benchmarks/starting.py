"""One start of a site, from inside: ``python -m benchmarks.starting NAME``. Imports little before that."""

import json
import resource
import sys
import time
from pathlib import Path


def memory() -> float:
    """Give the memory that this process has, in MiB; where the system does not say, the most that it had."""
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
    except OSError:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20  # macOS counts bytes
    return pages * resource.getpagesize() / 2**20


def main(name: str) -> dict[str, float]:
    """
    Start the site *name*.

    Returns:
        For ``setup`` (``django.setup()``) and ``ready`` (that, and then whatever the first request would
        wait for: middleware, URLconf, views) milliseconds, those of the processor, MiB and modules.
    """
    from django.conf import settings

    from benchmarks.sites import catalogue

    database = catalogue.sqlite(":memory:")
    site = catalogue.SITES.get(name)
    settings.configure(
        **catalogue.django_settings(site, issuer="https://provider.example", database=database)
    )
    found: dict[str, float] = {}
    modules, before, wall, cpu = len(sys.modules), memory(), time.perf_counter(), time.process_time()

    def note(moment: str) -> None:
        found[f"{moment}_ms"] = (time.perf_counter() - wall) * 1000
        found[f"{moment}_cpu_ms"] = (time.process_time() - cpu) * 1000
        found[f"{moment}_mib"] = memory() - before
        found[f"{moment}_modules"] = len(sys.modules) - modules

    import django

    django.setup()
    note("setup")
    from django.core.wsgi import get_wsgi_application
    from django.urls import get_resolver

    get_wsgi_application()
    _ = get_resolver().url_patterns
    note("ready")
    return found


if __name__ == "__main__":
    print(json.dumps(main(sys.argv[1])))
