"""The tables of an output, made where they are missing."""

from __future__ import annotations

from deltalake import CommitProperties, DeltaTable
from deltalake.exceptions import DeltaError

from pipeline.errors import UsageError
from pipeline.ledger.patience import one_line
from pipeline.ledger.schema import SCHEMA_VERSION, TABLES, TableSpec
from pipeline.ledger.store import CHECKPOINT_INTERVAL, Store

_VERSION_KEY = "frameledger.schemaVersion"


def create_tables(store: Store) -> None:
    """Make the tables that are missing. Two processes may do so at once.

    Raises UsageError where the folder cannot be written or holds tables of another version;
    RunAborted where the disk is full.
    """
    store.prepare()
    for spec in TABLES.values():
        if not store.exists(spec.name):
            store.check_room(0)
            _create(store, spec)
    found = store.open("videos").metadata().configuration.get(_VERSION_KEY)
    if found != str(SCHEMA_VERSION):
        raise UsageError(
            f"output {store.root}: its tables have version {found}, this frameledger writes "
            f"version {SCHEMA_VERSION}; name another output"
        )


def _create(store: Store, spec: TableSpec) -> None:
    try:
        DeltaTable.create(
            store.uri(spec.name),
            schema=spec.schema,
            partition_by=list(spec.partition_by),
            mode="error",
            name=spec.name,
            description=spec.description,
            configuration={
                _VERSION_KEY: str(SCHEMA_VERSION),
                "delta.dataSkippingStatsColumns": ",".join(spec.skipping_columns),
                # Catching up reads entries of the log: only gc, which catches up before, may
                # expire them.
                "delta.enableExpiredLogCleanup": "false",
                **({"delta.checkpointInterval": CHECKPOINT_INTERVAL} if store.is_remote else {}),
            },
            storage_options=store.storage_options,
            # A retry would write the table's metadata a second time over what has been
            # recorded in it since; losing the race is what is wanted.
            commit_properties=CommitProperties(max_commit_retries=0),
            raise_if_key_not_exists=False,
        )
    except (DeltaError, OSError) as error:
        if not store.exists(spec.name):
            raise UsageError(
                f"output {store.root}: cannot make the table {spec.name}: {one_line(error)}"
            ) from None
