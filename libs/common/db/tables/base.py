"""What all tables have alike."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import String
from sqlalchemy.dialects.postgresql import ARRAY, JSONB, TIMESTAMP
from sqlalchemy.orm import DeclarativeBase

Json = dict[str, Any]


class Base(DeclarativeBase):
    """Column types that all tables use alike."""

    type_annotation_map = {  # noqa: RUF012 (SQLAlchemy reads it from the class)
        datetime: TIMESTAMP(timezone=True),
        Json: JSONB,
        str: String,
        list[str]: ARRAY(String),
    }
