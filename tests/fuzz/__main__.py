"""Attacks everything that reads foreign bytes, and reports what is wrong.

scripts/fuzz                                   every part, random, a minute or two
scripts/fuzz --part messages --examples 1000000
"""

import argparse
import asyncio
from collections.abc import Callable
from typing import Any

from redis.asyncio import Redis

from tests.fuzz.api_part import attack_api
from tests.fuzz.decoders_part import attack_decoders
from tests.fuzz.foreign_part import attack_foreign
from tests.fuzz.guided_part import attack_guided
from tests.fuzz.messages_part import attack_with_messages
from tests.fuzz.report import Report
from tests.fuzz.stdio_part import attack_stdio
from tests.fuzz.wire_part import attack_wire
from tests.support.redis_server import PrivateRedis

__all__ = ["main"]


def _messages(options: argparse.Namespace) -> Report:
    return attack_with_messages(options.examples or 20_000, is_random=not options.same)


def _foreign(_options: argparse.Namespace) -> Report:
    async def attack() -> Report:
        with PrivateRedis() as server:
            async with Redis.from_url(server.url) as redis:
                return await attack_foreign(redis, server.url)

    return asyncio.run(attack())


def _decoders(options: argparse.Namespace) -> Report:
    return attack_decoders(options.examples or 2000, is_random=not options.same)


def _api(options: argparse.Namespace) -> Report:
    return attack_api(options.examples or 200, is_random=not options.same)


def _wire(options: argparse.Namespace) -> Report:
    return attack_wire(options.examples or 500, is_random=not options.same)


def _guided(options: argparse.Namespace) -> Report:
    return attack_guided(options.examples or 50_000, seconds=options.seconds)


def _stdio(options: argparse.Namespace) -> Report:
    return attack_stdio(options.examples or 2000, is_random=not options.same)


PARTS: dict[str, tuple[Callable[[argparse.Namespace], Any], str]] = {
    "messages": (_messages, "JSON-RPC of both revisions, headers, paths and garbage, to replicas in this process"),
    "wire": (_wire, "odd framing, cut, slow and endless requests to a real replica over a socket"),
    "api": (_api, "schemathesis on the HTTP API's own description, to a real replica"),
    "decoders": (_decoders, "mutated records, feed entries, sealed values, cursors, keys, settings and the like"),
    "stdio": (_stdio, "lines of garbage and hostile messages to `taskmill stdio`"),
    "guided": (_guided, "the same decoders under atheris, which looks for new branches; minutes, and not in CI"),
    "foreign": (_foreign, "every method and route with every id of another caller's, as every caller"),
}
"""Part -> how it is run, and what it attacks with."""


def main() -> int:
    """0: nothing was found; 1: the report says what, and where the input is."""
    parts = "\n".join(f"  {name:10} {about}" for name, (_, about) in PARTS.items())
    parser = argparse.ArgumentParser(
        prog="scripts/fuzz", description=__doc__, epilog=parts, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--part", choices=PARTS, action="append", help="only this one; may be given again")
    parser.add_argument("--examples", type=int, default=None, help="of each part that makes examples")
    parser.add_argument("--seconds", type=int, default=10, help="of each decoder in the part guided, at most")
    parser.add_argument("--same", action="store_true", help="the examples that CI runs, instead of random ones")
    options = parser.parse_args()
    reports = []
    for name in options.part or PARTS:
        reports.append(PARTS[name][0](options))
        print("\n".join(reports[-1].lines()), flush=True)
    faults = sum(len(report.faults) for report in reports)
    print(f"scripts/fuzz: {sum(report.examples for report in reports):,} examples, {faults} faults")
    return bool(faults)


if __name__ == "__main__":
    raise SystemExit(main())
