from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from rustic_ai.llm_queue.tasks.error_kind import ErrorKind, Next
from rustic_ai.llm_queue.tasks.errors import ErrorEnvelope

#: Rate limits that no wait lifts: the account is out of credit.
_SPENT = frozenset({"insufficient_quota", "billing_hard_limit_reached", "billing_not_active"})

#: A pause is at least this much longer than the one before it, and never shorter than this.
_GROWTH = 1.25
_SHORTEST_S = 0.06
#: Share of a Retry-After added at random, so that calls refused together do not return together.
_SPREAD = 0.1


@dataclass(frozen=True)
class Decision:
    next: Next
    #: Seconds to wait before a retry.
    delay_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Backoff:
    """Pauses that double, fully jittered, in seconds."""

    base_s: float
    cap_s: float

    def pause_s(self, failures: int, previous_s: float, random: Callable[[], float]) -> float:
        """The pause after `failures` failures; `random` is uniform in [0, 1).

        Uniform between 0 and the doubled base, but longer than the pause before: a provider that
        is down should see every client slow down, not one in four speed up.
        """
        # The exponent is bounded because 2.0 ** 1100 does not fit a float.
        ceiling = min(self.cap_s, self.base_s * 2.0 ** min(failures - 1, 60))
        floor = min(max(_SHORTEST_S, previous_s * _GROWTH), self.cap_s)
        return max(floor, ceiling * random())


def decide(
    error: ErrorEnvelope,
    *,
    failures: int,
    max_retries: int,
    more_models: bool,
    remaining_s: float,
    backoff: Backoff,
    random: Callable[[], float],
    previous_pause_s: float = 0.0,
) -> Decision:
    """What follows the `failures`-th failure of a model, `remaining_s` seconds before the deadline."""
    elsewhere = Decision(Next.FALL_BACK if more_models else Next.GIVE_UP)
    by_kind = error.kind.follows
    if by_kind is Next.GIVE_UP:
        return Decision(Next.GIVE_UP)
    spent = error.kind is ErrorKind.RATE_LIMIT and error.code in _SPENT
    if by_kind is Next.FALL_BACK or spent or failures > max_retries:
        return elsewhere
    if error.retry_after_s is not None:
        asked = error.retry_after_s
        if asked >= remaining_s:
            return elsewhere
        pause = max(asked * (1 + _SPREAD * random()), _SHORTEST_S)
        pause = min(pause, max(asked, remaining_s * 0.99))
    else:
        pause = backoff.pause_s(failures, previous_pause_s, random)
    return Decision(Next.RETRY, pause) if pause < remaining_s else elsewhere
