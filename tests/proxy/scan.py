"""A scan by Debian's sslscan, and the deviations from Mozilla's intermediate profile.

The profile is version 5.7 of Mozilla's guidelines for servers, without its three DHE ciphers, which
only clients without elliptic curves need.
"""

from __future__ import annotations

import subprocess
import xml.etree.ElementTree as ET

from tests.ca import unpacked

PROGRAM = "usr/bin/sslscan"
PROTOCOLS = {"TLSv1.2", "TLSv1.3"}
CIPHERS = {
    "TLS_AES_128_GCM_SHA256", "TLS_AES_256_GCM_SHA384", "TLS_CHACHA20_POLY1305_SHA256",
    "ECDHE-ECDSA-AES128-GCM-SHA256", "ECDHE-RSA-AES128-GCM-SHA256",
    "ECDHE-ECDSA-AES256-GCM-SHA384", "ECDHE-RSA-AES256-GCM-SHA384",
    "ECDHE-ECDSA-CHACHA20-POLY1305", "ECDHE-RSA-CHACHA20-POLY1305",
}  # fmt: skip
GROUPS = {"x25519", "secp256r1 (NIST P-256)", "secp384r1 (NIST P-384)", "X25519MLKEM768"}


def scanned(address: str, port: int, host: str) -> ET.Element:
    """The result for a host at an address of this machine."""
    program, environment = unpacked.program("sslscan", PROGRAM)
    done = subprocess.run(
        arguments(str(program), address, port, host), env=environment, capture_output=True,
        text=True, check=True, timeout=300,
    )  # fmt: skip
    return parsed(done.stdout)


def arguments(program: str, address: str, port: int, host: str) -> list[str]:
    """The command that scans a host at an address."""
    return [program, "--xml=-", "--no-colour", f"--sni-name={host}", f"{address}:{port}"]


def parsed(output: str) -> ET.Element:
    """The result in sslscan's output."""
    found = ET.fromstring(output).find("ssltest")  # noqa: S314
    assert found is not None, output
    return found


def deviations(found: ET.Element) -> list[str]:
    """The differences between a scan and the profile; none for one that offers the same."""
    protocols = {f"{one.get('type', '').upper()}v{one.get('version')}"
                 for one in found.iter("protocol") if one.get("enabled") == "1"}  # fmt: skip
    wrong = [f"protocol {one}" for one in sorted(protocols ^ PROTOCOLS)]
    wrong += [f"cipher {one.get('cipher')}" for one in found.iter("cipher")
              if one.get("cipher") not in CIPHERS]  # fmt: skip
    wrong += [f"group {one.get('name')}" for one in found.iter("group")
              if one.get("name") not in GROUPS]  # fmt: skip
    for name, attribute in (
        ("renegotiation", "supported"), ("compression", "supported"), ("heartbleed", "vulnerable"),
    ):  # fmt: skip
        wrong += [name for one in found.iter(name) if one.get(attribute) == "1"]
    return wrong
