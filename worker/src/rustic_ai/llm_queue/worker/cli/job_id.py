from __future__ import annotations

import click

from rustic_ai.llm_queue.tasks.job import check_job_id


class JobId(click.ParamType[str]):
    """A job's id on a command line."""

    name = "id"

    def convert(self, value: str, param: click.Parameter | None, ctx: click.Context | None) -> str:
        try:
            return check_job_id(value)
        except ValueError as error:
            self.fail(str(error), param, ctx)


JOB_ID = JobId()
