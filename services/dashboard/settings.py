"""What the dashboard must know: where it listens, where the gateway is, and whose key it uses."""

from __future__ import annotations

from pydantic import Field, SecretStr

from libs.common.settings import HomeSettings, host_of
from model_training.home import Home

LOOPBACK = frozenset({"127.0.0.1", "localhost", "::1"})


class DashboardSettings(HomeSettings):
    """The dashboard knows no database and no broker: only the gateway."""

    gateway_url: str = Field(default="http://127.0.0.1:8000", description="The public door.")
    dashboard_url: str = Field(default="http://127.0.0.1:8008", description="Where the dashboard listens.")
    dashboard_api_key: SecretStr | None = Field(
        default=None, description="The key of everybody who opens the dashboard; without it people log in."
    )
    dashboard_login: bool = Field(
        default=False, description="Ask for a key also where the platform's own lies in the data directory."
    )
    dashboard_secret: SecretStr | None = Field(
        default=None,
        description="Seals the logins in people's cookies; kept in the data directory where it is not set.",
    )
    dashboard_hosts: list[str] = Field(
        default=["127.0.0.1", "localhost", "[::1]", "dashboard"],
        description="Host headers that are answered.",
    )
    grafana_url: str | None = Field(
        default=None, description="Where Grafana listens; the page Monitoring links to its dashboards."
    )
    log_level: str = Field(default="INFO", description="DEBUG, INFO, WARNING or ERROR.")

    def shared_key(self) -> str | None:
        """The key that is used without a login, if any: the one that was set, else this machine's own.

        The machine's own is for whoever sits at it: never where other machines reach the dashboard.
        """
        if self.dashboard_login:
            return None
        if self.dashboard_api_key is not None:
            return self.dashboard_api_key.get_secret_value()
        if host_of(self.dashboard_url) not in LOOPBACK:
            return None
        try:
            return Home(self.home).api_key_file.read_text(encoding="utf-8").strip() or None
        except OSError:
            return None
