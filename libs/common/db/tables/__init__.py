"""Every table of the platform. One Alembic history (`migrations`) creates them; a test proves the two equal."""

from __future__ import annotations

from libs.common.db.tables.accounts import ApiKeyRow, AuditRow, ConfigVersionRow, IdempotencyRow, ProjectRow
from libs.common.db.tables.base import Base, Json
from libs.common.db.tables.jobs import (
    CheckpointRow,
    DeviceLeaseRow,
    JobEventRow,
    JobMetricRow,
    JobRow,
    JobShardRow,
    JobUsageRow,
    OutboxRow,
    PipelineStepRow,
    SweepRunRow,
)
from libs.common.db.tables.monitoring import (
    AlertDeliveryRow,
    AlertRow,
    AlertSilenceRow,
    CanaryRoundRow,
    DriftReferenceRow,
    LiveSampleRow,
    MetricHistoryRow,
    MetricSeriesRow,
    ModelUsageRow,
)
from libs.common.db.tables.resources import (
    ArtifactRow,
    EndpointRow,
    EvaluationItemRow,
    FileRow,
    IndexRow,
    ModelAliasRow,
    ModelRow,
    VoteRow,
)

__all__ = [
    "AlertDeliveryRow",
    "AlertRow",
    "AlertSilenceRow",
    "ApiKeyRow",
    "ArtifactRow",
    "AuditRow",
    "Base",
    "CanaryRoundRow",
    "CheckpointRow",
    "ConfigVersionRow",
    "DeviceLeaseRow",
    "DriftReferenceRow",
    "EndpointRow",
    "EvaluationItemRow",
    "FileRow",
    "IdempotencyRow",
    "IndexRow",
    "JobEventRow",
    "JobMetricRow",
    "JobRow",
    "JobShardRow",
    "JobUsageRow",
    "Json",
    "LiveSampleRow",
    "MetricHistoryRow",
    "MetricSeriesRow",
    "ModelAliasRow",
    "ModelRow",
    "ModelUsageRow",
    "OutboxRow",
    "PipelineStepRow",
    "ProjectRow",
    "SweepRunRow",
    "VoteRow",
]
