"""`rbrbench samples`: a versioned set of sampled responses, each graded and judged once, for `rbrbench ceiling`."""

from __future__ import annotations

from collections.abc import Sequence

SUMMARY = """\
  samples           sampled responses of any model, judged and graded once, for ceiling
                      rbrbench samples run=results/NAME:METHOD:SEED out=FOLDER set=NAME
                      rbrbench samples subject.path=MODEL prompts=FILE judges=[NAME] out=FOLDER set=NAME"""
USAGE = """\
usage: rbrbench samples SOURCE out=FOLDER set=NAME [key=value ...]

SOURCE is one of
  run=results/NAME:METHOD:SEED          a model that `rbrbench run` trained: its SFT model, as a rule
  subject.path=FOLDER                   a Hugging Face folder or hub name
  server.url=URL server.model=NAME      an OpenAI-compatible server
  responses=FILE                        recorded responses, CSV or JSONL

Writes decoding.samples responses to each prompt, what the judges say of each, its log-probability where the model is
at hand or its server tells it (at decoding.temperature=1), and with reward= what the reward's grader and reward model
say. others= takes folders, runs and MODEL@URL of a server. A killed command goes on from where it was.
Exit codes: 0 done, 2 bad input, 3 no response came, or a server's samples cannot be weighed."""
KEYS = "harness.keys.samples:SamplesConfig"


def main(arguments: Sequence[str]) -> int:
    from harness.ceiling.drawing import draw_samples
    from harness.keys.compose import compose_command
    from harness.keys.samples import SamplesConfig
    from harness.runtime.console import Console

    made = draw_samples(
        compose_command("samples", SamplesConfig, arguments), ["samples", *arguments], Console()
    )
    print(
        f"{made['set']}: {made['samples']} responses to each of {made['prompts']} prompts ({made['digest']})"
    )
    if made["missing"]:
        print(f"{made['missing']} responses are missing; samples.jsonl.gz says why of each")
    return 0
