"""Extraction of one large table against the server's own client, and its peak memory."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import click

from support.mariadb import MariaDB

TABLE = "nova.instance_actions"
COLUMNS = "id, action, instance_uuid, start_time, finish_time"
PASSWORD = "reader"
MOST_MEMORY = 1.0
"""GiB that an extraction may take, whatever the size of a table."""
ROW = """
    '2020-01-01' + INTERVAL seq SECOND, '2020-01-01' + INTERVAL seq + 9 SECOND, NULL, seq,
    ELT(1 + seq % 6, 'create', 'delete', 'start', 'stop', 'reboot', 'rebuild'), UUID(),
    CONCAT('req-', UUID()), REPEAT('a', 32), REPEAT('b', 32),
    '2020-01-01' + INTERVAL seq SECOND, '2020-01-01' + INTERVAL seq + 9 SECOND, NULL, 0
"""


def fill(server: MariaDB, rows: int) -> None:
    """Make a table of Nova's, with the columns and keys that it has there."""
    server.sql(
        "CREATE DATABASE nova",
        f"CREATE TABLE {TABLE} (created_at datetime, updated_at datetime, deleted_at datetime, "
        "id int PRIMARY KEY, action varchar(255), instance_uuid varchar(36), "
        "request_id varchar(255), user_id varchar(255), project_id varchar(255), "
        "start_time datetime, finish_time datetime, message varchar(255), deleted int) "
        "CHARACTER SET utf8mb3",
        "CREATE TABLE nova.instances (uuid varchar(36) PRIMARY KEY, node int, project_id int, "
        "vm_state int, vcpus int, memory_mb int, root_gb int, created_at datetime, "
        "deleted_at datetime, launched_at datetime, terminated_at datetime)",
        f"INSERT INTO {TABLE} SELECT {ROW} FROM nova.seq_1_to_{rows}",
        f"CREATE USER reader@localhost IDENTIFIED BY '{PASSWORD}'",
        "GRANT SELECT ON nova.* TO reader@localhost",
        f"SELECT COUNT(*) FROM {TABLE}",  # both readers find it in the server's memory
    )


def timed(command: list[str], environment: dict[str, str]) -> tuple[float, float]:
    """Run a command; give its seconds and its peak memory in GiB."""
    start = time.perf_counter()
    process = subprocess.Popen(
        command, env=os.environ | environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
    )
    _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    said = process.stderr.read().decode() if process.stderr else ""
    if process.returncode:
        sys.exit(said)
    return time.perf_counter() - start, used.ru_maxrss / 2**20


@click.command()
@click.option("--rows", default=5_000_000, show_default=True)
@click.option("--times", default=3, show_default=True, help="Runs of each; the best counts.")
def main(rows: int, times: int) -> None:
    """Print rows per second of the client and of the extraction, their ratio, and peak memory."""
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        server = MariaDB(root, "--innodb-buffer-pool-size=2G")
        try:
            fill(server, rows)
            config = root / "sites.yaml"
            config.write_text("bench: {adapters: [nova_instances]}")
            client = [
                *("mariadb", "--no-defaults", "--protocol=tcp", "--host=127.0.0.1", "--quick"),
                *(f"--port={server.port}", "--user=reader", f"--password={PASSWORD}", "--batch"),
                *("--execute", f"SELECT {COLUMNS} FROM {TABLE}"),
            ]
            extract = [
                *("chameleon-usage", "extract", "--config", str(config), "--site", "bench"),
                *("--db-uri", "${BENCH_DB_URI}", "--data-dir", str(root / "out")),
            ]
            uri = {"BENCH_DB_URI": server.uri(password=PASSWORD)}
            best = [
                min(pair)
                for pair in zip(
                    *((timed(client, {}), timed(extract, uri)) for _ in range(times)), strict=True
                )
            ]
        finally:
            server.stop()
    for name, (seconds, memory) in zip(("mariadb client", "extract"), best, strict=True):
        click.echo(f"{name:15} {rows / seconds:12,.0f} rows/s {memory:6.2f} GiB at most")
    if best[1][1] >= MOST_MEMORY:
        sys.exit(f"Error: extract took {best[1][1]:.2f} GiB; at most {MOST_MEMORY} are allowed")
    click.echo(f"{'ratio':15} {best[0][0] / best[1][0]:12.2f}")


if __name__ == "__main__":
    main()
