"""The certificates and the key that one control plane needs. None outlives a day."""

import datetime as dt
import ipaddress
from collections.abc import Iterable
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from paritygate import clock

SERVER_NAMES = ("127.0.0.1", "localhost", "kubernetes.default.svc")


def write(folder: Path, *more: str) -> "Authority":
    """Writes ca.crt, server.crt and server.key, and accounts.key, which signs tokens; who signed them.

    The server is called 127.0.0.1, and whatever `more` names.
    """
    authority = Authority(folder, "control-plane-for-tests")
    authority.issue("server", "kube-apiserver", names=(*SERVER_NAMES, *more))
    _write_key(folder / "accounts.key", ec.generate_private_key(ec.SECP256R1()))
    return authority


class Authority:
    """Who signs all certificates of one control plane. Its key lives in memory only."""

    def __init__(self, folder: Path, name: str) -> None:
        """Writes ca.crt into the folder."""
        self._folder = folder
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        self._key = ec.generate_private_key(ec.SECP256R1())
        builder = self._certificate(self._name, self._key, _usage(authority=True))
        self._write("ca", builder.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True))

    def issue(self, file: str, name: str, groups: Iterable[str] = (), names: Iterable[str] = ()) -> None:
        """Writes a certificate and its key: for a client called `name`, for a server at the addresses `names`."""
        parts = [(NameOID.COMMON_NAME, name), *((NameOID.ORGANIZATION_NAME, group) for group in groups)]
        subject = x509.Name([x509.NameAttribute(kind, value) for kind, value in parts])
        key = ec.generate_private_key(ec.SECP256R1())
        # Python 3.13 and newer want to see whose signature it is.
        signer = x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key())
        builder = self._certificate(subject, key, _usage(authority=False)).add_extension(signer, critical=False)
        if found := [_general(one) for one in names]:
            builder = builder.add_extension(x509.SubjectAlternativeName(found), critical=False)
        self._write(file, builder)
        _write_key(self._folder / f"{file}.key", key)

    def _certificate(
        self, subject: x509.Name, key: ec.EllipticCurvePrivateKey, usage: x509.KeyUsage
    ) -> x509.CertificateBuilder:
        now = clock.now()
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - dt.timedelta(minutes=5))
            .not_valid_after(now + dt.timedelta(days=1))
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
            .add_extension(usage, critical=True)
        )

    def _write(self, file: str, builder: x509.CertificateBuilder) -> None:
        signed = builder.sign(self._key, hashes.SHA256())
        (self._folder / f"{file}.crt").write_bytes(signed.public_bytes(serialization.Encoding.PEM))


def _general(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def _usage(*, authority: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=True,
        key_cert_sign=authority,
        crl_sign=authority,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _write_key(path: Path, key: ec.EllipticCurvePrivateKey) -> None:
    path.touch(mode=0o600)
    path.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.TraditionalOpenSSL,  # what the API server reads
            serialization.NoEncryption(),
        )
    )
