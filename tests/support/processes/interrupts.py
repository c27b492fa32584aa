"""Ctrl-C in tests, however the suite itself was started."""

import signal


def heed_interrupts() -> None:
    """Take SIGINT again where this process was started with it ignored, as `nohup` and a shell's `&` do:
    it would be ignored by every child, too."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
