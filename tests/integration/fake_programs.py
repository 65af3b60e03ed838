"""Scripts that stand in for programs: they know their version, and note that they were run."""

import json
from pathlib import Path


def program(path: Path, script: str) -> Path:
    """Write a shell script as an executable."""
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    return path


def fake_control_plane(directory: Path, kubernetes: str, etcd: str) -> Path:
    """Executables that know their version and nothing else; `asked` counts how often."""
    directory.mkdir()
    answers = {
        "etcd": f"etcd Version: {etcd}",
        "kube-apiserver": f"Kubernetes {kubernetes}",
        "kube-controller-manager": f"Kubernetes {kubernetes}",
        "kubectl": json.dumps({"clientVersion": {"gitVersion": kubernetes}}),
    }
    for name, answer in answers.items():
        program(
            directory / name,
            f"echo {name} >> {directory}/asked\n"
            f"case $1 in *version) echo '{answer}' && exit;; esac\necho disk on fire\nexit 3",
        )
    return directory
