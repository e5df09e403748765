"""Signals that end a process in order: handled in its event loop, and never inherited by what a tool forks.

An event loop learns of a signal through a pipe, to which the signal handler writes. A forked child has the same handler
and the same pipe: without this module a SIGTERM for the child - `Process.terminate`, the end of a `Pool` - would stop
this process, and the child would go on. Programs that are executed (`subprocess`, spawn) inherit neither.
"""

import asyncio
import os
import signal
import threading
from collections.abc import Callable, Iterable

__all__ = ["handle_signal", "keep_signals_from_children"]

_ENDING = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
_kept: dict[signal.Signals, object] = {}
"""Handlers that no child inherits. A handler that a tool installs later is inherited, as in any program."""
_masks = threading.local()
"""Of a thread that forks: the signals that it blocked before."""


def handle_signal(number: signal.Signals, callback: Callable[..., object], *arguments: object) -> None:
    """Call `callback` in the running event loop, of the main thread, when the signal comes to this process."""
    if number is signal.SIGHUP and signal.getsignal(number) is signal.SIG_IGN:
        return  # `nohup` makes the process ignore SIGHUP: keep it so
    asyncio.get_running_loop().add_signal_handler(number, callback, *arguments)
    keep_signals_from_children([number])


def keep_signals_from_children(numbers: Iterable[signal.Signals] = _ENDING) -> None:
    """Make forked children start without the handlers that these signals have now."""
    for number in numbers:
        handler = signal.getsignal(number)
        if callable(handler):
            _kept[number] = handler


def _block_signals() -> None:
    # A signal that comes to the child before its handlers are reset waits until they are.
    _masks.before = signal.pthread_sigmask(signal.SIG_BLOCK, _kept)


def _unblock_signals() -> None:
    signal.pthread_sigmask(signal.SIG_SETMASK, _masks.before)


def _reset_in_child() -> None:
    if _kept:
        signal.set_wakeup_fd(-1)
    reset = [number for number, handler in _kept.items() if signal.getsignal(number) == handler]
    for number in reset:
        signal.signal(number, signal.SIG_DFL)
    _kept.clear()
    # A waiting signal ends the child here. Python's own handler would raise KeyboardInterrupt, which is lost in a hook.
    _unblock_signals()
    if signal.SIGINT in reset:
        signal.signal(signal.SIGINT, signal.default_int_handler)


os.register_at_fork(before=_block_signals, after_in_parent=_unblock_signals, after_in_child=_reset_in_child)
