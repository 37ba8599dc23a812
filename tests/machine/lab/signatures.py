"""What releases are trusted by: certificates of an authority of ours, and OpenPGP keys by gpg."""

import datetime
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from lab.host import run

AUTHORITY, CERTIFICATE, KEY = "authority.crt", "server.crt", "server.key"
DAY = datetime.timedelta(days=1)


def certificates(folder: Path, *names: str) -> None:
    """Make an authority, and a key with its certificate for names of a server."""
    authority, key = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
    issuer = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "lab")])
    now = datetime.datetime.now(datetime.UTC)
    # Python 3.13 asks for what RFC 5280 has in 4.2.1.1 to 4.2.1.3.
    identifier = x509.SubjectKeyIdentifier.from_public_key(authority.public_key())
    issued = x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(identifier)
    usage = x509.KeyUsage(
        key_cert_sign=True, crl_sign=True, digital_signature=False, content_commitment=False,
        key_encipherment=False, data_encipherment=False, key_agreement=False,
        encipher_only=False, decipher_only=False,
    )  # fmt: skip
    usual = x509.CertificateBuilder().issuer_name(issuer).not_valid_before(now - DAY)
    usual = usual.not_valid_after(now + 30 * DAY)
    root = (
        usual.subject_name(issuer)
        .public_key(authority.public_key())
        .serial_number(1)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .add_extension(identifier, critical=False)
        .add_extension(usage, critical=True)
        .sign(authority, hashes.SHA256())
    )
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, names[0])])
    alternatives = x509.SubjectAlternativeName([x509.DNSName(name) for name in names])
    leaf = (
        usual.subject_name(subject)
        .public_key(key.public_key())
        .serial_number(2)
        .add_extension(alternatives, critical=False)
        .add_extension(issued, critical=False)
        .sign(authority, hashes.SHA256())
    )
    pem = serialization.Encoding.PEM
    (folder / AUTHORITY).write_bytes(root.public_bytes(pem))
    (folder / CERTIFICATE).write_bytes(leaf.public_bytes(pem))
    private, plain = serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    (folder / KEY).write_bytes(key.private_bytes(pem, private, plain))


@dataclass(frozen=True)
class Signer:
    """Somebody with OpenPGP keys, by their fingerprints."""

    home: Path

    @classmethod
    @contextmanager
    def made(cls) -> Iterator["Signer"]:
        """Make a home for gpg, and remove it."""
        # In /tmp: the path of the agent's socket must fit sun_path (unix(7)).
        with tempfile.TemporaryDirectory(prefix="gpg-", dir="/tmp") as folder:
            signer = cls(Path(folder))
            try:
                yield signer
            finally:
                run(["gpgconf", "--homedir", folder, "--kill", "all"], check=False)

    @staticmethod
    def possible() -> bool:
        """Whether gpg is here."""
        return bool(shutil.which("gpg") and shutil.which("gpgconf") and shutil.which("gpg-agent"))

    def _gpg(self, *words: str | Path) -> str:
        argv: list[str | Path] = [
            "gpg",
            "--homedir",
            self.home,
            "--batch",
            "--quiet",
            "--yes",
            "--passphrase",
            "",
        ]
        return run([*argv, "--pinentry-mode", "loopback", *words]).stdout

    def key(self, name: str, *words: str, expires: str = "never") -> str:
        """Make a key, which signs; ``words`` are options of gpg, such as another time."""
        self._gpg(
            *words, "--quick-generate-key", f"{name} <{name}@lab>", "ed25519", "sign", expires
        )
        return self.fingerprint(name)

    def fingerprint(self, name: str) -> str:
        """Return the fingerprint of the primary key."""
        listed = self._gpg("--with-colons", "--list-keys", f"{name}@lab").splitlines()
        return next(line.split(":")[9] for line in listed if line.startswith("fpr:"))

    def subkey(self, fingerprint: str) -> None:
        """Add a subkey, which signs from then on."""
        self._gpg("--quick-add-key", fingerprint, "ed25519", "sign", "never")

    def revoke(self, fingerprint: str) -> None:
        """Revoke a key with the certificate that was made with it."""
        path = self.home / "openpgp-revocs.d" / f"{fingerprint}.rev"
        ready = self.home / "revocation"
        ready.write_text(path.read_text().replace(":---", "---"))
        self._gpg("--import", ready)

    def sign(self, file: Path, fingerprint: str, *words: str, armor: bool = True) -> bytes:
        """Return a detached signature of a file."""
        out = self.home / "signature"
        how = ["--armor"] if armor else []
        self._gpg(*words, *how, "--local-user", fingerprint, "--output", out, "--detach-sign", file)
        return out.read_bytes()

    def export(self, fingerprint: str, *, armor: bool = True) -> bytes:
        """Return a public key."""
        out = self.home / "key"
        self._gpg(*(["--armor"] if armor else []), "--output", out, "--export", fingerprint)
        return out.read_bytes()
