"""A provider that costs next to nothing, and what it answers."""

ANSWER = "The capital of Japan is Tokyo, and an answer is rarely longer than this one."
