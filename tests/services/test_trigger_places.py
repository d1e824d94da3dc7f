"""`sidlsg triggers check --places` on a real S3 server."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

TABLE = """
[[on]]
name = "copy"
event = "model_version_alias.created"
model = "m"
alias = "champion"

[on.copy]
to = "{to}"

[[watch]]
name = "prompts"
place = "{place}"

[watch.run]
pipeline = "curate"
"""


def test_a_bucket_that_is_missing_is_named_and_an_empty_prefix_is_not(
    sidlsg: Callable[..., tuple[int, str, str]], s3_place: str, tmp_path: Path
) -> None:
    table = tmp_path / "triggers.toml"
    table.write_text(TABLE.format(to=f"{s3_place}/served", place=f"{s3_place}/prompts"))
    code, _, errors = sidlsg("triggers", "check", "--file", str(table), "--places")
    assert (code, errors) == (0, "")
    table.write_text(TABLE.format(to="s3://no-such-bucket/served", place=f"{s3_place}/prompts"))
    assert sidlsg("triggers", "check", "--file", str(table))[0] == 0
    code, _, errors = sidlsg("triggers", "check", "--file", str(table), "--places")
    assert code == 2
    assert "no-such-bucket" in errors
