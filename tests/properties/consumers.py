"""Processes of a site that use up states together, for test_once.py: a program without threads, to fork."""

import json
import multiprocessing
import os
import sys
from typing import Any

import django
from django.conf import settings


def consume(states: list[str], together: Any, results: Any) -> None:
    """Use up *states* in their order, beginning when all are ready; tell which ones this process got."""
    from spatio_django.models import ConsumedState

    assert not ConsumedState.objects.exists()  # and so there is a connection
    together.wait()
    results.put([state for state in states if ConsumedState.consume(state, lifetime=60)])


def main(database: str, processes: int, states: list[str]) -> list[list[str]]:
    """Give what each process got."""
    settings.DATABASES["default"]["NAME"] = database
    django.setup()
    context = multiprocessing.get_context("fork")
    together, results = context.Barrier(processes, timeout=30), context.Queue()
    for _ in range(processes):
        context.Process(target=consume, args=(states, together, results)).start()
    return [results.get(timeout=60) for _ in range(processes)]


if __name__ == "__main__":
    os.environ["DJANGO_SETTINGS_MODULE"] = "tests.settings"
    json.dump(main(**json.load(sys.stdin)), sys.stdout)
