"""Runs hypothesis' state machines against real servers."""

from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import RuleBasedStateMachine, run_state_machine_as_test


def run_random_lives(machine: type[RuleBasedStateMachine], lives: int) -> None:
    """Run so many of 40 steps each; the first that breaks a promise is printed step by step."""
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=lives,
            stateful_step_count=40,
            deadline=None,
            suppress_health_check=list(HealthCheck),
            # Shrinking takes longer than reading: the steps are printed.
            phases=[Phase.generate],
            report_multiple_bugs=False,
        ),
    )
