from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

REMOVED = "[removed]"
LONGEST_MESSAGE = 2_000

#: Shorter values match ordinary words too often to be taken out wherever they stand.
_SHORTEST_SECRET = 8
_SHORTEST_PART = 16
_SEPARATORS = re.compile(r"[\s,;:]+")
_SECRET_NAME = re.compile(r"KEY|TOKEN|SECRET|PASSW|CREDENTIAL", re.IGNORECASE)
_KEPT = rf"\1{REMOVED}"
#: What providers' keys look like, also in the shortened form in which they echo one.
_PATTERNS: tuple[tuple[re.Pattern[str], str], ...] = (
    (re.compile(r"(?i)\b(bearer|basic)\s+[\w.~+/=-]{6,}"), rf"\1 {REMOVED}"),
    (re.compile(r"\b(?:sk|pk|rk|gsk|xai|hf|nvapi|pplx|r8|tgp|key|fw)[-_][\w*.-]{6,}"), REMOVED),
    (re.compile(r"\bAIza[\w-]{10,}"), REMOVED),
    (re.compile(r"\b(?:AKIA|ASIA)[A-Z0-9]{12,}"), REMOVED),
    (re.compile(r"\bya29\.[\w.-]+"), REMOVED),
    # A whole run of such characters at once: looked at from each place where a token may begin, a long
    # one would take quadratic time.
    (re.compile(r"(?<![\w-])(?=[\w-]*(?<!\w)eyJ[\w-]{8})[\w-]++\.[\w-]+(?:\.[\w-]*)?"), REMOVED),
    (re.compile(r"(?i)([?&](?:api[-_]?key|key|token|access_token|sig|signature|(?:sentinel_)?password)=)"
                r"[^&\s\"']+"), _KEPT),
    (re.compile(r"(?i)(\b(?:api[-_ ]?key|authorization|access[-_]token)[\"']?\s*[:=]\s*[\"']?)"
                r"(?!\[removed\])[\w.~+/*=-]{6,}"), _KEPT),
    (re.compile(r"(?<=://)[^/\s@\"']+@"), f"{REMOVED}@"),
)  # fmt: skip


class Scrubber:
    """Takes keys out of text: those known by value, and what has the shape of one.

    It knows nothing of prompts: what a provider says may echo one, so a scrubbed message may be
    sealed and sent to its owner, but never logged.
    """

    def __init__(self, secrets: Iterable[str] = ()) -> None:
        # Longest first, or a secret that begins with another would leave its tail behind.
        self._secrets = sorted({s for s in secrets if len(s) >= _SHORTEST_SECRET}, key=len, reverse=True)

    @classmethod
    def of_environment(cls, environment: Mapping[str, str]) -> Scrubber:
        """A scrubber of every value whose variable is named like a secret, and of each in a list of them."""
        values = [value for name, value in environment.items() if _SECRET_NAME.search(name)]
        parts = [part for value in values for part in _SEPARATORS.split(value) if len(part) >= _SHORTEST_PART]
        return cls([*values, *parts])

    def knowing(self, secrets: Iterable[str]) -> Scrubber:
        """This scrubber, with more secrets."""
        return Scrubber([*self._secrets, *secrets])

    def scrub(self, text: str, limit: int = LONGEST_MESSAGE) -> str:
        """`text` without keys, of at most `limit` characters."""
        # Cut with a margin first: a pattern over a body of megabytes would hold up the loop.
        text = text[: limit * 2]
        for secret in self._secrets:
            text = text.replace(secret, REMOVED)
        for pattern, replacement in _PATTERNS:
            text = pattern.sub(replacement, text)
        return text if len(text) <= limit else f"{text[: limit - 1]}…"
