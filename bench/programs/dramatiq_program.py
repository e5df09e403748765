"""dramatiq under test: `work`, `send TOOL COUNT GAP`. Redis: BENCH_REDIS_URL, slots (threads): BENCH_CONCURRENCY."""

import os

import dramatiq
import plain
from dramatiq.brokers.redis import RedisBroker

dramatiq.set_broker(RedisBroker(url=os.environ["BENCH_REDIS_URL"]))
nop = dramatiq.actor(plain.nop, actor_name="nop")
stamp = dramatiq.actor(plain.stamp, actor_name="stamp")

if __name__ == "__main__":
    slots = ["--processes", "1", "--threads", os.environ["BENCH_CONCURRENCY"]]
    plain.run(["dramatiq", "dramatiq_program", *slots], nop=nop.send, stamp=stamp.send)
