"""The settings that all connections share."""

from __future__ import annotations

from dataclasses import dataclass, field, fields

from ..config import Config


@dataclass(frozen=True, slots=True)
class ProtocolSettings:
    """What the protocol needs of :class:`jobpush.config.Config`; units, defaults and reasons are told there."""

    key: str
    secrets: tuple[str, ...] = field(repr=False)
    activity_timeout: int
    pong_timeout: float
    idle_timeout: int
    signin_timeout: float
    max_channels: int
    max_user_info: int
    max_watchlist: int
    max_message: int
    max_client_data: int
    client_event_rate: int
    message_rate: int

    @classmethod
    def from_config(cls, config: Config) -> ProtocolSettings:
        """Take over the settings of the same names."""
        values = {item.name: getattr(config, item.name) for item in fields(cls)}
        return cls(**values)
