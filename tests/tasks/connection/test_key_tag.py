"""The hash tag before keys: which words of a command are keys, and that nothing changes without a tag."""

from collections.abc import Iterable

import pytest
import redis
from redis.asyncio.connection import Connection

from rustic_ai.llm_queue.tasks.connection.key_tag import FENCE, hash_tag, tagged, tagged_command
from rustic_ai.llm_queue.tasks.connection.redis_client import connect
from rustic_ai.llm_queue.tasks.ledger.functions.library import library_source
from rustic_ai.llm_queue.tasks.settings import QueueSettings, SettingsError
from rustic_ai.llm_queue.worker.doctor import rights
from support.servers.valkey import ValkeyServer

PREFIX = "{llmq}"
#: Beside all that doctor tries of the workers' rights.
MORE = (
    ("DEL", "a", "b"),
    ("EXISTS", "a", "b"),
    ("WATCH", "a", "b"),
    ("BRPOP", "a", "b", "1"),
    ("BLMPOP", "1", "2", "a", "b", "RIGHT", "COUNT", "3"),
    ("EVALSHA", "0" * 40, "2", "a", "b", "c"),
    ("PSUBSCRIBE", "a"),
    ("HELLO", "3"),
    ("CLIENT", "SETNAME", "a"),
    ("SELECT", "0"),
    ("INFO", "server"),
    ("CLUSTER", "SLOTS"),
)


def keys_of(client: redis.Redis, command: Iterable[str]) -> list[str]:
    """What the server takes for keys."""
    try:
        return [str(key) for key in client.execute_command("COMMAND GETKEYS", *command)]
    except redis.ResponseError as error:
        if "no key" not in str(error).lower():
            raise
        return []


def test_the_words_that_get_the_tag_are_those_that_redis_takes_for_keys(valkey: ValkeyServer) -> None:
    tried = [*rights._NEEDED, *rights._on_lists("llm"), *MORE]
    with valkey.client() as client:
        for command in tried:
            plain, tagged_keys = keys_of(client, command), keys_of(client, tagged_command(PREFIX, command))
            fence = [f"{PREFIX}{FENCE}"] if command[0] == "FCALL" else []
            assert tagged_keys == [f"{PREFIX}{key}" for key in plain] + fence, command


def test_the_rights_of_another_user_are_tried_on_tagged_keys() -> None:
    command = ("ACL DRYRUN", "agent", "LLEN", "llmq:arrivals:llm")
    assert tagged_command(PREFIX, command) == ("ACL DRYRUN", "agent", "LLEN", "{llmq}llmq:arrivals:llm")


def test_without_a_tag_everything_is_as_ever() -> None:
    assert hash_tag("") == ""
    assert tagged(Connection, "") is Connection
    client = connect("redis://127.0.0.1:1/0", outage_s=0)
    assert not hasattr(client.connection_pool.connection_class, "key_prefix")
    assert "local LEASES = [==[llmq:leases]==]" in library_source()


def test_a_library_with_a_tag_names_every_key_with_it_and_no_channel() -> None:
    text = library_source(PREFIX)
    named = [line for line in text.splitlines() if line.startswith("local ") and "llmq:" in line]
    bare = {line.split()[1] for line in named if PREFIX not in line}
    assert bare == {"CANCEL_CHANNEL", "FRAMES_PREFIX"}
    assert "local RESULT_PREFIX = [==[{llmq}celery-task-meta-]==]" in text
    assert "local RESULT_CHANNEL_PREFIX = [==[celery-task-meta-]==]" in text


def test_a_cluster_needs_a_tag() -> None:
    with pytest.raises(SettingsError, match="LLM_QUEUE_KEY_TAG: a Redis in cluster mode needs one hash tag"):
        QueueSettings(redis_url="redis+cluster://127.0.0.1:6379")
    QueueSettings(redis_url="redis+cluster://127.0.0.1:6379", key_tag="llmq")


@pytest.mark.parametrize("tag", ["{llmq}", "ll mq", "x" * 33, "a:b"])
def test_what_is_no_tag(tag: str) -> None:
    with pytest.raises(SettingsError, match="LLM_QUEUE_KEY_TAG"):
        QueueSettings(key_tag=tag)
