"""Follows a bundle on disk: a mounted ConfigMap, or any directory with the same files.

Every file is verified against its name before anything of it is used, and again whenever
something on disk changes. What does not verify is never served: the last bundle that did stays
in use, and the reason is kept for people. Polling is cheap (one directory listing) and works on
every file system; where the system tells of a swap, `watching` has it looked at in between.
"""

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Final

from headwater.contract import bundle
from headwater.contract.assembly import PreparedContract, prepare
from headwater.contract.copies import Copies
from headwater.contract.digest import Digest
from headwater.contract.errors import BundleError
from headwater.contract.route import Route
from headwater.sidecar.files import read_regular

_log: Final = logging.getLogger(__name__)

_DATA_LINK: Final = "..data"
"""The kubelet's symlink to the current files; it is replaced in one step (AtomicWriter)."""
_PROVIDER: Final = "anthropic"
_ATTEMPTS: Final = 3

_State = tuple[object, ...]


@dataclass(frozen=True)
class Served:
    """A verified bundle, ready for use."""

    route: Route
    contracts: Mapping[Digest, PreparedContract]

    @cached_property
    def copies(self) -> Copies:
        """The versions of which a client may send a copy."""
        return Copies(contract.published for contract in self.contracts.values())


class BundleFollower:
    """The last bundle of a directory that verified.

    Attributes:
        directory: where it is, or will be.
        served: None until a bundle verified.
        problem: why what is on disk now is not what is served; None where it is.
        refusals: how often something on disk was refused.
    """

    def __init__(self, directory: Path) -> None:
        """Follow `directory`, which need not exist yet; nothing is read before `poll`."""
        self.directory = directory
        self._judged: _State | None = None
        self._confirmed = False
        self.served: Served | None = None
        self.problem: str | None = f"{directory} was not read yet."
        self.refusals = 0

    def poll(self) -> bool:
        """Look at the directory, and read it where it changed; True where it was read.

        A reading is repeated once at the next poll, because a write that follows within one
        tick of the file system's clock leaves no other trace.
        """
        try:
            before, files = self._settled()
            if files is None:
                return False
            self._confirmed = before == self._judged
            self._judged = before
            self._serve(bundle.decode(files))
        except BundleError as error:
            self._refuse(str(error))
        except OSError as error:
            self._judged = None
            self._refuse(f"{self.directory} cannot be read: {error.strerror or error}.")
        return True

    def _settled(self) -> tuple[_State, dict[str, bytes] | None]:
        """The state and the files of one moment; no files where nothing changed.

        A directory that changes under the reader is read again: the kubelet swaps the files and
        then removes the old ones.
        """
        problem: Exception = BundleError(f"{self.directory} changes while it is read.")
        for _ in range(_ATTEMPTS):
            try:
                before = self._state()
                if before == self._judged and self._confirmed:
                    return before, None
                files = self._read()
                if self._state() == before:
                    return before, files
            except FileNotFoundError as error:
                problem = error
        raise problem

    def _state(self) -> _State:
        """What changes whenever a file's bytes do: link target, names, times, sizes, inodes."""
        link = self.directory / _DATA_LINK
        target = str(link.readlink()) if link.is_symlink() else ""
        stats = ((path.name, path.stat()) for path in self._files())
        return (
            target,
            *sorted(
                (name, stat.st_mtime_ns, stat.st_ctime_ns, stat.st_size, stat.st_ino)
                for name, stat in stats
            ),
        )

    def _files(self) -> list[Path]:
        # Through the link's target, once: a swap while reading then shows as a missing file or
        # as another state, never as a mixture.
        link = self.directory / _DATA_LINK
        where = self.directory / link.readlink() if link.is_symlink() else self.directory
        return [path for path in where.iterdir() if path.name.endswith((".json", ".json.gz"))]

    def _read(self) -> dict[str, bytes]:
        return {path.name: read_regular(path, bundle.CONTRACT_LIMIT) for path in self._files()}

    def _serve(self, read: bundle.Bundle) -> None:
        if read.route.provider != _PROVIDER:
            raise BundleError(
                f"the bundle is for {read.route.provider!r}, and this sidecar speaks {_PROVIDER}."
            )
        # A digest is of these very bytes, so what was made of them before is right.
        known = self.served.contracts if self.served else {}
        contracts = {
            digest: known.get(digest) or prepare(data) for digest, data in read.contracts.items()
        }
        served = Served(read.route, contracts)
        if served != self.served:
            _log.info(
                "bundle verified",
                extra={
                    "prefix": f"{read.route.namespace}/{read.route.prefix}",
                    "epoch": read.route.epoch,
                    "digests": [revision.digest.short for revision in read.route.revisions],
                },
            )
        elif self.problem is not None:
            _log.info("bundle verified again")
        self.served = served
        self.problem = None

    def _refuse(self, problem: str) -> None:
        if problem != self.problem:
            self.refusals += 1
            _log.warning(
                "bundle refused, %s",
                "the last good one stays in use" if self.served else "no request is served",
                extra={"problem": problem},
            )
        self.problem = problem
