"""The settings that the core reads, the record that carries them, and the table."""

import dataclasses
import re
from pathlib import Path

from pywsgiserve.config import SETTINGS
from pywsgiserve.server import NativeConfig

SOURCES = Path(__file__).parents[2] / "csrc" / "py"

# What is not a setting of that name: made of one, or of what the start has found.
MADE = {
    "access_log_fd": "accesslog",
    "access_log_memory": "accesslog",
    "after_request": "post_request",
    "before_request": "pre_request",
    "errors": "errorlog",
    "multiprocess": "workers",
    "scheme_fields": "secure_scheme_headers",
    "hosted": "worker_class",
    "script_name": "raw_env",
    "server_software": "server_header",
    "socket_gid": "group",
    "socket_uid": "user",
    "spool_dir": "tmp_upload_dir",
    "worker_slots": "workers",
}


def fields():
    return {field.name for field in dataclasses.fields(NativeConfig)}


def test_the_core_reads_every_field_and_no_other():
    text = "".join(path.read_text() for path in sorted(SOURCES.glob("*.c")))

    assert set(re.findall(r'\bconfig, "(\w+)"', text)) == fields()


def test_every_field_comes_from_a_row_of_the_table():
    assert {MADE.get(name, name) for name in fields()} <= SETTINGS.keys()
    assert MADE.keys() <= fields()
