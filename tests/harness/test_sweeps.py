"""A sweep: its jobs by each launcher, its plan, what it leaves, what it says; Hydra's flags."""

from __future__ import annotations

import csv
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from shutil import copytree

import psutil
import pytest
import yaml
from hydra._internal.hydra import Hydra
from tiny_runs import Done, rbrbench, rbrbench_process

from evals.values.errors import InputError, UndecidableError
from evals.values.metrics_table import MetricRow, read_metrics
from harness.keys.application import hydra_application
from harness.keys.objective import SweepObjective, check_objective, measured_by
from harness.keys.run import RunConfig, compose_run
from harness.pipeline.sweep import (
    JobFailed,
    JobTask,
    check_directions,
    objective_of,
    progress,
    sweeping,
)
from harness.record.plan import DONE, FAILED, RUNNING, Plan, PlannedJob, SweepFolder, read_sweep
from harness.runtime.own_gpu import take_gpu
from harness.runtime.ray_launcher import unmet
from harness.storage.ownership import computing
from harness.storage.provenance import ROOT

SHORT = ["run", "experiment=smoke", "threads=1", "methods=[helpful_sft]", "capability.tasks=[]"]
SHORT += ["evaluation.graded_samples=0"]
HAS_OPTUNA = find_spec("hydra_plugins.hydra_optuna_sweeper") is not None
needs_ray = pytest.mark.skipif(
    find_spec("ray") is None, reason="Ray is not installed; tests/extras/run ray does"
)


@pytest.fixture(scope="module")
def finished(smoke_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the store of a finished smoke run, to write to."""
    folder = tmp_path_factory.mktemp("sweeps")
    copytree(smoke_run / "results" / ".store", folder / "results" / ".store")
    return folder


def test_a_failed_job_leaves_the_others_and_the_sweep_says_what_is_missing(finished: Path) -> None:
    """The first job that failed ended the sweep, and jobs behind it were lost."""
    sweep = [*SHORT, "-m", "grader.anyway=false,true", "name=half", "objective=[helpful_sft:f1]"]
    done = rbrbench(*sweep, cwd=finished)
    results = finished / "results" / "half"
    assert done.returncode == 3 and "1 of 2 jobs are missing; the same command computes" in done.stderr
    plan = json.loads((results / "plan.json").read_text())
    assert [job["variant"] for job in plan["jobs"]] == ["grader.anyway=False", "grader.anyway=True"]
    metrics = (results / "metrics.csv").read_text()
    assert "helpful_sft[grader.anyway=True]" in metrics and "anyway=False" not in metrics
    told = "1 of 2 jobs of the sweep are missing here: seed 0, grader.anyway=False."
    assert told in (results / "summary.md").read_text() + (results / "report.html").read_text()
    drawn = rbrbench("report", "results/half", cwd=finished)
    assert drawn.returncode == 0 and "missing: seed 0, grader.anyway=False (failed: " in drawn.stdout


def test_a_sweep_in_a_file_of_ones_own_runs_without_a_flag(finished: Path) -> None:
    """`hydra.mode`, `hydra.sweeper.params` and a folder of one's own were taken and ignored."""
    own = finished / "mine" / "experiment"
    own.mkdir(parents=True)
    (own / "tokens.yaml").write_text(
        "# @package _global_\ndefaults: [smoke, _self_]\nname: tokens\nmethods: [helpful_sft]\n"
        "threads: 1\ncapability: {tasks: []}\nevaluation: {graded_samples: 0}\n"
        "hydra:\n  mode: MULTIRUN\n  sweep: {dir: hydras}\n"
        "  sweeper: {params: {evaluation.max_new_tokens: '8,9'}}\n"
    )
    done = rbrbench("run", "--config-dir", "mine", "experiment=tokens", cwd=finished)
    assert done.returncode == 0, done.stderr
    metrics = (finished / "results/tokens/metrics.csv").read_text()
    assert all(f"helpful_sft[evaluation.max_new_tokens={n}]" in metrics for n in (8, 9))
    assert (finished / "hydras/1/.hydra/overrides.yaml").is_file(), "Hydra's own files lie where it was told"
    assert "responses: helpful_sft" in (finished / "hydras/0/run.log").read_text()
    # The launcher was killed before it wrote the record of jobs that ended without it.
    results, kept = finished / "results/tokens", finished / "results/kept"
    results.rename(kept)
    results.mkdir()
    for name in ("plan.json", "jobs"):
        (kept / name).rename(results / name)
    drawn = rbrbench("report", "results/tokens", cwd=finished)
    assert (drawn.returncode, drawn.stdout.count("missing")) == (0, 0), drawn.stderr
    assert metrics == (finished / "results/tokens/metrics.csv").read_text()


@pytest.fixture
def ray_token(monkeypatch: pytest.MonkeyPatch) -> None:
    """What Ray's processes know each other by. Without one Ray makes it, in the home of whoever runs the tests, and
    `ray start` asks for it from then on.
    """
    monkeypatch.setenv("RAY_AUTH_MODE", "token")
    monkeypatch.setenv("RAY_AUTH_TOKEN", "0123456789abcdef" * 4)


@pytest.fixture
def ray_cluster(ray_token: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[str]:
    """The address of a cluster of one node, which ends with the test."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    program = Path(sys.executable).with_name("ray")
    asked = ["start", "--head", "--block", "--num-cpus=2", "--include-dashboard=false"]
    asked += ["--node-ip-address=127.0.0.1", f"--port={address.partition(':')[2]}"]
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    with (tmp_path / "ray.log").open("wb") as told:
        node = subprocess.Popen([program, *asked], stdout=told, stderr=told)
    try:
        ask = [str(program), "health-check", f"--address={address}"]
        until = time.monotonic() + 120
        while (answer := subprocess.run(ask, capture_output=True, text=True, check=False)).returncode:
            assert node.poll() is None, (tmp_path / "ray.log").read_text()
            assert time.monotonic() < until, answer.stderr  # what it refuses it refuses for ever
            time.sleep(1)
        yield address
    finally:
        node.terminate()
        node.wait(60)


@pytest.mark.slow
@pytest.mark.parametrize(
    "launcher",
    [
        ["hydra/launcher=joblib", "hydra.launcher.n_jobs=2"],
        ["hydra/launcher=submitit_local", "hydra.launcher.timeout_min=5"],
        pytest.param(["hydra/launcher=ray", "hydra.launcher.num_cpus=1"], marks=needs_ray),
        pytest.param(["hydra/launcher=ray", "hydra.launcher.address=auto"], marks=needs_ray),
    ],
    ids=["joblib", "submitit", "ray", "ray_cluster"],
)
def test_jobs_in_processes_of_their_own_make_what_one_process_makes(
    finished: Path,
    launcher: list[str],
    request: pytest.FixtureRequest,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """`hydra/launcher=joblib` was refused; the jobs of one sweep never ran at once."""
    sweep = [*SHORT, "-m", "evaluation.max_new_tokens=6,7"]
    alone = rbrbench(*sweep, "name=alone", cwd=finished)
    name = request.node.callspec.id
    if name == "ray":
        request.getfixturevalue("ray_token")
    elif name == "ray_cluster":
        monkeypatch.setenv("RAY_ADDRESS", request.getfixturevalue(name))
    done = rbrbench_process(*sweep, f"name={name}", *launcher, cwd=finished)
    assert (alone.returncode, done.returncode) == (0, 0), done.stderr[-3000:]
    for file in ("metrics.csv", "training.jsonl", "samples/helpful_sft[evaluation.max_new_tokens=6].jsonl"):
        assert (finished / "results" / name / file).read_bytes() == (
            finished / "results/alone" / file
        ).read_bytes()


def test_what_no_node_of_a_cluster_has_is_told() -> None:
    """Jobs that asked for a GPU of a cluster without one waited for ever, and nobody was told."""
    nodes = [{"CPU": 8.0, "memory": 2.0**34}, {"CPU": 2.0, "GPU": 1.0}]
    assert unmet({"num_cpus": 8, "num_gpus": 0, "memory_gb": 16}, nodes) == ""
    assert unmet({"num_cpus": 1, "num_gpus": 0.5, "memory_gb": 0}, nodes) == ""
    assert unmet({"num_cpus": 1, "num_gpus": 2, "memory_gb": 17}, nodes) == (
        "hydra.launcher.num_gpus is 2, and no node has more than 1; "
        "hydra.launcher.memory_gb is 17, and no node has more than 16"
    )
    together = "no node has hydra.launcher.num_cpus=4 and hydra.launcher.num_gpus=1 together"
    assert unmet({"num_cpus": 4, "num_gpus": 1, "memory_gb": 0}, nodes) == together


@needs_ray
@pytest.mark.slow
def test_jobs_of_a_ray_without_what_they_ask_for_do_not_wait_in_silence(
    ray_cluster: str, tmp_path: Path
) -> None:
    """They stood still for ever; and of a cluster that asks for a token it was said that it cannot be reached."""
    asked = [*SHORT, "-m", "seed=0,1", "hydra/launcher=ray", "hydra.launcher.num_gpus=99"]
    there = ["name=there", f"hydra.launcher.address={ray_cluster}"]
    lack = "hydra.launcher.num_gpus is 99, and no node has more than"
    done = rbrbench_process(*asked, "name=here", cwd=tmp_path)
    assert done.returncode == 2 and lack in done.stderr, done.stderr
    assert "in the Ray that is started here; lower it, or name a cluster" in done.stderr
    command = [sys.executable, "-m", "rbrbench", *asked, *there]
    with subprocess.Popen(command, cwd=tmp_path, stderr=subprocess.PIPE, text=True) as sweep:
        assert sweep.stderr is not None
        at_most = threading.Timer(300, sweep.kill)
        at_most.start()
        told = next((line for line in sweep.stderr if lack in line), "")
        sweep.send_signal(signal.SIGINT)
        rest = sweep.stderr.read()
        at_most.cancel()
    assert "jobs wait until one joins the cluster that has it" in told and sweep.returncode == 130, rest
    stranger = {"RAY_AUTH_MODE": "disabled", "RAY_AUTH_TOKEN": ""}
    done = rbrbench_process(*asked, *there, cwd=tmp_path, **stranger)
    assert (
        done.returncode == 2
        and "or it wants another token; start one, or set RAY_AUTH_MODE=token" in done.stderr
    ), done.stderr


@needs_ray
@pytest.mark.slow
def test_a_sweep_ends_when_the_head_of_its_ray_is_gone(ray_cluster: str, tmp_path: Path) -> None:
    """Ray itself ended the command after a minute, with exit code 1, a gate's no, and a line of its own on C++."""
    asked = [*SHORT, "-m", "seed=0,1", "hydra/launcher=ray", "hydra.launcher.num_gpus=99"]
    command = [sys.executable, "-m", "rbrbench", *asked, f"hydra.launcher.address={ray_cluster}"]
    with subprocess.Popen(command, cwd=tmp_path, stderr=subprocess.PIPE, text=True) as sweep:
        assert sweep.stderr is not None
        at_most = threading.Timer(300, sweep.kill)
        at_most.start()
        assert any("jobs wait until one joins" in line for line in sweep.stderr)
        for process in psutil.Process().children(recursive=True):
            if process.name() in ("gcs_server", "raylet"):
                process.kill()
        rest = sweep.stderr.read()
        at_most.cancel()
    assert sweep.returncode == 2, rest
    port = ray_cluster.partition(":")[2]  # Ray names a loopback's machine by another address
    assert f":{port}, has not answered for" in rest and "give the same command on a head" in rest, rest


@pytest.mark.slow
@pytest.mark.skipif(not HAS_OPTUNA, reason="Optuna's sweeper is not installed; tests/extras/run optuna does")
def test_optuna_searches_by_a_metric_of_the_run(finished: Path) -> None:
    """Its jobs are not known beforehand, and a search that is given again draws what it drew before."""
    search = [*SHORT, "-m", "name=search", "objective=[helpful_sft:f1]", "hydra/sweeper=optuna"]
    search += ["hydra.sweeper.sampler.seed=1", "hydra.sweeper.n_trials=2", "hydra.sweeper.n_jobs=1"]
    search += ["hydra.sweeper.direction=maximize", "evaluation.max_new_tokens=choice(5,6,7)"]
    search += ["hydra.sweep.dir=searched"]
    done = rbrbench_process(*search, cwd=finished)
    assert done.returncode == 0, done.stderr[-3000:]
    with open(finished / "results/search/metrics.csv", newline="") as file:
        rows = [row for row in csv.DictReader(file) if (row["metric"], row["judge"]) == ("f1", "oracle")]
    found = {row["method"]: float(row["value"]) for row in rows if row["suite"] == "sandbox"}
    assert found and all(name.startswith("helpful_sft[evaluation.max_new_tokens=") for name in found)
    best = yaml.safe_load((finished / "searched/optimization_results.yaml").read_text())
    assert best["best_value"] == pytest.approx(max(found.values()), abs=1e-6)
    again = rbrbench_process(*search, cwd=finished)
    assert again.returncode == 0 and " computed in " not in again.stderr, again.stderr[-3000:]


# --- flags -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        (["ppo.kl_cof=1"], "field 'ppo.kl_cof': no such key; did you mean 'ppo.kl_coef'"),
        (["-m", "seed=1,2", "ppo.updates=1,x"], "field 'ppo.updates'"),
        (["-m", "seed=1,2", "algorithm=ppo,gpo"], "field 'algorithm': Invalid value 'gpo'"),
        (["--cfg", "jobs"], "invalid choice: 'jobs'"),
        (["--resolve"], "field '--resolve': shows nothing by itself; give --cfg job too"),
        (["--cfg", "job", "-m"], "only one of --run, --multirun, --cfg"),
        (["--config-dir", "nowhere"], "nowhere: no such folder"),
        (["--frobnicate"], "unrecognized arguments: --frobnicate; --help lists"),
        (
            ["-m", "hydra/launcher=rocket", "seed=1,2"],
            "field 'hydra/launcher': there is no 'rocket'; choose of",
        ),
        pytest.param(
            ["-m", "hydra/sweeper=optuna", "seed=1,2"],
            "install it: pip install 'rbrbench[optuna]'",
            marks=pytest.mark.skipif(HAS_OPTUNA, reason="Optuna's sweeper is installed"),
        ),
        (["objective=[rbr_ppo]"], "field 'objective': is 'rbr_ppo'; write METHOD:METRIC, such as rbr_ppo:f1"),
        (
            ["objective=[rbr_ppo:f2]"],
            "no metric of this run is called 'f2'; did you mean f1? use one of f1, not",
        ),
        (
            ["objective=[rbr_ppo:f1:orcale]"],
            "no judge of f1 is called 'orcale'; did you mean oracle? use one of",
        ),
        (
            ["objective=[rbr_ppo:f1:auto:sandbx]"],
            "no suite of f1 is called 'sandbx'; did you mean sandbox",
        ),
        (
            ["objective=[rbr_ppo:acc:oracle]"],
            "no judge of acc is called 'oracle'; leave it out: acc has none",
        ),
        (["objective=[rbr_ppo:acc]"], "which 4 tasks have; name one: rbr_ppo:acc::capability/mmlu"),
        (["seed=1,2"], "Ambiguous value for argument 'seed=1,2'"),
        (["-m", "experiment=smoke,alarm"], "field 'name': the jobs of the sweep have several (smoke, alarm)"),
        (["-m", "seed=1,2", "results=a,b"], "field 'results': the jobs of the sweep have several (a, b)"),
        (["-m", "data=a.yaml,b.yaml"], "field 'data': files are not swept; put each into a folder"),
        (["seed=range(0,3)"], "requires --multirun; add -m to sweep over it"),
        (["-m", "experiment=glob(zzz*)"], "field 'experiment': 'experiment=glob(zzz*)' names no value"),
        (["-m", "seed=range(3,0)"], "field 'seed': 'seed=range(3,0)' names no value, and so no job"),
        (["-m", "seed=interval(0,3)"], "write values, or range(), or choose hydra/sweeper=optuna"),
        (["-m", "hydra.sweeper.params.seed=1,2"], "sweep over the key itself: -m KEY=1,2"),
        (["-m", "hydra.sweeper.params={seed: '1,2'}"], "field 'hydra.sweeper.params': 'NoneType' object has"),
        (["hydra.sweeper.params.seed=1"], "a key was given beneath one that is null; write it in a file"),
        (["-m", "seed=1,", "2"], "field 'seed': is '1,'; write several values without blanks, KEY=1,2"),
        (["methods=[helpful_sft]", "results=/dev/null/x"], "/dev/null/x/.hydra/"),
        (["seed=${hydra:job.num}"], "HydraConfig was not set; leave ${hydra:...} out"),
        (["-m", "seed=1,2", "hydra.sweeper.max_batch_size=0"], "field 'hydra.sweeper.max_batch_size': is 0"),
        (["-m", "seed=1,2", "hydra.launcher._target_=no.Such"], "Invalid plugin 'no.Such'"),
        (
            ["hydra.sweep.dri=x"],
            "field 'hydra.sweep.dri': no such key; --cfg hydra shows every key of Hydra's",
        ),
        (
            ["hydra.run.dir=${oc.env:NO_SUCH}/x"],
            "Environment variable 'NO_SUCH' not found\"; set it, or write",
        ),
        (["hydra.searchpath=[file:///no/such]"], "path=/no/such is not available; write file://FOLDER"),
        (
            ["hydra.job.chdir=true"],
            "field 'hydra.job.chdir': would move the folder that results= and all files",
        ),
        (["hydra.verbose=3"], "field 'hydra.verbose': is 3; write true, or the names of loggers"),
        (["~ppo.kl_coef"], "field 'ppo.kl_coef': cannot be left out; give it a value: ppo.kl_coef=VALUE"),
        (["+experiment=smoke"], "write it without +"),
        (["--cfg", "job", "--package", "hydra.run"], "is no part of what --cfg job shows; give --cfg hydra"),
        (["results="], "field 'results': is ''; name a folder"),
    ],
)
def test_what_is_mistyped_is_one_line_before_anything_runs(
    tmp_path: Path, typed: list[str], said: str
) -> None:
    """`--cfg job` ended in a lexer's error, and Hydra prints several lines where one key is wrong."""
    done = rbrbench("run", *typed, cwd=tmp_path)
    assert done.returncode == 2 and said in done.stderr and done.stderr.count("\n") == 1, done.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"name: [", "mine.yaml:1: is no YAML (expected the node content"),
        (b"name: \xe9\n", "save the files of --config-dir as UTF-8"),
        (b"seed: 1\n", "field 'experiment': the file sets keys of a group of that name; begin its file with"),
        (
            b"# @package _global_\nppo.updates: 3\n",
            "field 'ppo.updates': is written with its dots; write it as",
        ),
        (b"# @package _global_\ndefaults: [{override hydra/launcher: joblib}]\n", "`override /GROUP: NAME`"),
        (b"# @package _global_\n- seed\n", "In 'experiment/mine': Cannot merge"),
        (b"# @package _global_\nseed: ${oc.env:NO_SUCH}\n", "write ${oc.env:NAME,VALUE}"),
        (b"# @package _global_\ndefaults: [nowhere, _self_]\n", "mend the file's defaults list"),
        (
            b"# @package _global_\nhydra: {mode: MULTIRUN, sweeper: {params: {seed: [0, 1]}}}\n",
            "field 'seed': Value '[0, 1]' of type 'list' could not be converted to Integer; to sweep over",
        ),
    ],
)
def test_a_file_of_ones_own_that_does_not_fit_is_one_line(tmp_path: Path, content: bytes, said: str) -> None:
    """Bad YAML was a fault of our own, and a file without its package line was told that it is no key."""
    (tmp_path / "experiment").mkdir()
    (tmp_path / "experiment" / "mine.yaml").write_bytes(content)
    done = rbrbench("run", "--config-dir", ".", "experiment=mine", cwd=tmp_path)
    assert done.returncode == 2 and said in done.stderr and done.stderr.count("\n") == 1, done.stderr


def test_a_file_of_ones_own_is_not_passed_over_silently(tmp_path: Path) -> None:
    """Hydra takes the first `experiment/smoke.yaml` that it finds, which is ours."""
    (tmp_path / "experiment").mkdir()
    (tmp_path / "experiment" / "smoke.yaml").write_text("# @package _global_\nseed: 7\n")
    done = rbrbench("run", "--config-dir", ".", "experiment=smoke", cwd=tmp_path)
    assert done.returncode == 2 and "smoke.yaml: rbrbench has experiment=smoke too" in done.stderr


def test_names_in_a_files_sweep_are_taken_as_they_stand(tmp_path: Path) -> None:
    """`rulebook: k=v.yaml,b c.yaml` under `hydra.sweeper.params` ended in the grammar's own words."""
    (tmp_path / "experiment").mkdir()
    (tmp_path / "experiment" / "mine.yaml").write_text(
        "# @package _global_\nhydra:\n  mode: MULTIRUN\n"
        "  sweeper: {params: {rulebook: 'k=v.yaml,b c.yaml', algorithm: 'grpo,ppo', seed: 1}}\n"
    )
    typed = ["--config-dir", str(tmp_path), "experiment=mine", "seed=2"]
    with hydra_application(RunConfig, typed) as application:
        assert application.jobs is not None
        found = [
            (job.config.rulebook, job.config.algorithm.value, job.config.seed) for job in application.jobs
        ]
    assert found == [(r, a, 2) for r in ("k=v.yaml", "b c.yaml") for a in ("grpo", "ppo")]


def test_hydras_files_do_not_lie_among_the_results(finished: Path) -> None:
    """Their folders were found to be somebody else's when all had been computed."""
    for typed in (["hydra.run.dir=results/apart/x"], ["-m", "seed=0,1", "hydra.sweep.dir=results/apart"]):
        done = rbrbench(*SHORT, "name=apart", *typed, cwd=finished)
        assert done.returncode == 2 and "is where the results lie; name another folder" in done.stderr
    assert not (finished / "results" / "apart").exists()


def test_a_swept_experiment_does_not_choose_the_launcher_silently(tmp_path: Path) -> None:
    """Hydra takes the launcher before the jobs are composed: what a swept file asks for was ignored."""
    (tmp_path / "experiment").mkdir()
    lines = "# @package _global_\ndefaults: [smoke, override /hydra/launcher: joblib, _self_]\n"
    (tmp_path / "experiment" / "fast.yaml").write_text(lines)
    done = rbrbench("run", "-m", "--config-dir", ".", "experiment=smoke,fast", cwd=tmp_path)
    assert done.returncode == 2 and "give hydra/launcher=joblib on the command line" in done.stderr


def test_hydra_shows_the_configuration(tmp_path: Path) -> None:
    def shown(*typed: str) -> Done:
        done = rbrbench("run", *typed, cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        return done

    job = shown("--cfg", "job", "experiment=smoke", "algorithm=grpo", "rulebook=k=v.yaml").stdout
    assert "rulebook: k=v.yaml" in job and "algorithm: GRPO" in job and "hydra:" not in job
    assert "dir: results/.hydra/smoke/" in shown("-c", "hydra", "--resolve", "experiment=smoke").stdout
    assert shown("--cfg", "job", "--package", "ppo").stdout.startswith("# @package ppo")


def test_what_is_shown_or_refused_loads_only_what_it_needs() -> None:
    """A mistyped key and --help took the fifteen seconds of torch's and transformers' imports, then help Hydra's, then
    all of them numpy's and scipy's, which no key needs.
    """
    program = (
        "import sys; from rbrbench.cli import main; from harness.commands import COMMANDS\n"
        "def check(*names):\n"
        "    loaded = {*names} & {*sys.modules}\n"
        "    assert not loaded, loaded\n"
        "heavy = 'torch transformers datasets lm_eval sklearn numpy scipy pandas matplotlib rich'.split()\n"
        "for command in COMMANDS: assert main([command, '--help']) == 0\n"
        "assert main(['run', 'experiment=demo', 'ppo.updatess=3']) == 2\n"
        "assert main(['run', '-m', 'ppo.kl=1,2']) == 2\n"
        "check(*heavy, 'hydra', 'omegaconf', 'antlr4', 'jinja2', 'openai')\n"
        "assert main(['run', '--cfg', 'job', 'experiment=demo']) == 0 and main(['run', 'sed=1']) == 2\n"
        "assert main(['run', '--info', 'config']) == 0\n"
        "check(*heavy)"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]


@pytest.mark.parametrize("typed", [["sed=1"], ["--cfg", "job", "experiment=smoke"]])
def test_what_is_shown_or_refused_is_composed_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, typed: list[str]
) -> None:
    """A mistyped key was composed three times, a quarter of a second each, before it was told."""
    composed = []
    compose = Hydra.compose_config

    def counted(self: Hydra, *given: object, **named: object) -> object:
        composed.append(given)
        return compose(self, *given, **named)  # type: ignore[arg-type]

    monkeypatch.setattr(Hydra, "compose_config", counted)
    assert rbrbench("run", *typed, cwd=tmp_path).returncode == 2 * (typed[0] != "--cfg")
    assert len(composed) == 1


# --- the plan and the objective ---------------------------------------------------------------


def planned(folder: Path, count: int) -> SweepFolder:
    jobs = tuple(PlannedJob(n, n, "", f"digest {n}") for n in range(count))
    plan = Plan("owner", False, 0, "", {"name": "x"}, jobs)
    plan.write(folder)
    return SweepFolder(folder, plan)


def test_a_line_tells_of_all_jobs_and_the_time_left(tmp_path: Path) -> None:
    """Jobs at once told of themselves alone, and nobody knew when all would end."""
    sweep = planned(tmp_path, 5)
    jobs = sweep.jobs
    assert progress(sweep, 0.0) == "sweep: 0 of 5 jobs done, 5 waiting"
    sweep.say(jobs[0], state=DONE, stages=20, began=0.0)
    told = sweep.state(jobs[0])
    assert told is not None
    took = told.told
    sweep.say(jobs[1], state=RUNNING, stages=10, began=took)
    sweep.say(jobs[2], state=RUNNING, stages=3, began=took)
    sweep.say(jobs[3], state=FAILED, stages=1, began=took, line="out of memory", code=2)
    line = progress(sweep, took)
    assert line.startswith("sweep: 1 of 5 jobs done, 2 running (13 stages), 1 failed, 1 waiting; ")
    assert line.endswith(" h 30 min left") or " left" in line


def test_a_sweep_of_which_nothing_has_ended_says_how_far_it_is(tmp_path: Path) -> None:
    """The folder of a sweep that had just begun was said to be none that a command had made."""
    sweep = planned(tmp_path, 2)
    sweep.say(sweep.jobs[0], state=RUNNING, stages=3, began=0.0)
    done = rbrbench("report", str(tmp_path), cwd=tmp_path)
    assert done.returncode == 2 and "no job of the sweep has ended; wait, or " in done.stderr
    assert done.stdout.splitlines()[0].startswith("missing: seed 0 (3 stages done, last heard of ")
    assert done.stdout.splitlines()[1] == "missing: seed 1 (not begun)"


def test_another_sweep_of_the_name_waits_or_is_called_otherwise(tmp_path: Path) -> None:
    """It took the folder of one that ran, whose jobs then found a plan without them, a fault of our own."""
    sweep = planned(tmp_path, 2)
    other = SweepFolder(tmp_path, replace(sweep.plan, digest="other"))
    with sweeping(sweep):
        with sweeping(sweep):  # the same command
            pass
        with pytest.raises(InputError, match="computes another configuration's results"), sweeping(other):
            pass
    with sweeping(other), pytest.raises(JobFailed, match="its plan has no such job"):
        JobTask(str(tmp_path), (), 0)._planned(other, compose_run([]))


@pytest.mark.parametrize("typed", [[], ["-m", "seed=0,1"]], ids=["run", "sweep"])
def test_a_run_and_a_sweep_of_one_name_meet_at_the_start(tmp_path: Path, typed: list[str]) -> None:
    """The second computed for hours, and was refused when it wrote its record; or the first was."""
    folder = tmp_path / "results" / "one"
    for theirs in (sweeping(planned(folder, 2)), computing(folder, "a run's")):
        with theirs:
            done = rbrbench(*SHORT, *typed, "name=one", cwd=tmp_path)
            assert done.returncode == 2 and done.stderr.count("\n") == 1, done.stderr
            assert "computes another configuration's results here; choose another name=" in done.stderr
            assert not (tmp_path / "results" / ".store").exists()


def test_a_sweep_that_is_given_again_forgets_the_jobs_that_did_not_end(tmp_path: Path) -> None:
    """One that had been killed was told of as running until its turn came."""
    sweep = planned(tmp_path, 3)
    for job, state in zip(sweep.jobs, (DONE, RUNNING, FAILED), strict=True):
        sweep.say(job, state=state)
    with sweeping(sweep):
        assert progress(sweep, 0.0) == "sweep: 1 of 3 jobs done, 2 waiting"
    search = SweepFolder(tmp_path, replace(sweep.plan, adaptive=True, jobs=()))
    search.say(PlannedJob(4, 0, "", "drawn"), state=RUNNING, stages=2, began=0.0)
    assert progress(search, 0.0) == "sweep: 1 jobs done, 1 running (2 stages)"
    with sweeping(search):
        assert progress(search, 0.0) == "sweep: 1 jobs done"


def test_a_search_has_a_value_for_each_direction() -> None:
    """Without `objective=` its first batch was computed, and told it nothing."""
    with pytest.raises(InputError, match=r"has 0 values, and hydra.sweeper.direction 1; give one METHOD:"):
        check_directions([], {"direction": "minimize"})
    check_directions(["rbr_ppo:f1", "rbr_ppo:not_unsafe"], {"direction": ["maximize", "maximize"]})
    check_directions([], {"params": None})


def test_what_a_launcher_says_is_no_fault_of_ours(finished: Path) -> None:
    """A queue that refused, or a killed process, was exit code 70 and a page of trace."""
    typed = ["-m", "seed=0,1", "name=refused", "hydra/launcher=joblib", "hydra.launcher.batch_size=-1"]
    done = rbrbench(*SHORT, *typed, cwd=finished)
    assert done.returncode == 2 and "Hydra gave the sweep up (ValueError: batch_size must be" in done.stderr
    assert "Traceback" not in done.stderr
    done = rbrbench(*SHORT, "name=refused", "hydra.job_logging.root.level=LOUD", cwd=finished)
    assert done.returncode == 2 and "Unable to configure root logger: Unknown level: 'LOUD'" in done.stderr


def test_a_sweep_that_cannot_begin_leaves_no_plan(tmp_path: Path) -> None:
    """Hydra said so after the plan was written, in words of its own."""
    (tmp_path / "file").write_text("")
    for typed, said in {
        "hydra.sweep.dir=file/here": "file/here: cannot be written (file is a file)",
        "hydra.launcher.n_jobs=0": "field 'hydra.launcher.n_jobs': is 0",
    }.items():
        done = rbrbench(*SHORT, "-m", "seed=0,1", "hydra/launcher=joblib", typed, cwd=tmp_path)
        assert done.returncode == 2 and said in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_hydras_logging_names_loggers_that_there_are() -> None:
    """It named the module of a launcher that had moved, whose lines nobody saw."""
    loggers = yaml.safe_load((ROOT / "conf/hydra/hydra_logging/rbrbench.yaml").read_text())["loggers"]
    assert {"hydra", "harness.runtime.ray_launcher"} <= {*loggers}
    assert all(name == "hydra_plugins" or find_spec(name) for name in loggers)


def test_a_plan_counts_what_its_own_jobs_have_made_alone(tmp_path: Path) -> None:
    """Another sweep of the same name had left jobs of other settings behind."""
    sweep = planned(tmp_path, 2)
    other = PlannedJob(0, 0, "", "another digest")
    sweep.say(other, state=DONE)
    assert not sweep.is_done(sweep.jobs[0])
    read = read_sweep(tmp_path)
    assert read is not None and read.plan == sweep.plan
    (tmp_path / "manifest.json").write_text('{"config_digest": "another run"}')
    assert read_sweep(tmp_path) is None
    sweep.keep(sweep.jobs[1], {"x": [1.5, float("nan")]})
    assert str(sweep.made(sweep.jobs[1])["x"]) == "[1.5, nan]"
    (tmp_path / "jobs" / "1.made.json.gz").write_bytes(b"cut")
    with pytest.raises(InputError, match=r"1.made.json.gz: cannot be read"):
        sweep.made(sweep.jobs[1])


def test_a_sweeper_is_told_the_metric_that_is_asked_for() -> None:
    """A study of Optuna had nothing to go by; what was not measured is no 0."""

    def row(metric: str, value: float, judge: str = "oracle", checkpoint: str = "mean") -> MetricRow:
        return MetricRow("rbr_grpo[x=1]", 0, checkpoint, "sandbox", metric, judge, value, 0, 0, 1, 9, 0)

    config = compose_run(["algorithm=grpo", "methods=[rbr_ppo]"])
    rows = [
        row("f1", 0.5),
        row("f1", 0.25, "auto"),
        row("f1", 0.9, checkpoint="4"),
        row("style", float("nan")),
    ]
    assert objective_of(config, rows, SweepObjective("rbr_ppo", "f1")) == 0.5
    assert objective_of(config, rows, SweepObjective("rbr_ppo", "f1", "auto")) == 0.25
    with pytest.raises(UndecidableError, match="'rbr_ppo:style' was not measured"):
        objective_of(config, rows, SweepObjective("rbr_ppo", "style"))
    with pytest.raises(
        InputError, match="names 0 values; write METHOD:METRIC:JUDGE:SUITE of f1:oracle:sandbox"
    ):
        objective_of(config, rows, SweepObjective("rbr_ppo", "f2"))


def test_every_metric_of_a_run_can_be_its_objective(smoke_run: Path, tmp_path: Path) -> None:
    """What is told as mistyped before anything runs is no name that some run has."""
    config = compose_run(["experiment=smoke"])
    measured = measured_by(config.data.source, config.evaluation, config.capability)
    rows = read_metrics(smoke_run / "results/smoke/metrics.csv")
    named = {(r.metric, r.judge, r.suite) for r in rows if not r.suite.startswith("synthetic/")}
    assert {metric for metric, _, _ in named} >= {"f1", "soft_refusal_style", "acc", "acc_norm"}
    for metric, judge, suite in named:
        check_objective(SweepObjective("rbr_ppo", metric, judge, suite), measured)
        if metric != "acc":  # of four tasks
            check_objective(SweepObjective("rbr_ppo", metric), measured)
    more = ["evaluation.judges=[words]", "evaluation.correction.by=oracle", "evaluation.suites=[xstest]"]
    config = compose_run(["experiment=smoke", *more, f"capability.root={tmp_path}"])
    measured = measured_by(config.data.source, config.evaluation, config.capability)
    for asked in ("f1:words+ppi:xstest", "not_unsafe:oracle:xstest/comply", "mc2", "acc::capability/mmlu"):
        check_objective(SweepObjective("rbr_ppo", *asked.split(":")), measured)
    with pytest.raises(InputError, match="no suite of f1 is called 'sandbox/comply'"):
        check_objective(SweepObjective("rbr_ppo", "f1", "", "sandbox/comply"), measured)
    with pytest.raises(InputError, match="no suite of mc2 is called 'xstest'; use one of capability/"):
        check_objective(SweepObjective("rbr_ppo", "mc2", "", "xstest"), measured)


def test_a_jobs_failure_passes_between_processes() -> None:
    """An error whose pickle could not be read broke the whole pool of workers."""
    make, values = JobFailed("too much is unscored", 3).__reduce__()[:2]  # type: ignore[misc]
    again = make(*values)
    assert (str(again), again.exit_code) == ("too much is unscored", 3)


def test_each_job_of_joblib_has_a_gpu_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """All jobs of one machine took its first GPU."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    assert take_gpu() is None
    taken = []
    for _ in range(2):  # as two processes would
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "GPU-a,GPU-b")
        taken.append(take_gpu())
    assert taken == ["GPU-a", "GPU-b"] and os.environ["CUDA_VISIBLE_DEVICES"] == "GPU-b"
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "GPU-a,GPU-b")
    with pytest.raises(
        InputError, match="more jobs at once than the 2 GPUs here; give hydra.launcher.n_jobs=2"
    ):
        take_gpu()


# --- results side by side ---------------------------------------------------------------------


def test_results_are_compared_by_seed_and_by_prompt(finished: Path, smoke_run: Path) -> None:
    """Two finished runs could be drawn together only by running one with the other as its baseline."""
    copytree(smoke_run / "results/smoke", finished / "results/first")
    other = rbrbench(*SHORT, "evaluation.max_new_tokens=6", "name=second", cwd=finished)
    assert other.returncode == 0, other.stderr
    done = rbrbench("compare", "results/first", "results/second", "name=both", cwd=finished)
    assert done.returncode == 0, done.stderr
    results = finished / "results/both"
    metrics = (results / "metrics.csv").read_text()
    assert "helpful_sft[first]" in metrics and "helpful_sft[second]" in metrics
    compared = (results / "comparisons.csv").read_text()
    assert "helpful_sft (first),helpful_sft (second)" in compared and "rbr_ppo" not in compared
    page = (results / "report.html").read_text()
    assert "Helpful-SFT (first) − Helpful-SFT (second)" in page and '<section id="seeds">' in page
    assert rbrbench("report", "results/both", cwd=finished).returncode == 0
    assert page == (results / "report.html").read_text()
    for wrong, said in (
        (["results/first"], "two folders of results are needed"),
        (["results/first", "results/first"], "is named twice"),
        (["results/first", "results"], "results: no finished run or evaluation lies here"),
        (["results/first", "results/secnd"], "results/secnd: no such folder"),
    ):
        refused = rbrbench("compare", *wrong, cwd=finished)
        assert refused.returncode == 2 and said in refused.stderr, refused.stderr
