"""What is in deploy/: files that parse, one set-up that every role can read, and commands that the command line knows."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from mpcc.serving.config import ROLES, read

DEPLOY = Path(__file__).parents[2] / "deploy"
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
