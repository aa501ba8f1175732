"""Says whether a file of alert rules can be used: `python -m services.monitor.check_rules alerts.yaml`."""

from __future__ import annotations

import sys
from pathlib import Path

from libs.common.egress import Egress
from services.monitor.adapters.apprise_channels import AppriseSender
from services.monitor.adapters.rule_files import load
from services.monitor.domain.rules import InvalidRule


def main(path: Path) -> int:
    """0 and a summary, or 1 and what is wrong."""
    if not path.exists():
        sys.stderr.write(f"{path} is not there.\n")
        return 1
    try:
        config = load(path)
        AppriseSender(config.channels, Egress())
    except (InvalidRule, ValueError) as error:
        sys.stderr.write(f"{error}\n")
        return 1
    names = ", ".join(channel.name for channel in config.channels) or "none"
    sys.stdout.write(f"{len(config.rules)} rules, channels: {names}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1] if len(sys.argv) > 1 else "alerts.yaml")))
