"""Celery under test, on threads: `work`, `send TOOL COUNT GAP`. Redis: BENCH_REDIS_URL, slots: BENCH_CONCURRENCY."""

import os

import plain
from celery import Celery

app = Celery("bench", broker=os.environ["BENCH_REDIS_URL"].replace("unix://", "redis+socket://"))
app.conf.update(task_ignore_result=True, broker_connection_retry_on_startup=True)
nop = app.task(plain.nop, name="nop")
stamp = app.task(plain.stamp, name="stamp")

if __name__ == "__main__":
    slots = ["--pool", "threads", "--concurrency", os.environ["BENCH_CONCURRENCY"], "--loglevel", "WARNING"]
    plain.run(["celery", "-A", "celery_program", "worker", *slots], nop=nop.delay, stamp=stamp.delay)
