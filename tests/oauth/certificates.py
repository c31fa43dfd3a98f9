"""Writes an authority, and a certificate of this machine with its key: `python certificates.py FOLDER`."""

import sys
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

DAY = timedelta(days=1)
AUTHORITY = "authority of the tests"


def name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, text)])


def signed(
    subject: str, key: ec.EllipticCurvePrivateKey, by: ec.EllipticCurvePrivateKey, extension: x509.ExtensionType
) -> bytes:
    made = x509.CertificateBuilder().subject_name(name(subject)).issuer_name(name(AUTHORITY))
    made = made.public_key(key.public_key()).serial_number(x509.random_serial_number())
    made = made.not_valid_before(datetime.now(UTC) - DAY).not_valid_after(datetime.now(UTC) + DAY)
    return made.add_extension(extension, critical=True).sign(by, hashes.SHA256()).public_bytes(Encoding.PEM)


def main() -> None:
    folder = Path(sys.argv[1])
    authority, own = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
    hosts = x509.SubjectAlternativeName([x509.DNSName("localhost"), x509.IPAddress(ip_address("127.0.0.1"))])
    is_authority = x509.BasicConstraints(ca=True, path_length=None)
    (folder / "ca.pem").write_bytes(signed(AUTHORITY, authority, authority, is_authority))
    (folder / "cert.pem").write_bytes(signed("localhost", own, authority, hosts))
    key = own.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    (folder / "key.pem").write_bytes(key)


main()
