"""What is sealed opens for exactly one use, with a key of the ring, and otherwise not at all."""

import base64
import re
import uuid
from datetime import timedelta
from pathlib import Path

import pytest
from click.testing import CliRunner
from pydantic import SecretStr

from rustic_ai.llm_queue.tasks.call import CompletionCall, Endpoint
from rustic_ai.llm_queue.tasks.contract import ContractViolation
from rustic_ai.llm_queue.tasks.error_kind import ErrorKind
from rustic_ai.llm_queue.tasks.errors import ErrorEnvelope
from rustic_ai.llm_queue.tasks.frames import FrameId, RestartFrame, open_frame, seal_frame
from rustic_ai.llm_queue.tasks.job import Job, open_call, seal_call
from rustic_ai.llm_queue.tasks.outcome import Account, Failed
from rustic_ai.llm_queue.tasks.owner import Owner
from rustic_ai.llm_queue.tasks.privacy.seal import (
    KeyRing,
    Purpose,
    Sealer,
    SealError,
    make_key,
    plaintext_size,
)
from rustic_ai.llm_queue.tasks.result import decode_result, encode_result
from rustic_ai.llm_queue.tasks.settings import QueueSettings, SettingsError
from rustic_ai.llm_queue.worker.cli.main import commands

OLD, NEW = make_key(), make_key()
OWNER = Owner(org="acme", guild="support", agent="helper")
JOB = str(uuid.uuid4())
TEXT = "the prompt, and naïve keys: sk-canary"


def sealer(*keys: str) -> Sealer:
    return Sealer(KeyRing.parse(",".join(keys)))


def seal(by: Sealer, text: str = TEXT) -> str:
    return by.seal(text, purpose=Purpose.REQUEST, job_id=JOB, owner=OWNER)


def open_(by: Sealer, sealed: str) -> str:
    return by.open(sealed, purpose=Purpose.REQUEST, job_id=JOB, owner=OWNER)


def test_a_sealed_text_opens_and_shows_nothing() -> None:
    sealed = seal(sealer(NEW))
    assert open_(sealer(NEW), sealed) == TEXT
    shown = sealed.encode() + base64.b64decode(sealed.rpartition(":")[2])
    assert b"canary" not in shown
    assert seal(sealer(NEW)) != sealed, "equal texts must not look equal"


def test_keys_are_rotated_by_putting_the_new_one_first() -> None:
    before = seal(sealer(OLD))
    both = sealer(NEW, OLD)
    assert open_(both, before) == TEXT
    after = seal(both)
    assert after.split(":")[1] == NEW.split(":")[0]
    assert open_(sealer(NEW), after) == TEXT
    # Agents and workers are not rotated at one moment: in between either side may be the newer one.
    assert open_(sealer(OLD, NEW), after) == TEXT
    with pytest.raises(SealError, match=f"unknown key '{OLD.split(':')[0]}'"):
        open_(sealer(NEW), before)


def test_an_equal_request_is_known_through_a_rotation() -> None:
    before, after = sealer(OLD).fingerprints(TEXT), sealer(NEW, OLD).fingerprints(TEXT)
    assert before[0] in after
    assert not set(sealer(NEW).fingerprints(TEXT)) & set(before)
    assert not set(sealer(OLD).fingerprints(TEXT + "!")) & set(before)


def test_a_plain_record_is_refused_where_sealing_is_on() -> None:
    plain = seal(sealer())
    assert plain == f"plain:{TEXT}"
    assert open_(sealer(), plain) == TEXT
    with pytest.raises(SealError, match="plain record where sealing is on"):
        open_(sealer(NEW), plain)


def test_a_sealed_record_without_a_key_says_which_setting_is_missing() -> None:
    with pytest.raises(SealError, match="LLM_QUEUE_SEALING_KEYS"):
        open_(sealer(), seal(sealer(NEW)))


@pytest.mark.parametrize("scheme", ["", "aes256gcm2", "rot13", "PLAIN", "aes128gcm"])
def test_an_unknown_scheme_does_not_open(scheme: str) -> None:
    sealed = seal(sealer(NEW)).partition(":")[2]
    with pytest.raises(SealError, match="unknown sealing scheme"):
        open_(sealer(NEW), f"{scheme}:{sealed}")


def test_what_is_moved_does_not_open() -> None:
    ring, sealed = sealer(NEW), seal(sealer(NEW))
    others = {
        "another job": (Purpose.REQUEST, str(uuid.uuid4()), OWNER),
        "another purpose": (Purpose.RESULT, JOB, OWNER),
        "another org": (Purpose.REQUEST, JOB, OWNER.model_copy(update={"org": "evil"})),
        "another guild": (Purpose.REQUEST, JOB, OWNER.model_copy(update={"guild": "evil"})),
        "another agent": (Purpose.REQUEST, JOB, OWNER.model_copy(update={"agent": "evil"})),
        "ids cut elsewhere": (Purpose.REQUEST, JOB, Owner(org="acme", guild="supporthelper", agent="x")),
    }
    for what, (purpose, job_id, owner) in others.items():
        with pytest.raises(SealError, match="altered or moved"):
            pytest.fail(f"{what}: {ring.open(sealed, purpose=purpose, job_id=job_id, owner=owner)}")


def test_a_key_of_the_same_name_and_another_value_opens_nothing() -> None:
    name = NEW.partition(":")[0]
    impostor = f"{name}:{make_key().partition(':')[2]}"
    with pytest.raises(SealError, match="altered or moved"):
        open_(sealer(impostor), seal(sealer(NEW)))


def test_a_stale_record_does_not_open(monkeypatch: pytest.MonkeyPatch) -> None:
    ring = sealer(NEW)
    now = 1_700_000_000.0
    monkeypatch.setattr("time.time", lambda: now)
    job = _job(ring)
    now += 3_601
    assert open_call(job, ring).model == "m"
    assert open_call(job, ring, max_age=timedelta(hours=2)).model == "m"
    with pytest.raises(SealError, match="stale"):
        open_call(job, ring, max_age=timedelta(hours=1))


def test_the_time_of_sealing_cannot_be_changed() -> None:
    scheme, key_id, sealed_at, blob = seal(sealer(NEW)).split(":")
    for at in (str(int(sealed_at) + 1), f"0{sealed_at}", f" {sealed_at}", "", "x"):
        with pytest.raises(SealError):
            open_(sealer(NEW), f"{scheme}:{key_id}:{at}:{blob}")


def test_the_size_is_known_without_opening() -> None:
    for text in ("", "a", "é" * 1000, "x" * 10_001):
        for by in (sealer(), sealer(NEW)):
            assert 0 <= plaintext_size(seal(by, text)) - len(text.encode()) <= 2


def _job(by: Sealer, owner: Owner = OWNER) -> Job:
    call = CompletionCall(
        model="m",
        params={"messages": [{"role": "user", "content": TEXT}]},
        endpoint=Endpoint(api_key=SecretStr("sk-canary-key")),
    )
    request, fingerprints = seal_call(call, by, job_id=JOB, owner=owner)
    return Job(
        id=JOB, owner=owner, model="m", queue="q", timeout_ms=1,
        request=request, fingerprints=fingerprints,
    )  # fmt: skip


def test_a_request_result_and_frame_stay_what_they_are() -> None:
    ring = sealer(NEW)
    request = _job(ring).request
    failed = Failed(account=Account(), error=ErrorEnvelope(kind=ErrorKind.BAD_REQUEST, message="no"))
    result = encode_result(failed, job_id=JOB, owner=OWNER, sealer=ring)
    frame = RestartFrame(epoch=1, seq=2, reason=ErrorKind.TIMEOUT, model="m")
    framed = seal_frame(frame.model_dump_json(), job_id=JOB, owner=OWNER, sealer=ring)
    assert decode_result(result, job_id=JOB, owner=OWNER, sealer=ring).outcome == failed
    assert open_frame(framed, FrameId(1, 2), job_id=JOB, owner=OWNER, sealer=ring) == frame
    with pytest.raises(ContractViolation):
        open_frame(request, FrameId(1, 2), job_id=JOB, owner=OWNER, sealer=ring)
    with pytest.raises(ContractViolation):
        open_call(_job(ring).model_copy(update={"request": framed}), ring)
    with pytest.raises(ContractViolation, match="at 1-3"):
        open_frame(framed, FrameId(1, 3), job_id=JOB, owner=OWNER, sealer=ring)
    swapped = result.replace(result.partition('"sealed":"')[2].rstrip('"}'), request)
    with pytest.raises(ContractViolation):
        decode_result(swapped, job_id=JOB, owner=OWNER, sealer=ring)


def test_what_redis_sees_of_a_job_has_neither_prompt_nor_key() -> None:
    record = " ".join(_job(sealer(NEW)).to_hash().values())
    assert "canary" not in record
    assert "prompt" not in record


@pytest.mark.parametrize(
    ("keys", "says"),
    [
        ("nonsense", "make-key"),
        ("k1:not base64!", "k1"),
        ("k1:c2hvcnQ=", "32"),
        (":" + NEW.partition(":")[2], "empty"),
    ],
    ids=["no key", "not base64", "too short", "no name"],
)
def test_a_key_that_is_none_is_an_error_without_the_key(keys: str, says: str) -> None:
    with pytest.raises(SettingsError, match=says) as caught:
        QueueSettings(sealing_keys=SecretStr(keys))
    assert "LLM_QUEUE_SEALING_KEYS" in str(caught.value)
    assert keys.partition(":")[2] not in str(caught.value) or not keys.partition(":")[2]


def test_keys_may_stand_in_a_file(tmp_path: Path) -> None:
    path = tmp_path / "keys"
    path.write_text(f"{NEW}\n{OLD}\n")
    settings = QueueSettings(sealing_keys_file=path)
    assert open_(settings.sealer(), seal(sealer(OLD))) == TEXT
    assert settings.sealer().seal("", purpose=Purpose.FRAME, job_id=JOB, owner=OWNER).split(":")[1] in NEW
    with pytest.raises(SettingsError, match="LLM_QUEUE_SEALING_KEYS"):
        QueueSettings(sealing_keys_file=tmp_path / "missing")


def test_no_repr_shows_a_key() -> None:
    settings = QueueSettings(sealing_keys=SecretStr(NEW), redis_url="redis://u:sk-canary@127.0.0.1/0")
    shown = f"{settings!r}{settings}{settings.key_ring()!r}{settings.sealer()!r}{vars(settings.sealer())}"
    assert NEW.partition(":")[2] not in shown
    assert "sk-canary" not in shown


def test_the_command_makes_keys_that_the_setting_takes() -> None:
    made = [CliRunner().invoke(commands, ["make-key"]) for _ in range(2)]
    assert [one.exit_code for one in made] == [0, 0]
    first, second = (one.output.strip() for one in made)
    assert first != second
    assert re.fullmatch(r"k[0-9a-f]{8}:[A-Za-z0-9+/]{43}=", first)
    settings = QueueSettings(sealing_keys=SecretStr(f"{first},{second}"))
    assert settings.sealer().seals
