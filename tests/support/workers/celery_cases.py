"""What operators, Flower and agents rely on, under pytest-celery's setup: on processes and on containers.

A test module subclasses `CeleryCases`; the fixtures in force there decide what the nodes are made of.
"""

import pytest
from pytest_celery import CeleryTestSetup

from rustic_ai.llm_queue.resolver import JobState, QueueLLM, QueueLLMResolver
from rustic_ai.llm_queue.tasks.names import DEFAULT_QUEUE, TASK_NAME
from support.callers.llm import ask
from support.processes.wait import wait_until
from support.providers.provider_client import ProviderClient
from support.providers.provider_plan import Step

#: A lease that runs out soon, so that what a killed worker had is taken over within the test.
QUICK_LEASE = {"LLM_QUEUE_LEASE": "3s", "LLM_QUEUE_BEAT": "600ms", "LLM_QUEUE_REAP_EVERY": "300ms"}


class CeleryCases:
    """The cases."""

    @pytest.fixture
    def agent(self, celery_setup: CeleryTestSetup, monkeypatch: pytest.MonkeyPatch) -> QueueLLM:
        """An agent's LLM on the setup's broker."""
        monkeypatch.setenv("LLM_QUEUE_REDIS_URL", celery_setup.broker.container.celeryconfig["host_url"])
        return QueueLLMResolver(model="openai/gpt-4o-mini", timeout=90).resolve("acme", "support", "helper")

    def test_the_worker_answers_remote_control_with_honest_figures(
        self, celery_setup: CeleryTestSetup
    ) -> None:
        worker = celery_setup.worker
        assert celery_setup.ready(control=True, docker=True)
        inspect = celery_setup.app.control.inspect([worker.hostname()], timeout=5)
        stats = inspect.stats()[worker.hostname()]
        assert "AsyncPool" in stats["pool"]["implementation"]
        assert stats["pool"]["max-concurrency"] == 1_000
        assert stats["pid"] == worker.container.main_pid
        assert TASK_NAME in inspect.registered()[worker.hostname()]
        assert [queue["name"] for queue in inspect.active_queues()[worker.hostname()]] == [DEFAULT_QUEUE]
        assert inspect.active() == {worker.hostname(): []}
        assert worker.get_running_processes_info()

    def test_a_call_is_answered(self, agent: QueueLLM, provider: ProviderClient) -> None:
        provider.plan("q", Step(text="from the worker"))
        response = agent.completion(ask("#q"))
        assert response.choices[0].message.content == "from the worker"
        assert not response.possible_duplicate_charge

    def test_a_killed_worker_comes_back_and_its_call_is_answered(
        self, celery_setup: CeleryTestSetup, agent: QueueLLM, provider: ProviderClient
    ) -> None:
        provider.plan("q", Step(hold=True), Step(text="the second time"))
        job = agent.submit(ask("#q"))
        provider.wait_for_requests(1, "q", timeout_s=40)
        worker = celery_setup.worker
        worker.kill()
        assert worker.container.status == "exited"
        worker.restart()
        response = job.result()
        assert response.choices[0].message.content == "the second time"
        assert response.possible_duplicate_charge
        assert celery_setup.ready(control=True)

    def test_a_call_outlasts_a_restart_of_its_broker(
        self, celery_setup: CeleryTestSetup, agent: QueueLLM, provider: ProviderClient
    ) -> None:
        provider.plan("q", Step(hold=True, text="all the same"))
        job = agent.submit(ask("#q"))
        provider.wait_for_requests(1, "q", timeout_s=40)
        celery_setup.broker.restart()
        ping = celery_setup.app.control.ping
        wait_until(lambda: ping(timeout=2), 40, "the worker to answer through the broker that came back")
        assert job.status() is JobState.RUNNING
        provider.release("q")
        response = job.result()
        assert response.choices[0].message.content == "all the same"
        assert not response.possible_duplicate_charge
        assert len(provider.requests("q")) == 1
