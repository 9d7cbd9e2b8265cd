"""How this machine's pip reaches its package index, for builds of images.

Containers see nothing of the machine's configuration, so it is handed to them for the time of the build. Nothing of it
may stay in an image or in a repository.
"""

import configparser
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Final

# Where and how; what pip does with what it got is for the Dockerfile to say.
_KEYS: Final = ("index-url", "extra-index-url", "trusted-host", "proxy", "timeout", "retries")
_AUTHORITIES: Final = ("PIP_CERT", "REQUESTS_CA_BUNDLE", "SSL_CERT_FILE", "CURL_CA_BUNDLE")


def settings(environment: Mapping[str, str], files: list[Path]) -> dict[str, str]:
    """Pip's settings by key, as the files and then the environment give them."""
    found: dict[str, str] = {}
    for path in files:
        parser = configparser.RawConfigParser()
        parser.read(path)
        for section in ("global", "install"):
            if parser.has_section(section):
                found |= dict(parser.items(section))
    authority = next((environment[name] for name in _AUTHORITIES if environment.get(name)), None)
    found |= {"cert": authority} if authority else {}
    found |= {key: value for key in _KEYS if (value := environment.get(f"PIP_{key.upper().replace('-', '_')}"))}
    return {key: value for key, value in found.items() if key in (*_KEYS, "cert")}


def files(environment: Mapping[str, str], home: Path) -> list[Path]:
    """Pip's configuration files, the ones that win last."""
    named = environment.get("PIP_CONFIG_FILE")
    if named == os.devnull:
        return []
    usual = [Path("/etc/pip.conf"), home / ".pip" / "pip.conf", home / ".config" / "pip" / "pip.conf"]
    return [*usual, *([Path(named)] if named else [])]


def written(found: Mapping[str, str]) -> str:
    """The settings as a configuration file."""
    return "[global]\n" + "".join(f"{key} = {' '.join(value.split())}\n" for key, value in sorted(found.items()))
