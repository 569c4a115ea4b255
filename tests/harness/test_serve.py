"""`rbrbench serve`: OpenRLHF's remote reward, and clients in processes of their own that have nothing but Python."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from gate_world import labelled, write_world

from evals.values.errors import InputError
from harness.keys.serve import ServeConfig
from harness.serve.server import RewardServer, load_served
from harness.storage.provenance import ROOT

CLIENTS = ROOT / "harness" / "serve" / "clients.py"
ROWS = labelled("gate", 2)[:3]
TYPE = str(ROWS[0].response.prompt.response_type.value)  # type: ignore[union-attr]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RewardServer]:
    folder = tmp_path_factory.mktemp("serve")
    config = ServeConfig(reward=str(write_world(folder / "world", 2)), port=0, max_batch=4, store=str(folder))
    with RewardServer(config, load_served(config)) as serving:
        thread = threading.Thread(target=serving.serve_forever, daemon=True)
        thread.start()
        yield serving
        serving.shutdown()
        thread.join()


def post(server: RewardServer, path: str, body: Any) -> tuple[int, Any]:
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    request = urllib.request.Request(f"http://127.0.0.1:{server.port}{path}", data)
    try:
        with urllib.request.urlopen(request, timeout=60) as response:
            return response.status, json.load(response)
    except urllib.error.HTTPError as error:
        return error.code, json.loads(error.read())


def own(*texts: str) -> dict[str, Any]:
    prompt = ROWS[0].response.prompt.text
    return {
        "prompts": [prompt] * len(texts),
        "completions": list(texts),
        "response_type": [TYPE] * len(texts),
    }


def test_openrlhfs_question_has_the_rewards_of_our_own(server: RewardServer) -> None:
    """A template's marks, or the prompt itself, graded as a part of the response."""
    texts = [row.response.text for row in ROWS]
    status, ours = post(server, "/reward", own(*texts))
    assert status == 200 and ours["unscored"] == {} and len(set(ours["rewards"])) > 1
    assert sum(of[0] for of in ours["terms"].values()) == pytest.approx(ours["rewards"][0])
    assert set(ours["rules"]) and all(len(values) == 3 for values in ours["rules"].values())
    asked = f"<|im_start|>user\n{ROWS[0].response.prompt.text}<|im_end|>\n<|im_start|>assistant\n"
    label = {"response_type": TYPE, "prompt": ROWS[0].response.prompt.text}
    body = {
        "query": [f"{asked}{text}<|im_end|>\n<|endoftext|>" for text in texts],
        "prompts": [asked] * 3,
        "labels": [json.dumps(label), label, json.dumps(label)],
    }
    status, theirs = post(server, "/get_reward", body)
    assert status == 200 and theirs["rewards"] == theirs["scores"] == pytest.approx(ours["rewards"])
    assert all(len(values) == 3 for values in theirs["extra_logs"].values())


def test_what_cannot_be_paid_is_no_zero(server: RewardServer) -> None:
    """The recorded grader has no grade of a new text: null with its reason, or the request refused."""
    status, found = post(server, "/reward", own(ROWS[0].response.text, "A new text."))
    assert status == 200 and found["rewards"][1] is None and found["rewards"][0] is not None
    assert list(found["unscored"]) == ["1"]
    prompt = ROWS[0].response.prompt.text
    body = {"query": [f"{prompt}A new text."], "prompts": [prompt], "labels": [TYPE]}
    status, found = post(server, "/get_reward", body)
    assert status == 422 and "row 0" in found["error"] and "A new text" not in found["error"]


def test_a_fault_shows_nothing_of_what_was_sent(
    server: RewardServer, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """A traceback with the conversation stood on the terminal, and the client was hung up on."""

    def broken(*_: Any) -> None:
        raise RuntimeError("how do i steal a rose")

    monkeypatch.setattr(server, "pay", broken)
    status, found = post(server, "/reward", own("a"))
    assert status == 500 and found == {"error": "a fault of the server's own (RuntimeError)"}
    assert "rose" not in "".join(capfd.readouterr())


def test_requests_are_bounded_and_checked(server: RewardServer, monkeypatch: pytest.MonkeyPatch) -> None:
    cases: list[tuple[str, Any, int, str]] = [
        ("/reward", own(*"abcde"), 413, "send 4 at most"),
        ("/reward", own("a") | {"response_type": []}, 400, "response_type"),
        ("/reward", own("a") | {"completions": ["a", "b"]}, 400, "different lengths"),
        ("/reward", own("a") | {"response_type": ["often"]}, 400, "unknown response type"),
        ("/reward", b"{", 400, "no JSON"),
        (
            "/get_reward",
            {"query": ["b"], "prompts": ["a"], "labels": [None]},
            400,
            "does not hold its prompt",
        ),
        ("/rewards", {}, 404, "/get_reward"),
        ("/reward", own("a") | {"completions": [5]}, 400, "'completions[0]': is neither text nor messages"),
        ("/reward", own("a") | {"completions": [None]}, 400, "completions[0]"),
        (
            "/reward",
            own("a") | {"completions": [[{"role": "assistant", "content": 5}]]},
            400,
            "completions[0]",
        ),
        ("/reward", own("a") | {"prompts": [{"role": "user", "content": "x"}]}, 400, "prompts[0]"),
        ("/reward", own("a") | {"questions": [5]}, 400, "questions[0]"),
        ("/get_reward", {"query": ["b"], "prompts": [""], "labels": [None]}, 400, "does not hold its prompt"),
        (
            "/get_reward",
            {"query": ["ab"], "prompts": ["a"], "labels": ['{"prompt": 5}']},
            400,
            "'prompts[0]': is neither text",
        ),
    ]
    for path, body, status, said in cases:
        found, answer = post(server, path, body)
        assert (found, said in answer["error"]) == (status, True), answer
    monkeypatch.setattr(server.config, "timeout_s", 0.05)
    with server._lock:
        assert post(server, "/reward", own("a"))[0] == 504
        time.sleep(0.1)
    with urllib.request.urlopen(f"http://127.0.0.1:{server.port}/health", timeout=60) as response:
        assert json.load(response)["status"] == "ok"


def client(program: str, url: str) -> subprocess.CompletedProcess[str]:
    """The module by its file, as verl loads it, in a process that sees no installed package."""
    load = (
        "import importlib.util as u, sys, json\n"
        f"spec = u.spec_from_file_location('clients', {str(CLIENTS)!r}); c = u.module_from_spec(spec)\n"
        "sys.modules['clients'] = c; spec.loader.exec_module(c)\n"
    )
    command = [sys.executable, "-I", "-S", "-c", load + program]
    return subprocess.run(
        command, capture_output=True, text=True, timeout=60, env={"RBRBENCH_REWARD_URL": url}
    )


def test_clients_need_nothing_but_python(server: RewardServer) -> None:
    """verl's and NeMo-RL's signatures, from another process, with the rewards of the server itself."""
    url, (one, two, _) = f"http://127.0.0.1:{server.port}/get_reward", ROWS
    expected = post(server, "/reward", own(one.response.text, two.response.text))[1]["rewards"]
    about = {"prompt": [{"role": "user", "content": one.response.prompt.text}]}
    log = [*about["prompt"], {"role": "assistant", "content": two.response.text}]
    done = client(
        f"a = c.compute_score('x', {one.response.text!r}, {TYPE!r}, {about!r})\n"
        f"e = c.RewardEnvironment().step([{log!r}], [{{'response_type': {TYPE!r}}}])\n"
        "print(json.dumps([a['score'], e.rewards[0], e.terminateds[0], len(a)]))",
        url,
    )
    assert done.returncode == 0, done.stderr
    score, reward, ended, parts = json.loads(done.stdout)
    assert [score, reward] == pytest.approx(expected) and ended is True and parts > 1
    done = client(f"c.compute_score('x', 'new', {TYPE!r}, {about!r})", url)
    assert "Unpaid: no reward: row 0" in done.stderr
    done = client(f"print(c.compute_score('x', 'new', {TYPE!r}, {about!r}, unpaid=-1.0)['score'])", url)
    assert done.stdout == "-1.0\n"
    assert "does not answer" in client("c.ask(['a'], ['b'], [None])", "http://127.0.0.1:9/").stderr


def test_what_cannot_be_served_is_one_line(tmp_path: Path, server: RewardServer) -> None:
    with pytest.raises(InputError, match="field 'reward': is not set"):
        ServeConfig()
    taken = ServeConfig(reward="x", port=server.port)
    with pytest.raises(InputError, match="cannot be listened on"):
        RewardServer(taken, load_served(server.config))
