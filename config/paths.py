"""Every file and socket of one tree, derived from its two directories.

Rules: the data directory outlives everything; the runtime directory holds only what a running tree needs and may be
empty at start. Nothing here touches the disk.
"""

import hashlib
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Paths:
    """Where things are. Both directories are absolute.

    Raises ValueError when one of them is not.
    """

    data_dir: Path
    runtime_dir: Path

    def __post_init__(self) -> None:
        for directory in (self.data_dir, self.runtime_dir):
            if not directory.is_absolute():
                raise ValueError(f"not an absolute path: {str(directory)!r}")

    @property
    def ca_dir(self) -> Path:
        """Keys, certificates and database of the certificate authority."""
        return self.data_dir / "ca"

    @property
    def profiles_dir(self) -> Path:
        """The operator's own certificate profiles, where `ca.profiles_dir` says nothing else."""
        return self.ca_dir / "profiles"

    @property
    def hierarchy(self) -> Path:
        """Which roots and intermediates the certificate authority has."""
        return self.ca_dir / "hierarchy.json"

    @property
    def root_certificate(self) -> Path:
        """The root certificate (PEM), for clients to trust."""
        return self.ca_dir / "root.pem"

    @property
    def ct_dir(self) -> Path:
        """Key, tiles and database of the Certificate Transparency log."""
        return self.data_dir / "ct"

    @property
    def api_dir(self) -> Path:
        """The API's own key and certificate."""
        return self.data_dir / "api"

    @property
    def admin_token(self) -> Path:
        """The administrator's bearer token (0600)."""
        return self.data_dir / "admin.token"

    @property
    def lock(self) -> Path:
        """Locked while a supervisor runs on this data directory."""
        return self.data_dir / "supervisor.lock"

    @property
    def deaths(self) -> Path:
        """How workers died: one JSON object a line."""
        return self.data_dir / "supervisor" / "deaths.jsonl"

    @property
    def control_socket(self) -> Path:
        """Where the supervisor takes the operator's commands."""
        return self.runtime_dir / "control.sock"

    def rpc_socket(self, service: str) -> Path:
        """Where `service` answers calls of the other services."""
        return self.runtime_dir / f"{service}.sock"

    @property
    def block_name(self) -> str:
        """Name of the shared-memory block: the same for every program that is given the same data directory."""
        digest = hashlib.sha256(str(self.data_dir).encode("utf-8", "surrogateescape"))
        return f"trustchain-{digest.hexdigest()[:12]}"
