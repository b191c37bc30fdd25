"""deploy/Dockerfile as text: what must hold wherever it is built. tests/deploy/test_image.py runs what was built."""

from __future__ import annotations

import re

from scheduler import __version__
from tests.deploy.tools import ROOT, run

TEXT = (ROOT / "deploy" / "Dockerfile").read_text()


def test_hadolint() -> None:
    """The real linter has nothing to say."""
    done = run("hadolint", ROOT / "deploy" / "Dockerfile")
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_shape() -> None:
    """Two stages, a numeric user that is not root, exec form, the version of the package."""
    assert len(re.findall(r"^FROM ", TEXT, re.MULTILINE)) == 2
    last = TEXT.rpartition("\nFROM ")[2]
    assert re.search(r"^USER [1-9]\d*:[1-9]\d*$", last, re.MULTILINE)
    assert 'ENTRYPOINT ["schedd"]' in last
    assert f"ARG VERSION={__version__}\n" in last
    assert "--require-hashes -r requirements.lock" in TEXT


def test_the_context_has_what_is_copied() -> None:
    """.dockerignore lets in each thing that COPY names, and no more of the checkout."""
    allowed = set(re.findall(r"^!(.+)$", (ROOT / ".dockerignore").read_text(), re.MULTILINE))
    copied = {name for line in re.findall(r"^COPY (?!--from)(.+) \S+$", TEXT, re.MULTILINE) for name in line.split()}
    assert copied == allowed
