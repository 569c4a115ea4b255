"""`rbrbench serve reward=A`: a reward behind HTTP, for trainers elsewhere."""

from __future__ import annotations

from collections.abc import Sequence

SUMMARY = """\
  serve             a reward behind HTTP: OpenRLHF's remote reward, and clients for verl and NeMo-RL
                      rbrbench serve reward=results/FIT port=8089"""
USAGE = """\
usage: rbrbench serve reward=A [key=value ...]

Serves a description, a fit or a run's reward until it is interrupted: POST /get_reward as OpenRLHF's --remote_rm_url
asks it, POST /reward with the breakdown by rule, GET /health. harness/serve/clients.py has functions with the
signatures that verl and NeMo-RL document. Exit codes: 0 interrupted, 2 bad input."""
KEYS = "harness.keys.serve:ServeConfig"


def main(arguments: Sequence[str]) -> int:
    from harness.keys.compose import compose_command
    from harness.keys.serve import ServeConfig
    from harness.runtime.libraries import set_threads
    from harness.serve.server import RewardServer, load_served

    config = compose_command("serve", ServeConfig, arguments)
    set_threads(config.threads)
    with RewardServer(config, load_served(config)) as server:
        print(f"Serving http://{config.host}:{server.port}/get_reward", flush=True)
        try:
            server.serve_forever()
        except KeyboardInterrupt:
            return 0
    return 0
